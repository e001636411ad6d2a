//! What commands print.

use std::io::Write as _;

use juggler::config::Problem;

/// Prints problems on standard error.
pub(super) fn report(problems: &[Problem]) {
    for problem in problems {
        complain(&problem.to_string());
    }
}

/// Prints a line on standard error. There is no place to report a failure of that.
pub(super) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints on standard output. A reader that stops early (`| head`) is not an error.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
