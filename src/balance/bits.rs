//! A set of small numbers, searched a word at a time.

const WORD: usize = u64::BITS as usize;

/// A set of servers.
#[derive(Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl Bits {
    pub(super) fn insert(&mut self, member: u32) {
        let (word, bit) = split(member);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.count += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    pub(super) fn remove(&mut self, member: u32) {
        let (word, bit) = split(member);
        if let Some(word) = self.words.get_mut(word) {
            self.count -= usize::from(*word & bit != 0);
            *word &= !bit;
        }
    }

    /// Removes all members.
    pub(super) fn clear(&mut self) {
        self.words.fill(0);
        self.count = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn contains(&self, member: u32) -> bool {
        let (word, bit) = split(member);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Adds or removes a member. Returns whether that changed the set.
    pub(super) fn set(&mut self, member: u32, there: bool) -> bool {
        let before = self.count;
        if there {
            self.insert(member);
        } else {
            self.remove(member);
        }
        self.count != before
    }

    /// Returns all members in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let rest =
                std::iter::successors(Some(*word), |word| Some(word & (word.wrapping_sub(1))));
            rest.take_while(|word| *word != 0)
                .map(move |word| (index * WORD) as u32 + word.trailing_zeros())
        })
    }

    /// Returns the first member from `start` on, wrapping around at the end.
    pub(super) fn next_from(&self, start: u32) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        self.first_from(start).or_else(|| self.first_from(0))
    }

    fn first_from(&self, start: u32) -> Option<u32> {
        let (first, bit) = split(start);
        let words = self.words.get(first..)?;
        for (index, word) in words.iter().enumerate() {
            // In the first word, members below `start` do not count.
            let word = if index == 0 { word & !(bit - 1) } else { *word };
            if word != 0 {
                return Some(((first + index) * WORD) as u32 + word.trailing_zeros());
            }
        }
        None
    }
}

fn split(member: u32) -> (usize, u64) {
    (member as usize / WORD, 1 << (member as usize % WORD))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_tree(
            steps in prop::collection::vec((0u32..200, any::<bool>()), 0..100),
            start in 0u32..300,
        ) {
            let mut bits = Bits::default();
            let mut model = BTreeSet::new();
            for (member, there) in steps {
                if there {
                    bits.insert(member);
                    model.insert(member);
                } else {
                    bits.remove(member);
                    model.remove(&member);
                }
                prop_assert_eq!(bits.len(), model.len());
                let next = model.range(start..).next().or_else(|| model.first()).copied();
                prop_assert_eq!(bits.next_from(start), next);
                prop_assert_eq!(bits.contains(member), model.contains(&member));
                prop_assert!(bits.iter().eq(model.iter().copied()));
            }
        }
    }
}
