//! The reading side of a client's connection: socket, TLS, input and deadlines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::address::Peer;
use crate::exchange::{Client, Fed};
use crate::fault::Fault;
use crate::net::stream::is_timeout;
use crate::plan::Listener;
use crate::proto::h1::Malformed;

use super::cipher::Cipher;
use super::input::Input;

/// What is read of a client.
pub(super) struct Reader<'a> {
    pub(super) client: &'a Arc<Client>,
    pub(super) listener: &'a Listener,
    /// Plain text that is read and not used.
    pub(super) input: Input,
    /// Over TLS, ciphertext that is read and not fed.
    pub(super) cipher: Cipher,
    /// The client has ended its sending side. What it sent before is still served.
    pub(super) has_ended: bool,
    /// What is wrong with what came.
    pub(super) malformed: Option<Malformed>,
    /// The timeout that the socket is set to.
    timeout: Duration,
}

/// What reading brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// The connection broke.
    Broken,
    /// The client sends no more.
    End,
    /// The input has no room, and none can be had.
    Full,
    /// A part of a TLS record, which says nothing yet.
    Nothing,
    /// Something to use.
    Some,
    /// Nothing came in time.
    Timeout,
}

/// Why no request came together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The connection broke.
    Broken,
    /// The client sends no more.
    Ended,
    /// The request is refused.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl<'a> Reader<'a> {
    /// A reader that goes on behind `first`, the bytes that were read while the client was greeted.
    pub(super) fn new(client: &'a Arc<Client>, listener: &'a Listener, first: &[u8]) -> Self {
        let mut cipher = Cipher::default();
        let input = if client.is_tls() {
            cipher.start_with(first);
            Input::new(&[])
        } else {
            Input::new(first)
        };
        Self {
            client,
            listener,
            input,
            cipher,
            has_ended: false,
            malformed: None,
            timeout: Duration::ZERO,
        }
    }

    /// Reads something before `deadline`. `late` is what it means if nothing comes.
    pub(super) fn fill_until(&mut self, deadline: Instant, late: Fault) -> Result<(), Stop> {
        loop {
            let Some(left) = left_until(deadline) else {
                return Err(Stop::Fault(late));
            };
            self.set_timeout(left, Precision::Near);
            match self.fill() {
                // The socket's timeout may be a little shorter than what was left. And a record
                // that comes byte by byte moves no deadline.
                Filled::Nothing | Filled::Timeout => {}
                Filled::Some => return Ok(()),
                Filled::Full => return Err(Stop::Fault(Fault::NoBuffer)),
                // The balancer has ended the connection, to make room.
                Filled::Broken | Filled::End if self.client.is_condemned() => {
                    return Err(Stop::Fault(Fault::GaveWayRequest));
                }
                Filled::Broken => return Err(Stop::Broken),
                Filled::End => return Err(Stop::Ended),
            }
        }
    }

    /// Reads ciphertext before `deadline`, unless some is there already.
    pub(super) fn fill_cipher_until(&mut self, deadline: Instant) -> Filled {
        let Some(left) = left_until(deadline) else {
            return Filled::Timeout;
        };
        if !self.cipher.data().is_empty() {
            return Filled::Some;
        }
        self.set_timeout(left, Precision::Exact);
        self.read_cipher()
    }

    /// Waits at most `patience` for something to read, and reads once.
    pub(super) fn fill_within(&mut self, patience: Duration) -> Filled {
        self.set_timeout(patience, Precision::Exact);
        self.fill()
    }

    /// Reads into `room` what is not used any more, and waits at most `patience` for it.
    pub(super) fn discard(
        &mut self,
        room: &mut [u8],
        patience: Duration,
    ) -> std::io::Result<usize> {
        self.set_timeout(patience, Precision::Exact);
        self.client.stream().read(room)
    }

    /// Gives back what an idle client needs no room for.
    pub(super) fn shrink(&mut self) {
        self.input.shrink();
        self.cipher.shrink();
    }

    /// Reads once, as long as the socket's timeout allows.
    fn fill(&mut self) -> Filled {
        if self.input.space().is_empty() {
            return Filled::Full;
        }
        if !self.client.is_tls() {
            let read = self.client.stream().read(self.input.space());
            return self.filled(read, |reader, read| reader.input.filled(read));
        }
        if let Some(filled) = self.feed() {
            return filled;
        }
        match self.read_cipher() {
            Filled::Some => self.feed().unwrap_or(Filled::Nothing),
            // An end without close_notify means that what was being said is not whole.
            other => other,
        }
    }

    fn read_cipher(&mut self) -> Filled {
        let read = self.client.stream().read(self.cipher.space());
        self.filled(read, |reader, read| reader.cipher.filled(read))
    }

    fn filled(
        &mut self,
        read: std::io::Result<usize>,
        note: impl FnOnce(&mut Self, usize),
    ) -> Filled {
        match read {
            Ok(0) => Filled::End,
            Ok(read) => {
                note(self, read);
                Filled::Some
            }
            Err(error) if is_timeout(&error) => Filled::Timeout,
            Err(_) => Filled::Broken,
        }
    }

    /// Gives TLS what has been read. `None` if it needs more to make something of it.
    fn feed(&mut self) -> Option<Filled> {
        match self.feed_tls() {
            Ok(Fed::Plain(_)) => Some(Filled::Some),
            Ok(Fed::Ended) => Some(Filled::End),
            Ok(Fed::More) => None,
            Err(error) => {
                log::debug!(
                    "{}: {}: TLS: {error}",
                    self.listener.name,
                    Peer(self.client.peer()),
                );
                Some(Filled::Broken)
            }
        }
    }

    /// Gives TLS what has been read, and the input the plaintext in it.
    pub(super) fn feed_tls(&mut self) -> Result<Fed, rustls::Error> {
        let mut cipher = self.cipher.data();
        let fed = self.client.feed(&mut cipher, self.input.space());
        let left = cipher.len();
        self.cipher.keep_last(left);
        if let Ok(Fed::Plain(read)) = &fed {
            self.input.filled(*read);
        }
        fed.map_err(|error| error.0)
    }

    /// Sets the socket's timeout, if the change is worth a system call.
    fn set_timeout(&mut self, wanted: Duration, precision: Precision) {
        if let Some(timeout) = new_timeout(self.timeout, wanted, precision)
            && self.client.stream().set_read_timeout(timeout).is_ok()
        {
            self.timeout = timeout;
        }
    }
}

/// How near a socket's timeout has to be to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precision {
    /// The same.
    Exact,
    /// Between half of it and all of it. The caller has a deadline, and looks at the clock after
    /// each wait.
    Near,
}

/// What to set a socket's timeout to that is `now`, if it has to be set.
fn new_timeout(now: Duration, wanted: Duration, precision: Precision) -> Option<Duration> {
    match precision {
        _ if now == wanted => None,
        Precision::Exact => Some(wanted),
        Precision::Near if now <= wanted && now >= wanted / 2 => None,
        // A timeout below what is wanted stays near for a while, though ever less is left.
        Precision::Near => Some(wanted.saturating_sub(wanted / 4)),
    }
}

/// The time until `deadline`, if there is any.
fn left_until(deadline: Instant) -> Option<Duration> {
    let left = deadline.checked_duration_since(Instant::now())?;
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_set_anew_only_where_it_is_worth_a_system_call() {
        let seconds = Duration::from_secs;
        let new = |now, wanted, precision| new_timeout(seconds(now), seconds(wanted), precision);
        assert_eq!(new(0, 8, Precision::Exact), Some(seconds(8)));
        assert_eq!(new(7, 8, Precision::Exact), Some(seconds(8)));
        assert_eq!(new(8, 8, Precision::Exact), None);
        // A first wait is a quarter shorter, so that the next ones change nothing.
        assert_eq!(new(0, 8, Precision::Near), Some(seconds(6)));
        for left in 6..=12 {
            assert_eq!(new(6, left, Precision::Near), None, "{left}");
        }
        assert_eq!(
            new(6, 5, Precision::Near),
            Some(Duration::from_millis(3750))
        );
        assert_eq!(
            new(6, 13, Precision::Near),
            Some(Duration::from_millis(9750))
        );
    }
}
