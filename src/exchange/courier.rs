//! Couriers bring to slow clients what their sockets would not take, so that no worker waits for a
//! client whose bytes have room elsewhere.
//!
//! A client that takes nothing costs no courier anything: all of them wait together, in one
//! `epoll_wait`, until a socket has room, and then one courier writes what it takes. Each client is
//! with one courier at a time (`EPOLLONESHOT`).

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;

use crate::base::panic_points::Point;
use crate::net::Stream;
use crate::threads::{self, Kind};

use super::outbox::{READ_BACK, Taken};

/// A courier without work ends after this time.
const SPARE_TIME: Duration = Duration::from_secs(5);

/// How often a courier looks for clients that take too little, in milliseconds.
const LOOK_MS: u16 = 100;

/// After so many bytes a courier looks whether others are waiting.
const SLICE: usize = 1 << 20;

/// A client as couriers see it.
pub(super) trait Carried: std::fmt::Debug + Send + Sync {
    /// Its socket, to be watched.
    fn stream(&self) -> &Stream;

    /// Sends what its socket has room for.
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Takes the next bytes to deliver; `None` if there are none at the moment.
    fn next_delivery(&self) -> Option<Taken>;

    /// Notes what became of them. Returns whether the courier may go on.
    fn end_delivery(&self, taken: Taken, delivered: Delivered) -> bool;

    /// The courier has panicked: the client is cut, and what it lost hold of is answered.
    fn fail_delivery(&self);

    /// The courier is not with it any more. It is called again if something has come in between.
    fn release_courier(self: Arc<Self>);

    /// Cuts it if it takes too little of what lies undelivered.
    fn look_at_pace(&self, now: Instant);
}

/// What became of bytes that a courier had taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// The number of bytes that are with the kernel.
    Sent(usize),
    /// The connection broke.
    Broken,
    /// They could not be read back.
    Lost,
}

/// The couriers.
#[derive(Debug)]
pub struct Couriers(Arc<Office>);

#[derive(Debug)]
struct Office {
    most: usize,
    epoll: Option<Epoll>,
    desk: Mutex<Desk>,
    started: Instant,
    /// When the clients were looked through, in milliseconds since then.
    looked_at: AtomicU64,
}

#[derive(Debug, Default)]
struct Desk {
    /// By their tokens. Each is in the epoll set, or with a courier.
    clients: HashMap<u64, Arc<dyn Carried>>,
    tokens: u64,
    couriers: usize,
    /// Of these, how many wait.
    idle: usize,
}

/// How a courier's visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Something is left, which the client will take later.
    Interrupted,
    /// Nothing is left.
    Over,
}

impl Couriers {
    /// Couriers, at most this many.
    pub fn new(most: usize) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .inspect_err(|error| log::error!("there will be no couriers for slow clients: {error}"))
            .ok();
        Self(Arc::new(Office {
            most,
            epoll,
            desk: Mutex::default(),
            started: Instant::now(),
            looked_at: AtomicU64::new(0),
        }))
    }

    /// Has a courier bring this client what lies undelivered, as soon as its socket has room. Fails
    /// if the system cannot watch the socket.
    pub(super) fn call(&self, client: &Arc<dyn Carried>) -> io::Result<()> {
        let mut desk = self.0.desk.lock();
        desk.tokens += 1;
        let token = desk.tokens;
        self.0.epoll()?.add(client.stream(), interest(token))?;
        desk.clients.insert(token, Arc::clone(client));
        let is_one_lacking = desk.idle == 0 && desk.couriers < self.0.most;
        if is_one_lacking {
            desk.couriers += 1;
        }
        drop(desk);
        if is_one_lacking {
            self.start();
        }
        Ok(())
    }

    /// Starts a courier if there is work and none, because none could be started before. To be
    /// called every now and then.
    pub fn look(&self) {
        let mut desk = self.0.desk.lock();
        let is_one_lacking = desk.couriers == 0 && !desk.clients.is_empty();
        if is_one_lacking {
            desk.couriers += 1;
            drop(desk);
            self.start();
        }
    }

    /// Watches no client any more: a test is the courier.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        for (_, client) in self.0.desk.lock().clients.drain() {
            self.0.epoll().unwrap().delete(client.stream()).unwrap();
        }
    }

    /// Couriers with and without work.
    pub fn count(&self) -> usize {
        self.0.desk.lock().couriers
    }

    /// Starts the courier that was counted already.
    fn start(&self) {
        let office = Arc::clone(&self.0);
        let spawned = threads::tend(Kind::Courier, "courier".to_owned(), move || office.work());
        if let Err(error) = spawned {
            self.0.desk.lock().couriers -= 1;
            // Others do its work, or one is started later.
            log::warn!("no courier can be started: {error}");
        }
    }
}

fn interest(token: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLOUT | EpollFlags::EPOLLONESHOT, token)
}

impl Office {
    fn epoll(&self) -> io::Result<&Epoll> {
        self.epoll
            .as_ref()
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    fn work(&self) {
        let Ok(epoll) = self.epoll() else { return };
        let mut room = vec![0; READ_BACK].into_boxed_slice();
        let mut idle_since = Instant::now();
        loop {
            let mut events = [EpollEvent::empty()];
            self.desk.lock().idle += 1;
            let found = epoll.wait(&mut events, EpollTimeout::from(LOOK_MS));
            let mut desk = self.desk.lock();
            desk.idle -= 1;
            let token = events[0].data();
            let client = match found {
                Ok(1..) => desk.clients.get(&token).cloned(),
                _ => None,
            };
            let now = Instant::now();
            if client.is_some() || !desk.clients.is_empty() {
                idle_since = now;
            } else if now.saturating_duration_since(idle_since) >= SPARE_TIME {
                desk.couriers -= 1;
                return;
            }
            drop(desk);
            if let Some(client) = client {
                self.visit(epoll, token, client, &mut room);
            }
            self.look_after_paces(now);
        }
    }

    /// Brings a client what it takes now.
    fn visit(&self, epoll: &Epoll, token: u64, client: Arc<dyn Carried>, room: &mut [u8]) {
        let delivered = catch_unwind(AssertUnwindSafe(|| {
            Point::CourierDeliver.pass();
            deliver(&*client, room)
        }));
        let delivered = delivered.unwrap_or_else(|_| {
            client.fail_delivery();
            Delivery::Over
        });
        if delivered == Delivery::Interrupted
            && epoll.modify(client.stream(), &mut interest(token)).is_ok()
        {
            return;
        }
        // Off the desk before it may be called for again.
        let _ = epoll.delete(client.stream());
        let known = self.desk.lock().clients.remove(&token);
        Arc::clone(&client).release_courier();
        drop(known);
    }

    /// Cuts the clients that take too little. One courier does it for all, every now and then.
    fn look_after_paces(&self, now: Instant) {
        let now_ms = u64::try_from(now.saturating_duration_since(self.started).as_millis())
            .unwrap_or(u64::MAX);
        let before = self.looked_at.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(before) >= u64::from(LOOK_MS)
            && self
                .looked_at
                .compare_exchange(before, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_due {
            Point::CourierPace.pass();
            let clients: Vec<_> = self.desk.lock().clients.values().cloned().collect();
            clients.iter().for_each(|client| client.look_at_pace(now));
        }
    }
}

/// Delivers until nothing is left, the socket takes nothing more, or others may have waited for
/// long enough.
pub(super) fn deliver(client: &dyn Carried, room: &mut [u8]) -> Delivery {
    let mut sent_in_all = 0_usize;
    while sent_in_all < SLICE {
        let Some(taken) = client.next_delivery() else {
            return Delivery::Over;
        };
        let (delivered, is_all) = match taken.load(room) {
            Ok(bytes) => match client.write_now(bytes) {
                Ok(sent) => (Delivered::Sent(sent), sent == bytes.len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (Delivered::Sent(0), false)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    (Delivered::Sent(0), true)
                }
                Err(_) => (Delivered::Broken, false),
            },
            Err(error) => {
                log::error!("spool: reading back failed: {error}");
                (Delivered::Lost, false)
            }
        };
        if !client.end_delivery(taken, delivered) {
            return Delivery::Over;
        }
        if !is_all {
            return Delivery::Interrupted;
        }
        if let Delivered::Sent(sent) = delivered {
            sent_in_all = sent_in_all.saturating_add(sent);
        }
    }
    Delivery::Interrupted
}
