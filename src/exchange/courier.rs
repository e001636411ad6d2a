//! Couriers bring to slow clients what their sockets would not take, so that no worker waits for a client.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::fault::Fault;
use crate::net::stream::is_timeout;
use crate::threads::{self, Kind};

use super::Client;

/// A courier without work ends after this time.
const SPARE_TIME: Duration = Duration::from_secs(5);

/// How long one write may wait before the client's progress is looked at.
const TICK: Duration = Duration::from_secs(1);

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

impl Couriers {
    /// So many at most.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Office {
            most,
            desk: Mutex::new(Desk::default()),
            called: Condvar::new(),
        }))
    }

    /// Sends a courier to this client. `false` if none can be had.
    pub fn call(&self, client: &Arc<Client>) -> bool {
        let mut desk = self.0.desk.lock();
        if desk.spare > desk.waiting.len() {
            desk.waiting.push_back(Arc::clone(client));
            drop(desk);
            self.0.called.notify_one();
            return true;
        }
        if desk.couriers >= self.0.most {
            return false;
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
            deliver(&client);
            drop(client);
            let mut desk = self.desk.lock();
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
}

/// Delivers until nothing is left, or the client takes too little.
fn deliver(client: &Client) {
    let settings = client.listener();
    let patience = settings.timeout.write;
    if client.stream().set_write_timeout(TICK.min(patience)).is_err() {
        return client.fail_delivery(Fault::ClientGoneData);
    }
    // In each `patience` it must take something, and as much as the least rate says.
    let least = (settings.limit.min_rate as f64 * patience.as_secs_f64()).max(1.0) as u64;
    let mut window_ends = Instant::now() + patience;
    let mut in_window = 0;
    while let Some(taken) = client.next_delivery() {
        let mut bytes = taken.bytes();
        while !bytes.is_empty() {
            match client.stream().write(bytes) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    in_window += sent as u64;
                    client.count_delivery(sent);
                }
                Err(error) if is_timeout(&error) => {}
                Err(_) => return client.fail_delivery(Fault::ClientGoneData),
            }
            let now = Instant::now();
            if now >= window_ends {
                if in_window < least {
                    return client.fail_delivery(Fault::SlowClient);
                }
                window_ends = now + patience;
                in_window = 0;
            }
        }
    }
}
