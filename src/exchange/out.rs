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

/// Where bytes go: the socket as far as it has room, then the outbox.
pub(super) struct Out<'a> {
    pub(super) stream: &'a Stream,
    pub(super) hub: &'a Hub,
    /// Most bytes to keep in memory.
    pub(super) memory: usize,
    pub(super) outbox: &'a mut Outbox,
    /// A courier has the socket.
    pub(super) courier: bool,
}

impl Out<'_> {
    /// Sends or keeps all of these.
    pub(super) fn emit(&mut self, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        if !self.courier {
            self.flush()?;
            if self.outbox.unsent() == 0 && pieces.iter().any(|piece| !piece.is_empty()) {
                match self.stream.write_pieces_now(pieces) {
                    Ok(sent) => IoSlice::advance_slices(&mut pieces, sent),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            self.outbox
                .put(piece, self.memory, &self.hub.buffers, &self.hub.spool)
                .map_err(|error| no_room(&error))?;
            if self.outbox.is_spooled() && self.hub.spool.is_nearly_full() {
                self.hub.clients.cut_slowest(Instant::now(), self.hub);
            }
        }
        Ok(())
    }

    /// Sends what is in the outbox's memory as far as the socket has room. (What is in the file is a courier's.)
    fn flush(&mut self) -> io::Result<()> {
        while let Some(front) = self.outbox.front() {
            match self.stream.write_now(front) {
                Ok(sent) => self.outbox.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
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
