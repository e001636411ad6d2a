//! The TLS handshake of a client.

use std::time::Instant;

use crate::base::address::Peer;
use crate::base::time::after;
use crate::exchange::{Fed, Holds};

use super::linger::linger;
use super::misplaced;
use super::reader::{Filled, Reader};

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// HTTP may begin.
    Done,
    /// The connection is of no use.
    Failed,
    /// The client speaks plain HTTP. TLS has said nothing yet.
    PlainHttp,
}

/// Reads until the handshake is done. `began` is when the client came in.
pub(super) fn handshake(reader: &mut Reader<'_>, began: Instant) -> Handshake {
    let client = reader.client;
    let limit = reader.listener.timeout.handshake;
    let deadline = after(began, limit);
    let mut was_fed = false;
    client.note_read(began, limit, Holds::Nothing);
    while !client.is_greeted() {
        match reader.fill_cipher_until(deadline) {
            Filled::Nothing | Filled::Some => {}
            Filled::Broken | Filled::End | Filled::Full | Filled::Timeout => {
                return Handshake::Failed;
            }
        }
        if !was_fed && misplaced::is_http(reader.cipher.data()) {
            return Handshake::PlainHttp;
        }
        was_fed = true;
        match reader.feed_tls() {
            // The client may send its first request right behind its last handshake message.
            Ok(Fed::Plain(_) | Fed::More) => {}
            Ok(Fed::Ended) => return Handshake::Failed,
            Err(error) => {
                log::debug!(
                    "{}: {}: TLS handshake: {error}",
                    reader.listener.name,
                    Peer(client.peer()),
                );
                client.say_goodbye();
                linger(reader);
                return Handshake::Failed;
            }
        }
    }
    Handshake::Done
}
