//! A paired benchmark of juggler against its peers: `make bench`.
//!
//! Contenders run in turn, round after round. Since machines drift, the report compares medians of
//! the ratios of each round. `run.rs` has the course of a benchmark, `cases.rs` the cases and
//! `contenders.rs` the contenders. `results.rs` is the JSON, and `report.rs` makes tables and
//! charts of it.

mod aims;
mod cases;
mod charts;
mod child;
mod cli;
mod contenders;
mod load;
mod machine;
mod problem;
mod process;
mod progress;
mod report;
mod results;
mod run;
mod stats;
mod strace;
mod table;
mod view;
mod wrk;

use std::process::ExitCode;

use crate::problem::Problem;

fn main() -> ExitCode {
    match cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem::Interrupted) => ExitCode::from(130),
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}
