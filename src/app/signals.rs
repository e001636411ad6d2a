//! Signals become commands.

use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::base::panic_points::Point;

use super::commands::{Command, Control, Effect};

/// Sends the command of each signal that comes, until the program stops. A signal that comes while
/// a command is carried out waits; the same signal again then counts once.
pub(super) fn serve(signals: &mut Signals, control: &impl Control) {
    for signal in signals.forever() {
        Point::Signal.pass();
        let outcome = control.send(match signal {
            SIGHUP => Command::Reload,
            SIGUSR1 => Command::Report,
            _ => Command::Stop,
        });
        if outcome == Ok(Effect::Stopping) {
            return;
        }
    }
}
