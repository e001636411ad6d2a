//! All clients, for what concerns them together: drain, lingering ends, and which has to go when
//! room is short.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::fault::Fault;

/// Clients are looked through for one that has to give way at most so often, in milliseconds.
const LOOK_MS: u64 = 20;

/// What is lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Buffers for heads.
    Heads,
    /// Room for bodies of requests.
    Requests,
    /// Places for clients.
    Sessions,
}

/// What of the room that all share a request takes while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// Only what each session has of its own.
    Nothing,
    /// A buffer for its head.
    Head,
    /// Buffers for its body.
    Memory,
    /// Buffers, and a part of the spool.
    Spool,
}

/// A client as this register sees it. Nothing here may wait for a thread that sends to the client.
pub(super) trait Listed: std::fmt::Debug + Send + Sync {
    /// Since when it is idle; `None` while an exchange is open or something is being delivered.
    fn idle_since(&self) -> Option<Instant>;

    /// The same without a lock, in milliseconds of uptime; 0 while it is not idle.
    fn idle_at(&self) -> u64;

    /// It has come in just now, and its first request may be on the way.
    fn is_fresh(&self, now_ms: u64) -> bool;

    /// A request of it is being read.
    fn is_reading(&self) -> bool;

    /// It was told to end by [`Self::dismiss`].
    fn is_dismissed(&self) -> bool;

    /// Ends it after what it has sent: its session sees an end of input.
    fn dismiss(&self);

    /// Cuts it if its lingering end is over.
    fn end_lingering(&self, now_ms: u64);

    /// Returns for how long it has made no progress with something of which others lack room, if
    /// that is long enough to give way, and how much of it it holds.
    fn stands_still(&self, short: Short, now_ms: u64) -> Option<(Holds, Duration)>;

    /// Ends it to make room for others, here and now if possible.
    fn condemn(&self);

    /// The process ends: what is not finished is to be seen as cut.
    fn abandon(&self, fault: Fault);
}

/// All clients, by where they lie in memory.
#[derive(Debug, Default)]
pub struct Registry {
    clients: Mutex<HashMap<usize, Weak<dyn Listed>>>,
    /// When that was for each kind of shortage, in milliseconds of uptime.
    looked_at: [AtomicU64; 4],
}

impl Registry {
    pub(super) fn add(&self, client: &Arc<dyn Listed>) {
        let address = Arc::as_ptr(client).addr();
        self.clients.lock().insert(address, Arc::downgrade(client));
    }

    /// Forgets the client that lies at this address.
    pub(super) fn remove(&self, address: usize) {
        self.clients.lock().remove(&address);
    }

    /// Client connections that are open.
    pub fn count(&self) -> usize {
        self.clients.lock().len()
    }

    /// Cuts those that should have ended by now, in milliseconds of uptime.
    pub fn end_lingering(&self, now_ms: u64) {
        self.each(|client| client.end_lingering(now_ms));
    }

    /// Ends all that have waited for a request since then.
    pub fn dismiss_idle(&self, since: Instant) {
        self.each(|client| {
            if !client.is_reading()
                && client
                    .idle_since()
                    .is_some_and(|idle_since| idle_since <= since)
            {
                client.dismiss();
            }
        });
    }

    /// Cuts all whose responses are not finished.
    pub fn abandon(&self, fault: Fault) {
        self.each(|client| client.abandon(fault));
    }

    /// Ends the one that has waited longest for a request, but none that has just come in. `false`
    /// if there is none.
    pub fn evict_idle(&self, now_ms: u64) -> bool {
        let longest = self.least(|client| {
            Some(client.idle_at())
                .filter(|&since| since != 0 && !client.is_dismissed() && !client.is_reading())
                .filter(|_| !client.is_fresh(now_ms))
        });
        longest.inspect(|client| client.dismiss()).is_some()
    }

    /// Ends the client that holds most of what others lack and has made no progress for longest, if
    /// that is for a quarter of its time limit. Returns `false` if there is none, or if one was
    /// looked for just now.
    pub fn give_way(&self, short: Short, now_ms: u64) -> bool {
        let looked_at = &self.looked_at[short as usize];
        let before = looked_at.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(before) >= LOOK_MS
            && looked_at
                .compare_exchange(before, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_due {
            return false;
        }
        let stillest = self.least(|client| client.stands_still(short, now_ms).map(Reverse));
        stillest.inspect(|client| client.condemn()).is_some()
    }

    /// Calls for each, one after the other, without keeping the table locked meanwhile.
    fn each(&self, mut act: impl FnMut(&dyn Listed)) {
        let all: Vec<_> = self.clients.lock().values().cloned().collect();
        all.iter()
            .filter_map(Weak::upgrade)
            .for_each(|client| act(&*client));
    }

    fn least<R: Ord + Copy>(
        &self,
        rank: impl Fn(&dyn Listed) -> Option<R>,
    ) -> Option<Arc<dyn Listed>> {
        let all: Vec<_> = self.clients.lock().values().cloned().collect();
        let ranked = all
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|client| Some((rank(&*client)?, client)));
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, client)| client)
    }
}
