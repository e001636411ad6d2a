//! Which server gets the next job. A scheduler chooses among those that it is shown, and never queues.

use super::ServerId;
use super::bits::Bits;

/// Each server in its turn, in the order of the list; who cannot be chosen is passed over.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    /// Where the round goes on.
    cursor: u32,
}

impl RoundRobin {
    /// The next of these servers, other than `except`. The round goes on behind it.
    pub(super) fn choose(&mut self, among: &Bits, except: Option<ServerId>) -> Option<ServerId> {
        let mut server = among.next_from(self.cursor)?;
        if except == Some(ServerId(server)) {
            server = among.next_from(server + 1)?;
            if except == Some(ServerId(server)) {
                return None;
            }
        }
        self.cursor = server + 1;
        Some(ServerId(server))
    }
}
