//! The lane: what is long goes on beside the workers.
//!
//! A response that its client takes slowly, or that never ends, would hold a worker and its slot.
//! So the worker hands it over, with its connection, to a thread that has nothing else to do, and
//! connects anew. A server sees as many connections more as its lane allows (`lane`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use parking_lot::Mutex;

use crate::balance::ServerId;
use crate::fault::Fault;

use super::link::Link;

/// What is long, of one cluster.
#[derive(Debug, Default)]
pub(super) struct Lane {
    berths: Mutex<HashMap<u64, Arc<Berth>>>,
    is_closed: AtomicBool,
}

/// A place in the lane, with the connection that is in it.
#[derive(Debug)]
pub(super) struct Berth {
    server: ServerId,
    link: Link,
    why: AtomicU8,
}

/// Why a connection in the lane was broken off here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BrokenOff {
    /// The client has left.
    ClientLeft = 1,
    /// The balancer stops.
    Stopped = 2,
}

/// Holds a place in the lane until it is dropped.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub(super) struct InLane {
    lane: Arc<Lane>,
    exchange: u64,
    berth: Arc<Berth>,
}

impl Lane {
    /// Takes a place for this exchange, of at most `most` of the server. `None` if none is free, or
    /// the lane is closed.
    pub(super) fn enter(
        self: &Arc<Self>,
        exchange: u64,
        server: ServerId,
        link: &Link,
        most: usize,
    ) -> Option<InLane> {
        let mut berths = self.berths.lock();
        if self.is_closed.load(Ordering::Relaxed) || count(&berths, server) >= most {
            return None;
        }
        let berth = Arc::new(Berth {
            server,
            link: link.clone(),
            why: AtomicU8::new(0),
        });
        berths.insert(exchange, Arc::clone(&berth));
        Some(InLane {
            lane: Arc::clone(self),
            exchange,
            berth,
        })
    }

    /// The client of this exchange has left: its server is told by the end of the connection.
    pub(super) fn cancel(&self, exchange: u64) {
        let berth = self.berths.lock().get(&exchange).cloned();
        if let Some(berth) = berth {
            berth.break_off(BrokenOff::ClientLeft);
        }
    }

    /// Breaks everything off, and takes nothing more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        let berths: Vec<_> = self.berths.lock().values().cloned().collect();
        for berth in berths {
            berth.break_off(BrokenOff::Stopped);
        }
    }

    /// How many connections of this server are in the lane.
    pub(super) fn count(&self, server: ServerId) -> usize {
        count(&self.berths.lock(), server)
    }
}

fn count(berths: &HashMap<u64, Arc<Berth>>, server: ServerId) -> usize {
    berths
        .values()
        .filter(|berth| berth.server == server)
        .count()
}

impl Berth {
    fn break_off(&self, why: BrokenOff) {
        // Before the thread that reads sees the end.
        let _ = self
            .why
            .compare_exchange(0, why as u8, Ordering::Release, Ordering::Relaxed);
        self.link.break_off();
    }
}

impl InLane {
    /// What became of the exchange if its connection was broken off here.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.broken_off().map(|why| match why {
            BrokenOff::ClientLeft => Fault::ClientGoneData,
            BrokenOff::Stopped => Fault::Draining,
        })
    }

    /// Why the connection was broken off here, if it was.
    fn broken_off(&self) -> Option<BrokenOff> {
        match self.berth.why.load(Ordering::Acquire) {
            why if why == BrokenOff::ClientLeft as u8 => Some(BrokenOff::ClientLeft),
            why if why == BrokenOff::Stopped as u8 => Some(BrokenOff::Stopped),
            _ => None,
        }
    }
}

impl Drop for InLane {
    fn drop(&mut self) {
        self.lane.berths.lock().remove(&self.exchange);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use crate::upstream::played::Played;

    use super::*;

    const ONE: ServerId = ServerId(1);

    fn link() -> (Arc<Played>, Link) {
        let played = Played::saying([]);
        let link = Link::from(&played);
        (played, link)
    }

    #[test]
    fn each_server_has_its_places_and_they_come_back() {
        let lane = Arc::new(Lane::default());
        let (_played, link) = link();
        let first = lane.enter(1, ONE, &link, 2).unwrap();
        let second = lane.enter(2, ONE, &link, 2).unwrap();
        assert!(lane.enter(3, ONE, &link, 2).is_none());
        assert!(lane.enter(3, ServerId(2), &link, 0).is_none(), "never");
        let other = lane.enter(3, ServerId(2), &link, 1).unwrap();
        assert_eq!((lane.count(ONE), lane.count(ServerId(2))), (2, 1));
        drop(first);
        assert!(lane.enter(4, ONE, &link, 2).is_some());
        drop((second, other));
        assert_eq!((lane.count(ONE), lane.count(ServerId(2))), (0, 0));
    }

    #[test]
    fn a_client_that_leaves_ends_its_own_connection_alone() {
        let lane = Arc::new(Lane::default());
        let ((left, left_link), (stays, stays_link)) = (link(), link());
        let leaver = lane.enter(1, ONE, &left_link, 9).unwrap();
        let other = lane.enter(2, ONE, &stays_link, 9).unwrap();
        lane.cancel(1);
        lane.cancel(7);
        assert_eq!(leaver.broken_off(), Some(BrokenOff::ClientLeft));
        assert_eq!(left.how_ended(), Some(Shutdown::Both));
        assert_eq!((other.broken_off(), stays.how_ended()), (None, None));
        // The first reason counts.
        lane.close();
        assert_eq!(leaver.broken_off(), Some(BrokenOff::ClientLeft));
        assert_eq!(other.broken_off(), Some(BrokenOff::Stopped));
        assert!(lane.enter(3, ONE, &stays_link, 9).is_none(), "closed");
    }
}
