//! What the running program can be asked to do: one mailbox, from which the main thread takes one
//! command after the other. Signals put commands into it, and so can everything else that has a
//! [`Desk`].

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Instant;

use crate::base::panic_points::Point;
use crate::exchange::Hub;
use crate::session::Front;
use crate::upstream::Clusters;

use super::view::View;

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Reads the configuration anew and puts it into effect, whole or not at all.
    Reload,
    /// Writes to the log how everything is.
    Report,
    /// Uses a server again that is kept out of use (`sticky_offline`).
    Release {
        /// The cluster's name.
        cluster: String,
        /// The server's name in it.
        server: String,
        /// The name of the one who has decided so, for the log.
        by: String,
    },
    /// Ends the program: what is in progress is finished first. No command is taken after this.
    Stop,
}

/// What a command has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The new configuration is in effect.
    Reloaded,
    /// The log tells how everything is.
    Reported,
    /// The server is in use again, as far as its health allows.
    Released,
    /// The program is about to end.
    Stopping,
}

/// A reason why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

/// What becomes of a command. A command to which there are objections has changed nothing. All of
/// them are told.
pub type Outcome = Result<Effect, Vec<Reason>>;

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The door to everything that runs: to look, and to change.
pub trait Control: Send + Sync {
    /// Returns how everything is now.
    fn view(&self) -> View;

    /// Has a command carried out after those that came before, and waits for that. The thread that
    /// carries out commands must not call this: it would wait for itself.
    fn send(&self, command: Command) -> Outcome;
}

/// A command on its way, and where its outcome is waited for.
struct Letter {
    command: Command,
    outcome: SyncSender<Outcome>,
}

/// Commands that have come and are not carried out yet.
pub(super) struct Mailbox(Receiver<Letter>);

/// The one [`Control`] that there is.
#[derive(Clone)]
pub(super) struct Desk {
    hub: Arc<Hub>,
    front: Arc<Front>,
    clusters: Arc<Clusters>,
    letters: Sender<Letter>,
}

impl Desk {
    /// Returns a desk and the mailbox that its commands come to.
    pub(super) fn new(
        hub: &Arc<Hub>,
        front: &Arc<Front>,
        clusters: &Arc<Clusters>,
    ) -> (Self, Mailbox) {
        let (letters, mailbox) = mpsc::channel();
        let desk = Self {
            hub: Arc::clone(hub),
            front: Arc::clone(front),
            clusters: Arc::clone(clusters),
            letters,
        };
        (desk, Mailbox(mailbox))
    }
}

impl Control for Desk {
    fn view(&self) -> View {
        View::take(&self.hub, &self.front, &self.clusters, Instant::now())
    }

    fn send(&self, command: Command) -> Outcome {
        send(&self.letters, command)
    }
}

fn send(letters: &Sender<Letter>, command: Command) -> Outcome {
    let (outcome, answer) = mpsc::sync_channel(1);
    let sent = letters.send(Letter { command, outcome });
    let answer = sent.ok().and_then(|()| answer.recv().ok());
    answer.unwrap_or_else(|| refused("the balancer stops"))
}

fn refused(why: &str) -> Outcome {
    Err(vec![Reason(why.to_owned())])
}

impl Mailbox {
    /// Carries out commands, one after the other, until one of them is [`Command::Stop`]. Commands
    /// that come later are refused, and so are those that lie behind it. A panic costs the command
    /// in hand.
    pub(super) fn serve(self, mut carry_out: impl FnMut(Command) -> Outcome) {
        while let Ok(Letter { command, outcome }) = self.0.recv() {
            let is_stop = command == Command::Stop;
            let fenced = catch_unwind(AssertUnwindSafe(|| {
                Point::Command.pass();
                carry_out(command)
            }));
            let told = fenced.unwrap_or_else(|_| refused("an internal error; the log has it"));
            let is_last = is_stop && told.is_ok();
            let _ = outcome.send(told); // A sender may have given up.
            if is_last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, mpsc};
    use std::thread;

    use super::*;

    /// What each command leads to here.
    fn outcome(command: &Command) -> Outcome {
        match command {
            Command::Reload => Err(["first", "second", "third"]
                .map(|text| Reason::from(text.to_owned()))
                .to_vec()),
            Command::Report => Ok(Effect::Reported),
            Command::Release { .. } => Ok(Effect::Released),
            Command::Stop => Ok(Effect::Stopping),
        }
    }

    fn release() -> Command {
        Command::Release {
            cluster: "app".to_owned(),
            server: "app-1".to_owned(),
            by: "a test".to_owned(),
        }
    }

    #[test]
    fn commands_of_several_threads_are_carried_out_one_after_the_other() {
        const SENDERS: usize = 4;
        const COMMANDS: usize = 50;
        let (letters, receiver) = mpsc::channel();
        let (together, at_once, done) = (Barrier::new(SENDERS), AtomicUsize::new(0), &mut 0);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (letters, together) = (letters.clone(), &together);
                scope.spawn(move || {
                    together.wait();
                    for turn in 0..COMMANDS {
                        let command = match (sender + turn) % 3 {
                            0 => Command::Reload,
                            1 => Command::Report,
                            _ => release(),
                        };
                        // Each sender gets what its own command has led to.
                        assert_eq!(send(&letters, command.clone()), outcome(&command));
                    }
                });
            }
            // The mailbox ends when no sender is left.
            drop(letters);
            Mailbox(receiver).serve(|command| {
                assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0);
                thread::yield_now();
                assert_eq!(at_once.fetch_sub(1, Ordering::SeqCst), 1);
                *done += 1;
                outcome(&command)
            });
        });
        assert_eq!(*done, SENDERS * COMMANDS);
    }

    /// What the commands of a single sender lead to, one after the other.
    fn serve(commands: &[Command], carry_out: impl FnMut(Command) -> Outcome) -> Vec<Outcome> {
        let (letters, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let sent = commands.iter().cloned();
                sent.map(|command| send(&letters, command)).collect()
            });
            Mailbox(receiver).serve(carry_out);
            sender.join().unwrap()
        })
    }

    #[test]
    fn all_objections_are_told_in_their_order() {
        let outcomes = serve(&[Command::Reload], |command| outcome(&command));
        let told = outcomes[0].as_ref().unwrap_err();
        let told = told.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told, ["first", "second", "third"]);
    }

    #[test]
    fn what_comes_after_a_stop_is_refused_and_a_second_stop_too() {
        let mut done = Vec::new();
        let commands = [
            Command::Report,
            Command::Stop,
            Command::Stop,
            Command::Reload,
        ];
        let outcomes = serve(&commands, |command| {
            done.push(command.clone());
            outcome(&command)
        });
        let stops = refused("the balancer stops");
        assert_eq!(
            outcomes,
            [
                Ok(Effect::Reported),
                Ok(Effect::Stopping),
                stops.clone(),
                stops
            ]
        );
        assert_eq!(done, [Command::Report, Command::Stop]);
    }

    #[test]
    fn what_lies_behind_a_stop_is_refused() {
        let (letters, receiver) = mpsc::channel();
        let outcomes = [Command::Stop, Command::Reload].map(|command| {
            let (outcome, answer) = mpsc::sync_channel(1);
            letters.send(Letter { command, outcome }).unwrap();
            answer
        });
        Mailbox(receiver).serve(|command| outcome(&command));
        assert_eq!(outcomes[0].recv(), Ok(Ok(Effect::Stopping)));
        assert!(
            outcomes[1].recv().is_err(),
            "the sender is told that the balancer stops"
        );
    }

    #[test]
    fn a_panic_costs_the_command_in_hand() {
        let mut stops = 0;
        let commands = [
            Command::Reload,
            Command::Report,
            Command::Stop,
            Command::Stop,
        ];
        let outcomes = serve(&commands, |command| {
            stops += usize::from(command == Command::Stop);
            assert!(command != Command::Reload && stops != 1, "a test");
            outcome(&command)
        });
        let failed = refused("an internal error; the log has it");
        assert_eq!(
            outcomes,
            [
                failed.clone(),
                Ok(Effect::Reported),
                // A stop that has panicked has not begun.
                failed,
                Ok(Effect::Stopping)
            ]
        );
    }
}
