//! A worker connects to its server.

use std::io;
use std::time::{Duration, Instant};

use crate::base::descriptors;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::Exchange;
use crate::net::Stream;
use crate::net::connect::connect;
use crate::plan::ServerAddress;
use crate::upstream::cluster::answer_by;
use crate::upstream::connection::Connection;

use super::state::Worker;

/// Returns whether the balancer itself lacks something, which says nothing of a server.
pub(in crate::upstream) fn is_our_own(error: &io::Error) -> bool {
    const LACKS: [i32; 5] = [
        libc::EMFILE,
        libc::ENFILE,
        libc::EADDRNOTAVAIL,
        libc::ENOBUFS,
        libc::ENOMEM,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| LACKS.contains(&code))
}

/// No address could be reached.
#[derive(Debug)]
struct Unreached {
    /// What the last attempt met.
    last: io::Error,
    /// The time for one of them was too short, or for looking them up.
    has_timed_out: bool,
}

/// Connects to the first of these addresses that can be reached, until then in all.
fn first_of<S>(
    addresses: Vec<ServerAddress>,
    until: Instant,
    mut connect: impl FnMut(&ServerAddress, Duration) -> io::Result<S>,
) -> Result<(S, ServerAddress), Unreached> {
    let left = || until.saturating_duration_since(Instant::now());
    let mut untried = addresses.len() as u32;
    let mut unreached = Unreached {
        last: io::Error::new(
            io::ErrorKind::NotFound,
            "its name does not lead to an address",
        ),
        has_timed_out: addresses.is_empty() && left().is_zero(),
    };
    for address in addresses {
        // Each that is still to be tried has its part of the time that is left.
        let patience = left() / untried.max(1);
        untried -= 1;
        let connected = if patience.is_zero() {
            Err(io::Error::from(io::ErrorKind::TimedOut))
        } else {
            connect(&address, patience)
        };
        match connected {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => {
                unreached.has_timed_out |= error.kind() == io::ErrorKind::TimedOut;
                unreached.last = error;
            }
        }
    }
    Err(unreached)
}

impl Worker {
    /// Connects, to the first address that can be reached, within `timeout.connect` in all. A job
    /// that waits for that is told how long it took, and limits it to its own time.
    /// [`io::ErrorKind::Interrupted`] if that is up, which says nothing of the server.
    pub(super) fn connect(&self, waiting: Option<&mut Exchange>) -> io::Result<Connection> {
        Point::WorkerConnect.pass();
        let began = Instant::now();
        let regular = after(began, self.timeout.connect);
        let until = match waiting.as_ref().and_then(|exchange| answer_by(exchange)) {
            Some(answer_by) => answer_by.min(regular),
            None => regular,
        };
        let connected = self.connect_until(until, regular);
        if let Some(exchange) = waiting {
            let connect = exchange.times.connect.get_or_insert_default();
            *connect = connect.saturating_add(began.elapsed());
        }
        match connected {
            Ok((stream, address)) => {
                Connection::new(stream.into(), address, &self.timeout, self.limits)
            }
            Err(error) => Err(error),
        }
    }

    fn connect_until(
        &self,
        until: Instant,
        regular: Instant,
    ) -> io::Result<(Stream, ServerAddress)> {
        let addresses = self
            .server
            .addresses(until.saturating_duration_since(Instant::now()));
        let connected = first_of(addresses, until, |address, patience| {
            descriptors::SERVERS.open(|| connect(address, patience))
        });
        match connected {
            Ok((stream, address)) => {
                self.server.prefer(&address);
                Ok((stream, address))
            }
            // With the regular time that address might have been reached, whatever became of the
            // others.
            Err(failed) if failed.has_timed_out && until < regular => {
                Err(io::Error::from(io::ErrorKind::Interrupted))
            }
            Err(failed) => Err(failed.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Vec<ServerAddress> {
        let port = |port: u16| ServerAddress::Tcp(([127, 0, 0, 1], port).into());
        vec![port(1), port(2)]
    }

    fn failing(kinds: [io::ErrorKind; 2]) -> (io::ErrorKind, bool) {
        let mut kinds = kinds.into_iter();
        let until = after(Instant::now(), Duration::from_secs(60));
        let failed = first_of(addresses(), until, |_, _| {
            Err::<(), _>(kinds.next().unwrap().into())
        })
        .unwrap_err();
        (failed.last.kind(), failed.has_timed_out)
    }

    #[test]
    fn an_address_whose_time_was_too_short_is_remembered_whatever_the_others_say() {
        use io::ErrorKind::{ConnectionRefused, TimedOut};
        assert_eq!(
            failing([TimedOut, ConnectionRefused]),
            (ConnectionRefused, true)
        );
        assert_eq!(failing([ConnectionRefused, TimedOut]), (TimedOut, true));
        assert_eq!(failing([ConnectionRefused; 2]), (ConnectionRefused, false));
    }

    #[test]
    fn without_time_no_address_is_tried_and_no_name_is_missed() {
        let now = Instant::now();
        let failed = first_of(addresses(), now, |_, _| Ok(())).unwrap_err();
        assert!(failed.has_timed_out);
        assert!(
            first_of(Vec::new(), now, |_, _| Ok(()))
                .unwrap_err()
                .has_timed_out
        );
        let until = after(now, Duration::from_secs(60));
        let failed = first_of(Vec::new(), until, |_, _| Ok(())).unwrap_err();
        assert_eq!(
            (failed.last.kind(), failed.has_timed_out),
            (io::ErrorKind::NotFound, false)
        );
        assert!(first_of(addresses(), until, |_, _| Ok(())).is_ok());
    }
}
