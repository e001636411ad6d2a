//! Wakes one thread that waits for a connection or for somebody to ring, whichever comes first.

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
    /// A bell that nobody has rung. It takes a descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self(EventFd::from_flags(
            EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
        )?))
    }

    /// Ends the wait that goes on, or else the next one.
    pub fn ring(&self) {
        let _rung_often_enough_already = self.0.write(1);
    }

    /// Waits until it is rung or, if there is a stream, until that has something to read, or has
    /// ended; or until the time is up.
    pub fn wait(&self, stream: Option<&Stream>, patience: Duration) {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let bell = PollFd::new(self.0.as_fd(), PollFlags::POLLIN);
        let other = stream.map_or_else(|| self.0.as_fd(), AsFd::as_fd);
        let mut entries = [bell, PollFd::new(other, PollFlags::POLLIN)];
        // Whoever waits looks for itself what has happened, also after an interruption.
        let _whatever_it_was = poll(&mut entries, timeout);
        if entries[0].any() != Some(false) {
            let _not_rung_after_all = self.0.read();
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
        // Rung before the wait, often: it counts once.
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
