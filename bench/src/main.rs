//! A paired benchmark of juggler against its peers: `make bench`.
//!
//! Contenders run in turn, round after round, and what is compared are medians of the ratios of
//! each round, since machines drift. `run.rs` is the course of it, `cases.rs` what is measured,
//! `contenders.rs` who; `results.rs` is what is written, and `report.rs` makes tables and charts of
//! that.

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
