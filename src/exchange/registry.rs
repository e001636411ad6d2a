//! All clients, for what concerns them together: drain, lingering ends, and who has to go when room is short.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use crate::fault::Fault;

use super::{Client, Hub};

/// All clients, by where they lie in memory.
#[derive(Debug, Default)]
pub struct Registry(Mutex<HashMap<usize, Weak<Client>>>);

impl Registry {
    pub(super) fn add(&self, client: &Arc<Client>) {
        self.0
            .lock()
            .insert(Arc::as_ptr(client) as usize, Arc::downgrade(client));
    }

    pub(super) fn remove(&self, client: &Client) {
        self.0.lock().remove(&(std::ptr::from_ref(client) as usize));
    }

    /// Client connections that are open.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Cuts those that should have ended by now.
    pub fn end_lingering(&self, now: Instant, hub: &Hub) {
        let now_ms = hub.uptime_ms(now);
        self.each(|client| client.end_lingering(now_ms));
    }

    /// Ends all that have waited for a request since then.
    pub fn dismiss_idle(&self, since: Instant) {
        self.each(|client| {
            if !client.is_reading() && client.idle_since().is_some_and(|idle_since| idle_since <= since) {
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
            Some(client.idle_at()).filter(|&since| since != 0 && !client.is_dismissed() && !client.is_reading())
        });
        longest.inspect(|client| client.dismiss()).is_some()
    }

    /// Cuts the client that takes its response most slowly.
    pub fn cut_slowest(&self, now: Instant, hub: &Hub) {
        let now_ms = hub.uptime_ms(now);
        if let Some(slowest) = self.least(|client| client.progress(now_ms)) {
            slowest.condemn();
        }
    }

    /// Calls for each, one after the other, without keeping the table locked meanwhile.
    fn each(&self, mut act: impl FnMut(&Client)) {
        let all: Vec<_> = self.0.lock().values().cloned().collect();
        all.iter().filter_map(Weak::upgrade).for_each(|client| act(&client));
    }

    fn least<R: Ord + Copy>(&self, rank: impl Fn(&Client) -> Option<R>) -> Option<Arc<Client>> {
        let all: Vec<_> = self.0.lock().values().cloned().collect();
        let ranked = all
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|client| Some((rank(&client)?, client)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, client)| client)
    }
}
