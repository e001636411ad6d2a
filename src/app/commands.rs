//! What the running program can be asked to do: one mailbox, from which the main thread takes one
//! command after the other. Signals put commands into it, and so can whatever else has a [`Desk`].

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Instant;

use crate::exchange::Hub;
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
        /// The one who has decided so, for the log.
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

/// Why a command was not carried out. Nothing is different then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection(String);

/// What becomes of a command.
pub type Outcome = Result<Effect, Vec<Objection>>;

impl From<String> for Objection {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The door to everything that runs: to look, and to change.
pub trait Control: Send + Sync {
    /// How everything is now.
    fn view(&self) -> View;

    /// Has a command carried out after those that came before, and waits for that.
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
    clusters: Arc<Clusters>,
    letters: Sender<Letter>,
}

impl Desk {
    /// A desk, and the mailbox that its commands come to.
    pub(super) fn new(hub: &Arc<Hub>, clusters: &Arc<Clusters>) -> (Self, Mailbox) {
        let (letters, mailbox) = mpsc::channel();
        let desk = Self {
            hub: Arc::clone(hub),
            clusters: Arc::clone(clusters),
            letters,
        };
        (desk, Mailbox(mailbox))
    }
}

impl Control for Desk {
    fn view(&self) -> View {
        View::take(&self.hub, &self.clusters, Instant::now())
    }

    fn send(&self, command: Command) -> Outcome {
        send(&self.letters, command)
    }
}

fn send(letters: &Sender<Letter>, command: Command) -> Outcome {
    let (outcome, answer) = mpsc::sync_channel(1);
    let sent = letters.send(Letter { command, outcome });
    let answer = sent.ok().and_then(|()| answer.recv().ok());
    answer.unwrap_or_else(|| Err(vec!["the balancer stops".to_owned().into()]))
}

impl Mailbox {
    /// Carries out commands, one after the other, until one of them is [`Command::Stop`]. Commands
    /// that come later are refused.
    pub(super) fn serve(self, mut carry_out: impl FnMut(Command) -> Outcome) {
        while let Ok(Letter { command, outcome }) = self.0.recv() {
            let is_last = command == Command::Stop;
            let _ = outcome.send(carry_out(command)); // A sender may have given up.
            if is_last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};
    use std::thread;

    use super::*;

    #[test]
    fn commands_are_carried_out_one_after_the_other_and_answered() {
        let (letters, receiver) = mpsc::channel();
        let (done, together) = (Mutex::new(Vec::new()), Barrier::new(3));
        thread::scope(|scope| {
            for command in [Command::Reload, Command::Report] {
                let (letters, together) = (letters.clone(), &together);
                scope.spawn(move || {
                    together.wait();
                    let outcome = send(&letters, command.clone());
                    match command {
                        Command::Reload => assert_eq!(outcome, Err(vec!["no".to_owned().into()])),
                        _ => assert_eq!(outcome, Ok(Effect::Reported)),
                    }
                });
            }
            scope.spawn(|| {
                together.wait();
                while done.lock().unwrap().len() < 2 {
                    thread::yield_now();
                }
                assert_eq!(send(&letters, Command::Stop), Ok(Effect::Stopping));
                // Nothing is taken after this.
                assert!(send(&letters, Command::Reload).is_err());
            });
            Mailbox(receiver).serve(|command| {
                done.lock().unwrap().push(command.clone());
                match command {
                    Command::Reload => Err(vec!["no".to_owned().into()]),
                    Command::Report => Ok(Effect::Reported),
                    Command::Release { .. } => Ok(Effect::Released),
                    Command::Stop => Ok(Effect::Stopping),
                }
            });
        });
        let done = done.into_inner().unwrap();
        assert_eq!(done.len(), 3);
        assert_eq!(done[2], Command::Stop);
    }
}
