//! What a client says in a tunnel, straight to the server. The other way is a carrier's.

use std::sync::Arc;
use std::time::Duration;

use crate::exchange::{Decision, FarEnd, Switched};

use super::linger::linger;
use super::reader::{Filled, Reader};

/// How often to look whether the tunnel is over while its client says nothing. The end of the
/// connection shows itself at once.
const LOOK: Duration = Duration::from_secs(10);

/// How the client's side of a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything is over.
    Over,
    /// The client's connection broke, or the server takes nothing more.
    Broken,
}

/// Sends what the client says to the far end until both are through.
pub(super) fn pump(reader: &mut Reader<'_>, far: &dyn FarEnd, switched: &Switched) -> Ended {
    loop {
        let said = reader.input.data();
        let length = said.len();
        if length > 0 {
            if far.send(said).is_err() {
                return Ended::Broken;
            }
            reader.input.consume(length);
        }
        if switched.wait_over(Duration::ZERO) {
            linger(reader);
            return Ended::Over;
        }
        match reader.fill_within(LOOK) {
            Filled::Some => {
                // More is there than the small buffer holds.
                if reader.input.space().is_empty() {
                    let hub = Arc::clone(reader.client.hub());
                    reader.input.grow(&hub.buffers);
                }
            }
            Filled::Nothing => {}
            Filled::Timeout => reader.shrink(),
            Filled::End => {
                far.end();
                while !switched.wait_over(LOOK) {}
                return Ended::Over;
            }
            Filled::Broken | Filled::Full => return Ended::Broken,
        }
    }
}

/// Waits for the server's decision. `look` is called now and then. `None` if there is no tunnel.
pub(super) fn wait(
    switched: &Switched,
    tick: Duration,
    mut look: impl FnMut(),
) -> Option<Arc<dyn FarEnd>> {
    loop {
        match switched.wait(tick) {
            Decision::None => look(),
            Decision::Tunnel(far) => return Some(far),
            Decision::Over => return None,
        }
    }
}
