//! Couriers bring to slow clients what their sockets would not take, so that no worker waits for a client.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::fault::Fault;
use crate::net::stream::is_timeout;
use crate::threads::{self, Kind};

use super::Client;

/// A courier without work ends after this time.
const SPARE_TIME: Duration = Duration::from_secs(5);

/// How long one write may wait before the client's progress is looked at.
const TICK: Duration = Duration::from_secs(1);

/// With all couriers out and clients waiting for one, each client has a courier for so long at a time.
const SLICE: Duration = Duration::from_millis(500);

/// The couriers.
#[derive(Debug)]
pub struct Couriers(Arc<Office>);

#[derive(Debug)]
struct Office {
    most: usize,
    desk: Mutex<Desk>,
    called: Condvar,
}

#[derive(Debug, Default)]
struct Desk {
    waiting: VecDeque<Arc<Client>>,
    spare: usize,
    couriers: usize,
}

/// How a courier's visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Interrupted,
    Over,
}

impl Couriers {
    /// So many at most.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Office {
            most,
            desk: Mutex::new(Desk::default()),
            called: Condvar::new(),
        }))
    }

    /// Sends a courier to this client, the next one that is free if there are as many as there may be. `false` if none can be had.
    pub fn call(&self, client: &Arc<Client>) -> bool {
        let mut desk = self.0.desk.lock();
        if desk.spare > desk.waiting.len() || desk.couriers >= self.0.most {
            desk.waiting.push_back(Arc::clone(client));
            drop(desk);
            self.0.called.notify_one();
            return true;
        }
        desk.couriers += 1;
        drop(desk);
        let (office, first) = (Arc::clone(&self.0), Arc::clone(client));
        let spawned = threads::spawn(Kind::Courier, "courier".to_owned(), move || office.work(first));
        if let Err(error) = &spawned {
            self.0.desk.lock().couriers -= 1;
            log::warn!("no courier can be started: {error}");
        }
        spawned.is_ok()
    }

    /// Couriers with and without work.
    pub fn count(&self) -> usize {
        self.0.desk.lock().couriers
    }
}

impl Office {
    fn work(&self, first: Arc<Client>) {
        let mut client = first;
        loop {
            let delivered = catch_unwind(AssertUnwindSafe(|| self.deliver(&client)));
            if delivered.is_err() {
                client.hub().counters.panics.add(1);
                client.fail_delivery(Fault::Internal);
            }
            let mut desk = self.desk.lock();
            if matches!(delivered, Ok(Delivery::Interrupted)) {
                desk.waiting.push_back(client);
            } else {
                // Outside the lock: it may be the last to let go of the client.
                MutexGuard::unlocked(&mut desk, || drop(client));
            }
            let until = Instant::now() + SPARE_TIME;
            desk.spare += 1;
            while desk.waiting.is_empty() {
                if self.called.wait_until(&mut desk, until).timed_out() {
                    break;
                }
            }
            desk.spare -= 1;
            match desk.waiting.pop_front() {
                Some(next) => client = next,
                None => {
                    desk.couriers -= 1;
                    return;
                }
            }
        }
    }

    /// Delivers until nothing is left, the client takes too little, or others have waited for long enough.
    fn deliver(&self, client: &Client) -> Delivery {
        let came = Instant::now();
        client.greet_courier(came);
        let tick = TICK.min(client.listener().timeout.write);
        if client.stream().set_write_timeout(tick).is_err() {
            client.fail_delivery(Fault::ClientGoneData);
            return Delivery::Over;
        }
        let mut now = came;
        while let Some(taken) = client.next_delivery() {
            let mut done = 0;
            while let Some(bytes) = taken.bytes().get(done..).filter(|bytes| !bytes.is_empty()) {
                let sent = match client.stream().write(bytes) {
                    Ok(sent) => sent,
                    Err(error) if is_timeout(&error) => 0,
                    Err(_) => {
                        client.fail_delivery(Fault::ClientGoneData);
                        return Delivery::Over;
                    }
                };
                let began = std::mem::replace(&mut now, Instant::now());
                done += sent;
                if !client.count_delivery(sent, now - began) {
                    client.fail_delivery(Fault::SlowClient);
                    return Delivery::Over;
                }
                if now - came >= SLICE && self.others_wait() {
                    if done < taken.bytes().len() {
                        client.interrupt_delivery(taken, done);
                    }
                    return Delivery::Interrupted;
                }
            }
        }
        Delivery::Over
    }

    fn others_wait(&self) -> bool {
        let desk = self.desk.lock();
        desk.couriers >= self.most && !desk.waiting.is_empty()
    }
}
