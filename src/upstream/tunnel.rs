//! A tunnel: what server and client say to each other goes on as it is, once the server has
//! switched protocols. The session sends what the client says, and a carrier what the server says.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::exchange::{Exchange, FarEnd, Sent};
use crate::fault::Fault;
use crate::net::stream::is_timeout;

use super::connection::Connection;
use super::lane::InLane;
use super::link::Link;

/// The server's end of a tunnel, as the client's session sees it.
#[derive(Debug)]
pub(super) struct Far {
    link: Link,
    patience: Duration,
    /// When the client said something.
    heard_at: Mutex<Instant>,
}

impl Far {
    /// That over this link. A server that takes nothing for `patience` takes nothing more.
    pub(super) fn new(link: &Link, patience: Duration) -> Self {
        Self {
            link: link.clone(),
            patience,
            heard_at: Mutex::new(Instant::now()),
        }
    }
}

impl FarEnd for Far {
    fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        *self.heard_at.lock() = now;
        let mut moved_at = now;
        while !bytes.is_empty() {
            match self.link.write_now(&[IoSlice::new(bytes)]) {
                Ok(sent) => {
                    bytes = bytes.get(sent..).unwrap_or_default();
                    if !bytes.is_empty() {
                        moved_at = Instant::now();
                    }
                }
                Err(error) if is_timeout(&error) => {
                    let left = self.patience.saturating_sub(moved_at.elapsed());
                    if left.is_zero() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    self.link.wait_for_room(left)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn end(&self) {
        self.link.end();
    }
}

/// Gives what the server says to the client until one of them ends.
pub(super) fn carry(
    mut exchange: Exchange,
    mut connection: Connection,
    place: &InLane,
    far: &Far,
    patience: Duration,
) {
    let mut unsent = false;
    let fault = loop {
        let said = connection.data();
        let length = said.len();
        if length > 0 {
            match exchange.say_as_it_is(said) {
                Sent::All => unsent = false,
                Sent::Pending(_) => unsent = true,
                Sent::Gone(fault) => {
                    connection.link().break_off();
                    return exchange.call_off(fault);
                }
            }
            connection.consume(length);
        }
        if unsent {
            exchange.hand_over();
        }
        match connection.fill(patience) {
            Ok(0) => break place.fault(),
            Ok(_) => {}
            // The client may have said something meanwhile.
            Err(Fault::ReadTimeout) if far.heard_at.lock().elapsed() < patience => {}
            Err(fault) => break Some(place.fault().unwrap_or(fault)),
        }
    };
    match fault {
        // The client may go on saying something to the server for a moment.
        None => exchange.end_as_it_is(),
        Some(fault) => {
            connection.link().break_off();
            exchange.fault = Some(exchange.gone().unwrap_or(fault));
            exchange.cut();
        }
    }
}
