//! The threads of the front: each accepts a client, serves it, and accepts the next.
//!
//! Leader and follower: idle session threads block in `accept()` on the same socket. The thread
//! that gets a connection first sees to it that another one waits, then serves the client itself.
//! There are at most `max_sessions` threads. When all of them have a client no thread accepts, and
//! the kernel's backlog holds the rest. A thread that cannot be started counts like that limit.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use crate::base::descriptors;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::{Hub, Service, Short};
use crate::net::Stream;
use crate::threads::{self, Kind};

use super::door::Door;
use super::places::Places;
use super::{greet, h1};

/// Sessions beyond the most there may be that do no harm.
const FEW: usize = 16;

/// Time between two looks for a free place.
const LOOK: Duration = Duration::from_millis(5);

/// How long a thread waits after an `accept()` that failed, for lack of descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// All doors and all sessions.
pub struct Front {
    hub: Arc<Hub>,
    service: Arc<dyn Service>,
    doors: ArcSwap<Vec<Arc<Door>>>,
    max_sessions: AtomicUsize,
    min_idle: usize,
    threads: AtomicUsize,
    closed: AtomicBool,
    places: Arc<Places>,
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
            places: Arc::default(),
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
            let _ = self.spawn(door); // Fewer will do.
        }
        Ok(())
    }

    /// The doors.
    pub fn doors(&self) -> Arc<Vec<Arc<Door>>> {
        self.doors.load_full()
    }

    /// Has these doors from now on, and at most `max_sessions` sessions: opens the doors that are
    /// new and shuts those that are missing. Clients that came in there stay.
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
                    door.acceptor().local_name()
                );
            }
        }
        for door in old
            .iter()
            .filter(|door| !new.iter().any(|other| Arc::ptr_eq(door, other)))
        {
            door.lock();
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
        if !door.acceptor().is_inherited() {
            self.empty_backlog(door);
        }
        door.acceptor().close();
    }

    /// Waits until no session is left, at most until then. Returns whether none is.
    pub fn wait_gone(&self, until: Instant) -> bool {
        let mut gone = self.gone.lock();
        while self.threads.load(Ordering::Acquire) > 0 {
            if self.all_gone.wait_until(&mut gone, until).timed_out() {
                return self.threads.load(Ordering::Acquire) == 0;
            }
        }
        true
    }

    /// To be called every second: where no thread can accept because all have a client, the client
    /// that has been idle longest makes room.
    pub fn make_room(self: &Arc<Self>) {
        for door in self.doors.load().iter() {
            if door.waiting() == 0 && !self.is_closed() && self.spawn(door).is_err() {
                self.free_a_place();
            }
        }
    }

    /// Ends the client that has been idle longest, or else the one that stands still longest.
    fn free_a_place(&self) {
        let now_ms = self.hub.uptime_ms(Instant::now());
        if !self.hub.clients.evict_idle(now_ms) {
            self.hub.clients.give_way(Short::Sessions, now_ms);
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn is_shut(&self, door: &Door) -> bool {
        self.is_closed() || door.is_locked()
    }

    /// Serves the connections that the kernel has accepted already: shutting the socket down would
    /// reset them.
    fn empty_backlog(self: &Arc<Self>, door: &Arc<Door>) {
        if let Err(error) = door.acceptor().stop_waiting() {
            log::warn!(
                "{}: the backlog cannot be emptied: {error}",
                door.acceptor().local_name()
            );
            return;
        }
        let until = after(Instant::now(), Duration::from_secs(1));
        loop {
            // There may be some sessions more than otherwise, but not beyond what the system bears:
            // a twentieth of that is left for such things.
            let most = self.max_sessions.load(Ordering::Relaxed);
            if self.threads.load(Ordering::Acquire) >= most + (most / 40).max(FEW) {
                if Instant::now() > until {
                    break;
                }
                std::thread::sleep(LOOK);
                continue;
            }
            let Ok((stream, peer)) = door.acceptor().accept() else {
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
        door.begin_wait();
        let mut seat = Seat::new(self, door, true);
        // A seat that no thread takes is given back.
        threads::tend(Kind::Session, "session".to_owned(), move || seat.work())?;
        Ok(())
    }

    fn leave(&self) {
        if self.threads.fetch_sub(1, Ordering::AcqRel) == 1 {
            // With the lock, a thread that is about to sleep does not miss this.
            let _gone = self.gone.lock();
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
        let Some(_place) = self.places.take(&listener, greeting.peer) else {
            self.hub.counters.sessions_refused.add(1);
            stream.reset_on_close();
            return;
        };
        let tls = match door.tls().map(|tls| tls.connection()) {
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

    /// Counts the thread among those waiting at its door.
    fn begin_wait(&mut self) {
        if !std::mem::replace(&mut self.is_waiting, true) {
            self.door.begin_wait();
        }
    }

    /// Counts the thread no longer among those waiting. Returns how many others wait.
    fn end_wait(&mut self) -> usize {
        if std::mem::replace(&mut self.is_waiting, false) {
            self.door.end_wait()
        } else {
            self.door.waiting()
        }
    }

    /// A session thread's life, and what is left of it after a panic.
    fn work(&mut self) {
        let front = Arc::clone(&self.front);
        if front.hub.batch_scheduling() {
            let _ = crate::sys::schedule_as_batch(); // Not a must.
        }
        self.begin_wait();
        loop {
            if !descriptors::are_left_for_clients() && !front.is_shut(&self.door) {
                front.hub.counters.accept_errors.add(1);
                std::thread::sleep(ACCEPT_PAUSE);
                continue;
            }
            match self.door.acceptor().accept() {
                Ok((stream, peer)) => {
                    Point::SessionAccept.pass();
                    let waiting = self.end_wait();
                    let is_short = waiting < front.min_idle && !front.is_shut(&self.door);
                    if is_short && front.spawn(&self.door).is_err() && waiting == 0 {
                        front.free_a_place();
                    }
                    front.serve_fenced(&self.door, stream, peer);
                    // Clients that wait at an inherited socket now are its next owner's.
                    if front.is_shut(&self.door) {
                        return;
                    }
                    // The thread goes to a door where none waits.
                    let doors = front.doors.load();
                    if let Some(empty) = doors.iter().find(|door| door.waiting() == 0) {
                        self.door = Arc::clone(empty);
                    }
                    self.begin_wait();
                }
                Err(_) if front.is_shut(&self.door) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Spare threads end, one at a time, once they have waited for a while.
                    if self.door.end_wait_beyond(front.min_idle) {
                        self.is_waiting = false;
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    front.hub.counters.accept_errors.add(1);
                    log::debug!("{}: accept: {error}", self.door.acceptor().local_name());
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.end_wait();
        self.front.leave();
    }
}
