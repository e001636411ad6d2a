//! All clients, for what concerns them together: drain, lingering ends, and who has to go when room
//! is short.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use crate::fault::Fault;

use super::{Client, Hub};

/// Clients are looked through for one that has to give way at most so often, in milliseconds.
const LOOK_MS: u64 = 20;

/// What is lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Buffers for heads.
    Heads,
    /// Room for bodies of requests.
    Requests,
    /// Room for responses that clients have not taken.
    Responses,
    /// Places for clients.
    Sessions,
}

/// All clients, by where they lie in memory.
#[derive(Debug, Default)]
pub struct Registry {
    clients: Mutex<HashMap<usize, Weak<Client>>>,
    /// When that was for each kind of shortage, in milliseconds of uptime.
    looked_at: [AtomicU64; 4],
}

impl Registry {
    pub(super) fn add(&self, client: &Arc<Client>) {
        self.clients
            .lock()
            .insert(Arc::as_ptr(client) as usize, Arc::downgrade(client));
    }

    pub(super) fn remove(&self, client: &Client) {
        self.clients
            .lock()
            .remove(&(std::ptr::from_ref(client) as usize));
    }

    /// Client connections that are open.
    pub fn count(&self) -> usize {
        self.clients.lock().len()
    }

    /// Cuts those that should have ended by now.
    pub fn end_lingering(&self, now: Instant, hub: &Hub) {
        let now_ms = hub.uptime_ms(now);
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

    /// Ends the one that has waited longest for a request. `false` if none does.
    pub fn evict_idle(&self) -> bool {
        let longest = self.least(|client| {
            Some(client.idle_at())
                .filter(|&since| since != 0 && !client.is_dismissed() && !client.is_reading())
        });
        longest.inspect(|client| client.dismiss()).is_some()
    }

    /// Ends the client that holds most of what others lack and has made no progress for longest, if
    /// that is for a quarter of its time limit. Returns `false` if there is none, or if one was
    /// looked for just now.
    pub fn give_way(&self, short: Short, now: Instant, hub: &Hub) -> bool {
        let now_ms = hub.uptime_ms(now);
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
    fn each(&self, mut act: impl FnMut(&Client)) {
        let all: Vec<_> = self.clients.lock().values().cloned().collect();
        all.iter()
            .filter_map(Weak::upgrade)
            .for_each(|client| act(&client));
    }

    fn least<R: Ord + Copy>(&self, rank: impl Fn(&Client) -> Option<R>) -> Option<Arc<Client>> {
        let all: Vec<_> = self.clients.lock().values().cloned().collect();
        let ranked = all
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|client| Some((rank(&client)?, client)));
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, client)| client)
    }
}
