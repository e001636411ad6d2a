#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| juggler::route::check::path(data));
