//! Places for the sessions of one client address (`sessions_per_address`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::address;
use crate::plan::Listener;

/// A listener's name, and the address of a client there.
type Key = (String, IpAddr);

/// Sessions by listener and address, where a listener limits them.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<Key, usize>>);

impl Places {
    /// Takes a place for one more session of this client. `None` if its address has as many as it
    /// may.
    pub(super) fn take(
        self: &Arc<Self>,
        listener: &Listener,
        peer: Option<SocketAddr>,
    ) -> Option<Place> {
        let most = listener.sessions_per_address;
        let client = peer.map(|peer| address::of_client(peer.ip()));
        let Some(address) = client.filter(|_| most > 0) else {
            return Some(Place(None));
        };
        self.take_one_of(most, (listener.name.clone(), address))
    }

    fn take_one_of(self: &Arc<Self>, most: usize, key: Key) -> Option<Place> {
        let mut sessions = self.0.lock();
        let taken = sessions.entry(key.clone()).or_insert(0);
        if *taken >= most {
            return None;
        }
        *taken += 1;
        drop(sessions);
        Some(Place(Some((Arc::clone(self), key))))
    }
}

/// One session's place among those of its address, given back when dropped.
#[derive(Debug)]
#[must_use = "a place that is dropped is free again"]
pub(super) struct Place(Option<(Arc<Places>, Key)>);

impl Drop for Place {
    fn drop(&mut self) {
        let Some((places, key)) = self.0.take() else {
            return;
        };
        let mut sessions = places.0.lock();
        if let Some(taken) = sessions.get_mut(&key) {
            *taken -= 1;
            if *taken == 0 {
                sessions.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_at_each_listener_and_leaves_no_trace() {
        let places = Arc::new(Places::default());
        let key = |listener: &str, last| (listener.to_owned(), IpAddr::from([192, 0, 2, last]));
        let first = places.take_one_of(2, key("a", 1)).unwrap();
        let second = places.take_one_of(2, key("a", 1)).unwrap();
        assert!(places.take_one_of(2, key("a", 1)).is_none());
        let others = [key("a", 2), key("b", 1)].map(|key| places.take_one_of(2, key).unwrap());
        drop(first);
        let third = places.take_one_of(2, key("a", 1)).unwrap();
        assert!(places.take_one_of(2, key("a", 1)).is_none());
        drop((second, third, others));
        assert!(places.0.lock().is_empty());
    }
}
