//! The program: what the command line asks for, then the balancer until it is stopped.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::start(cli::Cli::parse()) {
        cli::Task::Run(plan, source) => juggler::app::run(*plan, source),
        cli::Task::Done(status) => status,
    }
}
