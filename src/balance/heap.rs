//! A binary heap whose members can be found, moved and removed by number.

/// No place, or no number.
const NONE: u32 = u32::MAX;

/// A heap with the least key first. Members are small numbers, each in it at most once.
#[derive(Debug)]
pub(super) struct IndexedHeap<K> {
    items: Vec<(K, u32)>,
    /// Where each member is in `items`.
    places: Vec<u32>,
}

impl<K> Default for IndexedHeap<K> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            places: Vec::new(),
        }
    }
}

impl<K: Copy + Ord> IndexedHeap<K> {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Returns the member with the least key.
    pub(super) fn first(&self) -> Option<(K, u32)> {
        self.items.first().copied()
    }

    /// Returns the member with the least key other than `member`. Only the root and its children
    /// can be that.
    pub(super) fn first_except(&self, member: u32) -> Option<(K, u32)> {
        match self.first() {
            Some((_, first)) if first == member => self.items.iter().skip(1).take(2).copied().min(),
            other => other,
        }
    }

    /// Adds a member or changes its key.
    pub(super) fn set(&mut self, member: u32, key: K) {
        if self.places.len() <= member as usize {
            self.places.resize(member as usize + 1, NONE);
        }
        let place = match self.places[member as usize] {
            NONE => {
                self.items.push((key, member));
                self.items.len() - 1
            }
            place => {
                self.items[place as usize].0 = key;
                place as usize
            }
        };
        let place = self.rise(place);
        self.sink(place);
    }

    /// Removes a member, if it is in the heap.
    pub(super) fn remove(&mut self, member: u32) {
        let Some(place) = self.places.get_mut(member as usize) else {
            return;
        };
        let place = match std::mem::replace(place, NONE) {
            NONE => return,
            place => place as usize,
        };
        self.items.swap_remove(place);
        if place < self.items.len() {
            let place = self.rise(place);
            self.sink(place);
        }
    }

    /// Removes all members.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.places.fill(NONE);
    }

    /// Returns all members with their keys, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, u32)> + '_ {
        self.items.iter().copied()
    }

    /// Returns the number of members.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    fn rise(&mut self, mut place: usize) -> usize {
        let item = self.items[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.items[parent] <= item {
                break;
            }
            self.put(place, self.items[parent]);
            place = parent;
        }
        self.put(place, item);
        place
    }

    fn sink(&mut self, mut place: usize) {
        let item = self.items[place];
        loop {
            let left = 2 * place + 1;
            let Some(mut least) = self.items.get(left).copied() else {
                break;
            };
            let mut child = left;
            if let Some(right) = self.items.get(left + 1).copied()
                && right < least
            {
                (least, child) = (right, left + 1);
            }
            if item <= least {
                break;
            }
            self.put(place, least);
            place = child;
        }
        self.put(place, item);
    }

    fn put(&mut self, place: usize, item: (K, u32)) {
        self.items[place] = item;
        self.places[item.1 as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A map that is searched for its least value is the model.
        #[test]
        fn agrees_with_a_map(
            steps in prop::collection::vec(
                (0u32..12, prop::option::weighted(0.7, 0i64..20)),
                0..80,
            ),
        ) {
            let mut heap = IndexedHeap::new();
            let mut model = BTreeMap::new();
            for (member, key) in steps {
                match key {
                    Some(key) => {
                        heap.set(member, key);
                        model.insert(member, key);
                    }
                    None => {
                        heap.remove(member);
                        model.remove(&member);
                    }
                }
                let least = |except: Option<u32>| {
                    let others = model.iter().filter(|(member, _)| Some(**member) != except);
                    others.map(|(member, key)| (*key, *member)).min()
                };
                prop_assert_eq!(heap.first(), least(None));
                prop_assert_eq!(heap.len(), model.len());
                for except in 0..12 {
                    prop_assert_eq!(heap.first_except(except), least(Some(except)));
                }
            }
        }
    }
}
