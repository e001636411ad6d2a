//! The main thread: starts the program, carries out one command after the other, and stops it.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use crate::plan::Plan;
use crate::threads::{self, Kind};

use super::commands::{Command, Control, Effect, Mailbox, Outcome};
use super::running::{Running, Source};
use super::start::start;
use super::{logging, summary, systemd};

/// Runs the balancer until a command ends it. Each reload takes a new plan from `source`.
pub fn run(plan: Plan, source: Source) -> ExitCode {
    threads::adopt(Kind::Main);
    let _last_messages = logging::start(&plan.process.log);
    match start(plan, source) {
        Ok((running, mailbox)) => until_stopped(running, mailbox),
        Err(problem) => {
            log::error!("{problem}");
            if !log::log_enabled!(log::Level::Error) {
                // The messages are switched off, but why there is no balancer has to be told.
                eprintln!("juggler: {problem}");
            }
            ExitCode::FAILURE
        }
    }
}

fn until_stopped(mut running: Running, mailbox: Mailbox) -> ExitCode {
    mailbox.serve(|command| carry_out(&mut running, command));
    systemd::notify("STOPPING=1");
    running.announce();
    running.drain();
    ExitCode::SUCCESS
}

fn carry_out(running: &mut Running, command: Command) -> Outcome {
    match command {
        Command::Reload => {
            systemd::notify("RELOADING=1");
            let outcome = running.reload();
            systemd::notify("READY=1");
            outcome
        }
        Command::Report => {
            summary::write_report(&running.desk.view());
            Ok(Effect::Reported)
        }
        Command::Release {
            cluster,
            server,
            by,
        } => running.release(&cluster, &server, &by),
        Command::Stop => {
            running.stopping.store(true, Ordering::SeqCst);
            Ok(Effect::Stopping)
        }
    }
}
