//! Where bytes for a client go: through TLS if there is any, then to the socket as far as it has room, then to the outbox.

use std::io::{self, IoSlice, Write};
use std::time::Instant;

use rustls::ServerConnection;

use crate::net::Stream;

use super::Hub;
use super::outbox::Outbox;

/// Whatever the reason, there is no room for what the client does not take.
fn no_room(error: &io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::StorageFull {
        log::error!("spool: {error}");
    }
    io::Error::from(io::ErrorKind::StorageFull)
}

/// Keeps what the socket has no room for.
pub(super) fn keep(hub: &Hub, outbox: &mut Outbox, rest: &[IoSlice<'_>], memory: usize) -> io::Result<()> {
    for piece in rest.iter().filter(|piece| !piece.is_empty()) {
        outbox
            .put(piece, memory, &hub.buffers, &hub.spool)
            .map_err(|error| no_room(&error))?;
        if outbox.is_spooled() && hub.spool.is_nearly_full() {
            hub.clients.cut_slowest(Instant::now(), hub);
        }
    }
    Ok(())
}

/// Sends what is in the outbox's memory as far as the socket has room. (What is in the file is a courier's.)
pub(super) fn flush(stream: &Stream, outbox: &mut Outbox) -> io::Result<()> {
    while let Some(front) = outbox.front() {
        match stream.write_now(front) {
            Ok(sent) => outbox.advance(sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives TLS plaintext and appends what it makes of it, and what it has to say besides, to `wire`. What is given together goes into one
/// record if it fits.
pub(super) fn encrypt(tls: &mut ServerConnection, mut plain: &mut [IoSlice<'_>], wire: &mut Vec<u8>) -> io::Result<()> {
    loop {
        // Leaves only what has bytes.
        IoSlice::advance_slices(&mut plain, 0);
        if !plain.is_empty() {
            // It takes no more than 64 KiB at once, until those have gone out.
            let taken = tls.writer().write_vectored(plain)?;
            IoSlice::advance_slices(&mut plain, taken);
        }
        while tls.wants_write() {
            tls.write_tls(wire)?;
        }
        if plain.is_empty() {
            return Ok(());
        }
    }
}
