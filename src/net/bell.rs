//! Wakes one thread that waits for a connection or for a ring, whichever comes first.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Stream;

/// A bell that one thread listens to.
#[derive(Debug)]
pub struct Bell(EventFd);

impl Bell {
    /// Makes a bell that has not been rung. The bell takes a descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self(EventFd::from_flags(
            EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
        )?))
    }

    /// Ends the current wait, or else the next one.
    pub fn ring(&self) {
        let _ = self.0.write(1); // fails only when the counter is full, and then the bell is rung
    }

    /// Waits for a ring, for bytes or the end of the stream (if there is one), or until `patience`
    /// is used up.
    pub fn wait(&self, stream: Option<&Stream>, patience: Duration) {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let bell = PollFd::new(self.0.as_fd(), PollFlags::POLLIN);
        let other = stream.map_or_else(|| self.0.as_fd(), AsFd::as_fd);
        let mut entries = [bell, PollFd::new(other, PollFlags::POLLIN)];
        // The caller checks what has happened, also after an interruption.
        let _ = poll(&mut entries, timeout);
        if entries[0].any() != Some(false) {
            let _ = self.0.read(); // fails if the bell was not rung, which is no error here
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_wait_ends_by_the_bell_or_by_the_stream() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (ours, theirs) = (Stream::Unix(ours), Stream::Unix(theirs));
        let bell = Bell::new().unwrap();
        // Several rings before the wait count as one.
        bell.ring();
        bell.ring();
        bell.wait(Some(&ours), LONG);
        bell.wait(Some(&ours), Duration::ZERO);
        bell.wait(None, Duration::from_millis(1));
        theirs.write_now(b"x").unwrap();
        bell.wait(Some(&ours), LONG);
        std::thread::scope(|scope| {
            scope.spawn(|| bell.wait(None, LONG));
            bell.ring();
        });
        drop(theirs);
        bell.wait(Some(&ours), LONG);
    }
}
