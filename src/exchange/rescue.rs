//! What becomes of an exchange that no thread holds any more.

use std::sync::Arc;

use crate::base::panic_points::Point;
use crate::fault::Fault;

use super::answer::Answer;
use super::exchange::Exchange;
use super::lost::Orphan;
use super::registry::Listed;

impl Orphan for Exchange {
    fn end(mut self: Box<Self>) {
        let losses = self.losses;
        self.losses += 1;
        match losses {
            0 => self.end_lost(),
            1 => {
                // Without a byte, and without waiting for a thread that writes: that may be what
                // has panicked.
                Arc::clone(self.client()).abandon(Fault::Internal);
                self.fault = Some(Fault::Internal);
                (*self).complete();
            }
            // Not even that can be done.
            _ => (*self).forget(),
        }
    }
}

impl Exchange {
    fn end_lost(mut self) {
        self.fault = Some(Fault::Internal);
        Point::AnswerLost.pass();
        match self.client().progress_of(self.id) {
            // Its turn has not come, or is over.
            None => self.complete(),
            Some(true) => self.cut(),
            Some(false) => {
                self.answer(&Answer::fault(Fault::Internal), None, true);
            }
        }
    }
}
