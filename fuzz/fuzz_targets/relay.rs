#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| juggler::proto::check::relay(data));
