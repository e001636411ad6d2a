//! Where bytes for a client go: TLS if there is any, then the socket as far as it has room, then the outbox.

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
    /// Gives TLS plaintext, and out what it makes of it.
    pub(super) fn encrypt(&mut self, tls: &mut ServerConnection, pieces: &[&[u8]]) -> io::Result<()> {
        for piece in pieces {
            let mut rest = *piece;
            loop {
                let taken = tls.writer().write(rest)?;
                rest = &rest[taken..];
                if rest.is_empty() {
                    break;
                }
                // It takes no more than 64 KiB at once, until those have gone out.
                self.drain(tls)?;
            }
        }
        self.drain(tls)
    }

    /// Gives TLS's ciphertext out.
    pub(super) fn drain(&mut self, tls: &mut ServerConnection) -> io::Result<()> {
        while tls.wants_write() {
            tls.write_tls(self)?;
        }
        if !self.courier { self.flush() } else { Ok(()) }
    }

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

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.emit(&mut [IoSlice::new(bytes)])?;
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut owned: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        self.emit(&mut owned)?;
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
