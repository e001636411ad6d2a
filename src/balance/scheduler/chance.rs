//! The first of the list that can: fills one server before it uses the next.

use super::{Scheduler, View, Wish, others};
use crate::balance::random::Random;

#[derive(Debug)]
pub(super) struct Chance;

impl Scheduler for Chance {
    fn choose(&mut self, view: View<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        others(view, wish).next()
    }
}
