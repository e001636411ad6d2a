//! The program: runs the command of the command line, or the balancer until it is stopped.

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        reason = "a test chooses its own moments"
    )
)]

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::start(cli::Cli::parse()) {
        cli::Task::Run(plan, source) => juggler::app::run(*plan, source),
        cli::Task::Done(status) => status,
    }
}
