//! Patience for room that all sessions share.

use std::time::{Duration, Instant};

use crate::exchange::{Hub, Short};

/// For this long a session tries again to get room, while others give way.
const PATIENCE: Duration = Duration::from_millis(50);

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// Tries for a moment to get the room that is lacking, while others give way. Returns whether
/// `attempt` succeeded.
pub(super) fn retry_for_room(hub: &Hub, short: Short, mut attempt: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if attempt() {
            return true;
        }
        let now = Instant::now();
        if now.saturating_duration_since(began) >= PATIENCE {
            return false;
        }
        hub.clients.give_way(short, hub.uptime_ms(now));
        std::thread::sleep(PAUSE);
    }
}
