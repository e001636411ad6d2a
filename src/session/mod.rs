//! The front: who accepts, and one thread for each client.
//!
//! Leader/follower: idle session threads block in `accept()` on the same socket. Who gets a
//! connection first sees to it that another one waits, then serves the client itself. There are at
//! most `max_sessions` threads; when all of them have a client nobody accepts, and the kernel's
//! backlog holds the rest. Not being able to start a thread is the same as being at that limit.

mod body;
mod cipher;
mod greet;
mod h1;
mod handshake;
mod head;
mod input;
mod linger;
mod malformed;
mod misplaced;
mod reader;
mod room;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Condvar, Mutex};

use crate::base::address;
use crate::base::descriptors;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::{Hub, Service, Short};
use crate::net::Stream;
use crate::net::listen::Acceptor;
use crate::net::tls::ServerTls;
use crate::plan::{BindAddress, Listener};
use crate::threads::{self, Kind};

/// So many sessions more than there may be do no harm.
const FEW: usize = 16;

/// How often it is looked whether there is a place again.
const LOOK: Duration = Duration::from_millis(5);

/// After an `accept()` that failed (no descriptors, mostly) its thread waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address, and how to treat who comes in there.
#[derive(Debug)]
pub struct Door {
    acceptor: Acceptor,
    /// The address as it was asked for.
    address: BindAddress,
    listener: ArcSwap<Listener>,
    tls: ArcSwapOption<ServerTls>,
    /// Threads in `accept()`.
    waiting: AtomicUsize,
    /// It is shut, and the others may be open.
    closed: AtomicBool,
}

impl Door {
    /// A door that is not open yet.
    pub fn new(
        acceptor: Acceptor,
        address: BindAddress,
        listener: Arc<Listener>,
        tls: Option<Arc<ServerTls>>,
    ) -> Self {
        Self {
            acceptor,
            address,
            listener: ArcSwap::new(listener),
            tls: ArcSwapOption::new(tls),
            waiting: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// The socket.
    pub fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    /// The address as it was asked for.
    pub fn address(&self) -> &BindAddress {
        &self.address
    }

    /// Its settings.
    pub fn listener(&self) -> Arc<Listener> {
        self.listener.load_full()
    }

    /// It may be opened again.
    pub fn unlock(&self) {
        self.closed.store(false, Ordering::Release);
    }

    /// TLS settings that it has.
    pub fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.load_full()
    }

    /// Settings for those who come from now on.
    pub fn set(&self, listener: Arc<Listener>, tls: Option<Arc<ServerTls>>) {
        self.listener.store(listener);
        self.tls.store(tls);
    }
}

/// All doors and all sessions.
pub struct Front {
    hub: Arc<Hub>,
    service: Arc<dyn Service>,
    doors: ArcSwap<Vec<Arc<Door>>>,
    max_sessions: AtomicUsize,
    min_idle: usize,
    threads: AtomicUsize,
    closed: AtomicBool,
    by_address: Mutex<HashMap<(String, IpAddr), usize>>,
    all_gone: Condvar,
    gone: Mutex<()>,
}

impl Front {
    /// A front with these doors, all still shut.
    pub fn new(
        hub: &Arc<Hub>,
        service: Arc<dyn Service>,
        doors: Vec<Arc<Door>>,
        max_sessions: usize,
        min_idle: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            hub: Arc::clone(hub),
            service,
            max_sessions: AtomicUsize::new(max_sessions.max(doors.len())),
            min_idle: min_idle.max(1),
            doors: ArcSwap::from_pointee(doors),
            threads: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            by_address: Mutex::new(HashMap::new()),
            all_gone: Condvar::new(),
            gone: Mutex::new(()),
        })
    }

    /// Opens all doors.
    pub fn open(self: &Arc<Self>) -> io::Result<()> {
        for door in self.doors.load().iter() {
            self.open_one(door)?;
        }
        Ok(())
    }

    fn open_one(self: &Arc<Self>, door: &Arc<Door>) -> io::Result<()> {
        self.spawn(door)?;
        for _ in 1..self.min_idle {
            let _fewer_will_do = self.spawn(door);
        }
        Ok(())
    }

    /// The doors.
    pub fn doors(&self) -> Arc<Vec<Arc<Door>>> {
        self.doors.load_full()
    }

    /// Has these doors from now on, and at most so many sessions: opens those that are new and
    /// shuts those that are missing. Who came in there stays.
    pub fn set_doors(self: &Arc<Self>, doors: Vec<Arc<Door>>, max_sessions: usize) {
        self.max_sessions
            .store(max_sessions.max(doors.len()), Ordering::Relaxed);
        let old = self.doors.swap(Arc::new(doors));
        let new = self.doors.load_full();
        for door in new
            .iter()
            .filter(|door| !old.iter().any(|other| Arc::ptr_eq(door, other)))
        {
            if let Err(error) = self.open_one(door) {
                // Tried again every second.
                log::error!(
                    "{}: a session cannot be started: {error}",
                    door.acceptor.local_name()
                );
            }
        }
        for door in old
            .iter()
            .filter(|door| !new.iter().any(|other| Arc::ptr_eq(door, other)))
        {
            door.closed.store(true, Ordering::Release);
            self.shut(door);
        }
    }

    /// Shuts the doors: serves what is in their backlogs still, then accepts no more.
    pub fn close(self: &Arc<Self>) {
        self.closed.store(true, Ordering::Release);
        for door in self.doors.load().iter() {
            self.shut(door);
        }
    }

    fn shut(self: &Arc<Self>, door: &Arc<Door>) {
        if !door.acceptor.is_inherited() {
            self.empty_backlog(door);
        }
        door.acceptor.close();
    }

    /// Waits until no session is left, at most this long. `false` if some are.
    pub fn wait_gone(&self, until: Instant) -> bool {
        let mut gone = self.gone.lock();
        while self.threads.load(Ordering::Acquire) > 0 {
            if self.all_gone.wait_until(&mut gone, until).timed_out() {
                return self.threads.load(Ordering::Acquire) == 0;
            }
        }
        true
    }

    /// To be called every second: where nobody can accept because all threads have a client, the
    /// client that has been idle longest makes room.
    pub fn make_room(self: &Arc<Self>) {
        for door in self.doors.load().iter() {
            if door.waiting.load(Ordering::Relaxed) == 0
                && !self.is_closed()
                && self.spawn(door).is_err()
            {
                self.free_a_place();
            }
        }
    }

    /// Ends the client that has been idle longest, or else the one that stands still longest.
    fn free_a_place(&self) {
        if !self.hub.clients.evict_idle() {
            self.hub
                .clients
                .give_way(Short::Sessions, Instant::now(), &self.hub);
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn is_shut(&self, door: &Door) -> bool {
        self.is_closed() || door.closed.load(Ordering::Acquire)
    }

    /// What the kernel has accepted for us is a promise: shutting the socket down would reset it.
    fn empty_backlog(self: &Arc<Self>, door: &Arc<Door>) {
        if let Err(error) = door.acceptor.stop_waiting() {
            log::warn!(
                "{}: the backlog cannot be emptied: {error}",
                door.acceptor.local_name()
            );
            return;
        }
        let until = after(Instant::now(), Duration::from_secs(1));
        loop {
            // Some more than there may be otherwise, but not beyond what the system bears: a
            // twentieth of that is left for such things.
            let most = self.max_sessions.load(Ordering::Relaxed);
            if self.threads.load(Ordering::Acquire) >= most + (most / 40).max(FEW) {
                if Instant::now() > until {
                    break;
                }
                std::thread::sleep(LOOK);
                continue;
            }
            let Ok((stream, peer)) = door.acceptor.accept() else {
                break;
            };
            self.threads.fetch_add(1, Ordering::AcqRel);
            let seat = Seat::new(self, door, false);
            let serve = move || seat.front.serve_fenced(&seat.door, stream, peer);
            // A seat that no thread takes is given back.
            let _ = threads::spawn(Kind::Session, "session".to_owned(), serve);
            if Instant::now() > until {
                break;
            }
        }
    }

    /// Starts one more thread for this door.
    fn spawn(self: &Arc<Self>, door: &Arc<Door>) -> io::Result<()> {
        if self.threads.fetch_add(1, Ordering::AcqRel) >= self.max_sessions.load(Ordering::Relaxed)
        {
            self.leave();
            return Err(io::Error::other("max_sessions is reached"));
        }
        door.waiting.fetch_add(1, Ordering::AcqRel);
        let mut seat = Seat::new(self, door, true);
        // A seat that no thread takes is given back.
        threads::tend(Kind::Session, "session".to_owned(), move || seat.work())?;
        Ok(())
    }

    fn leave(&self) {
        if self.threads.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _so_that_none_sleeps_past_it = self.gone.lock();
            self.all_gone.notify_all();
        }
    }

    /// A panic ends one client, and is counted.
    fn serve_fenced(self: &Arc<Self>, door: &Door, stream: Stream, peer: Option<SocketAddr>) {
        self.hub.counters.sessions.add(1);
        let served = catch_unwind(AssertUnwindSafe(|| self.serve(door, stream, peer)));
        if served.is_err() {
            self.hub.answer_lost();
        }
    }

    fn serve(self: &Arc<Self>, door: &Door, stream: Stream, peer: Option<SocketAddr>) {
        let began = Instant::now();
        let listener = door.listener();
        let Some(greeting) = greet::greet(&listener, &stream, peer, began) else {
            self.hub.counters.sessions_refused.add(1);
            return;
        };
        let Some(_place) = self.place(&listener, greeting.peer) else {
            self.hub.counters.sessions_refused.add(1);
            stream.reset_on_close();
            return;
        };
        let tls = match door.tls.load_full().map(|tls| tls.connection()) {
            None => None,
            Some(Ok(connection)) => Some(Box::new(connection)),
            Some(Err(error)) => return log::error!("{}: TLS: {error}", listener.name),
        };
        h1::serve(
            &self.hub,
            &*self.service,
            &listener,
            stream,
            greeting,
            tls,
            began,
        );
    }

    /// Room for one more session of this address.
    fn place(
        self: &Arc<Self>,
        listener: &Arc<Listener>,
        peer: Option<SocketAddr>,
    ) -> Option<Place> {
        let client = peer.map(|peer| address::of_client(peer.ip()));
        let Some(address) = client.filter(|_| listener.sessions_per_address > 0) else {
            return Some(Place {
                front: Arc::clone(self),
                key: None,
            });
        };
        let key = (listener.name.clone(), address);
        let mut by_address = self.by_address.lock();
        let sessions = by_address.entry(key.clone()).or_insert(0);
        if *sessions >= listener.sessions_per_address {
            return None;
        }
        *sessions += 1;
        drop(by_address);
        Some(Place {
            front: Arc::clone(self),
            key: Some(key),
        })
    }
}

/// A session thread's place among all, and whether it is counted among those waiting at its door.
/// Given back when dropped.
struct Seat {
    front: Arc<Front>,
    door: Arc<Door>,
    is_waiting: bool,
}

impl Seat {
    /// A place that is counted already.
    fn new(front: &Arc<Front>, door: &Arc<Door>, is_waiting: bool) -> Self {
        Self {
            front: Arc::clone(front),
            door: Arc::clone(door),
            is_waiting,
        }
    }

    /// Counts the thread among those waiting at its door. Returns how many these are then, without
    /// it.
    fn wait(&mut self, is_waiting: bool) -> usize {
        if std::mem::replace(&mut self.is_waiting, is_waiting) == is_waiting {
            return self.door.waiting.load(Ordering::Acquire);
        }
        match is_waiting {
            true => self.door.waiting.fetch_add(1, Ordering::AcqRel),
            false => self.door.waiting.fetch_sub(1, Ordering::AcqRel) - 1,
        }
    }

    /// A session thread's life, and what is left of it after a panic.
    fn work(&mut self) {
        let front = Arc::clone(&self.front);
        if front.hub.batch_scheduling() {
            let _ = crate::sys::schedule_as_batch(); // Not a must.
        }
        self.wait(true);
        loop {
            if !descriptors::are_left_for_clients() && !front.is_shut(&self.door) {
                front.hub.counters.accept_errors.add(1);
                std::thread::sleep(ACCEPT_PAUSE);
                continue;
            }
            match self.door.acceptor.accept() {
                Ok((stream, peer)) => {
                    Point::SessionAccept.pass();
                    let waiting = self.wait(false);
                    let is_short = waiting < front.min_idle && !front.is_shut(&self.door);
                    if is_short && front.spawn(&self.door).is_err() && waiting == 0 {
                        front.free_a_place();
                    }
                    front.serve_fenced(&self.door, stream, peer);
                    // What waits at an inherited socket now is its next owner's.
                    if front.is_shut(&self.door) {
                        return;
                    }
                    // A freed place goes to where nobody waits.
                    let doors = front.doors.load();
                    if let Some(empty) = doors
                        .iter()
                        .find(|door| door.waiting.load(Ordering::Relaxed) == 0)
                    {
                        self.door = Arc::clone(empty);
                    }
                    self.wait(true);
                }
                Err(_) if front.is_shut(&self.door) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Spare threads go, one at a time, once they have waited for a while.
                    let enough = |waiting: usize| (waiting > front.min_idle).then(|| waiting - 1);
                    let waiting = &self.door.waiting;
                    if waiting
                        .fetch_update(Ordering::AcqRel, Ordering::Acquire, enough)
                        .is_ok()
                    {
                        self.is_waiting = false;
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    front.hub.counters.accept_errors.add(1);
                    log::debug!("{}: accept: {error}", self.door.acceptor.local_name());
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.wait(false);
        self.front.leave();
    }
}

/// One session's place among those of its address, given back when dropped.
struct Place {
    front: Arc<Front>,
    key: Option<(String, IpAddr)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let mut by_address = self.front.by_address.lock();
        if let Some(sessions) = by_address.get_mut(&key) {
            *sessions -= 1;
            if *sessions == 0 {
                by_address.remove(&key);
            }
        }
    }
}
