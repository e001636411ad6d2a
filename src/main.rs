//! The program: what the command line asks for, then the balancer until it is stopped.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

use juggler::plan::Plan;

fn main() -> ExitCode {
    match cli::start(cli::Cli::parse()) {
        cli::Task::Run(plan) => run(*plan),
        cli::Task::Done(status) => status,
    }
}

/// Runs the balancer until it is told to stop.
fn run(plan: Plan) -> ExitCode {
    // ---- APP: `mod app;` above, and in place of the next two lines: `app::run(plan)` ----
    drop(plan);
    ExitCode::FAILURE
}
