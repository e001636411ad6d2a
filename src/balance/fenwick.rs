//! Weights of small numbers, for drawing in proportion: a binary indexed tree.

/// Weights by member.
#[derive(Debug, Default)]
pub(super) struct Fenwick {
    weights: Vec<u64>,
    /// `sums[i]` is the sum of the last `lowest set bit of i` weights up to member `i - 1`.
    sums: Vec<u64>,
    total: u64,
}

impl Fenwick {
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn weight(&self, member: u32) -> u64 {
        self.weights
            .get(member as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Sets a weight; 0 removes the member.
    pub(super) fn set(&mut self, member: u32, weight: u64) {
        let member = member as usize;
        if member >= self.weights.len() {
            self.grow(member + 1);
        }
        let old = std::mem::replace(&mut self.weights[member], weight);
        self.total = self.total - old + weight;
        let mut place = member + 1;
        while place < self.sums.len() {
            self.sums[place] = self.sums[place] - old + weight;
            place += place & place.wrapping_neg();
        }
    }

    /// Returns the member in whose part of all weights this number lies.
    pub(super) fn find(&self, mut number: u64) -> Option<u32> {
        if number >= self.total {
            return None;
        }
        let mut place = 0;
        let mut step = self.sums.len().next_power_of_two() / 2;
        while step > 0 {
            if let Some(sum) = self.sums.get(place + step)
                && *sum <= number
            {
                number -= sum;
                place += step;
            }
            step /= 2;
        }
        Some(place as u32)
    }

    fn grow(&mut self, members: usize) {
        // It grows to a power of two, so that existing sums stay valid and growing is rare.
        let old = std::mem::take(&mut self.weights);
        let room = members.next_power_of_two();
        self.weights = vec![0; room];
        self.sums = vec![0; room + 1];
        self.total = 0;
        for (member, weight) in old
            .into_iter()
            .enumerate()
            .filter(|(_, weight)| *weight > 0)
        {
            self.set(member as u32, weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((0u32..40, 0u64..9), 0..60)) {
            let mut tree = Fenwick::default();
            let mut list = [0u64; 40];
            for (member, weight) in steps {
                tree.set(member, weight);
                list[member as usize] = weight;
                prop_assert_eq!(tree.total(), list.iter().sum::<u64>());
            }
            let repeat = |(member, weight): (usize, &u64)| vec![member as u32; *weight as usize];
            for (number, member) in list.iter().enumerate().flat_map(repeat).enumerate() {
                prop_assert_eq!(tree.find(number as u64), Some(member));
            }
            prop_assert_eq!(tree.find(tree.total()), None);
        }
    }
}
