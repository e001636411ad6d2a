//! The end of a connection whose client may still be sending.

use std::time::{Duration, Instant};

use crate::exchange::Holds;

use super::reader::Reader;

/// Bytes that are read at most, if no body may be larger. Many clients write all of a body before
/// they read.
const BYTES: u64 = 64 << 20;

/// The longest pause between two of them.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// The longest time in all.
const TIME: Duration = Duration::from_secs(30);

/// Reads and throws away what the client still sends, within bounds, until the client ends its
/// sending side as well. Without this a reset could overtake the answer that ended the connection
/// (RFC 9112 §9.6).
pub(super) fn linger(reader: &mut Reader<'_>) {
    let until = Instant::now().checked_add(TIME);
    let mut bytes_left = BYTES.max(reader.listener.limit.body);
    let mut room = [0; 16 * 1024];
    reader.input.consume(usize::MAX);
    reader.input.shrink();
    while bytes_left > 0 {
        let now = Instant::now();
        let Some(time_left) = until.and_then(|until| until.checked_duration_since(now)) else {
            break;
        };
        reader.client.note_read(now, PAUSE, Holds::Nothing);
        match reader.discard(&mut room, time_left.min(PAUSE)) {
            Ok(0) | Err(_) => break,
            Ok(read) => bytes_left = bytes_left.saturating_sub(read as u64),
        }
    }
    reader.client.note_read_whole();
}
