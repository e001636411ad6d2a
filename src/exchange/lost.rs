//! Exchanges whose holders have let go of them without an end: by a panic, or by a fault in the
//! program. They are answered and logged like all others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::panic_points::Point;
use crate::fault::Fault;

use super::{Answer, Client, Exchange, Hub};

/// Exchanges that nobody has.
#[derive(Debug, Default)]
pub(super) struct Lost(Mutex<Vec<Exchange>>);

impl Lost {
    /// Takes one in. No other lock is taken: the thread that lets go of it may hold any.
    pub(super) fn add(&self, exchange: Exchange) {
        self.0.lock().push(exchange);
    }

    fn take(&self) -> Option<Exchange> {
        self.0.lock().pop()
    }
}

impl Hub {
    /// Ends the exchanges that nobody has: with 500, or by a cut where the response has begun. To
    /// be called by a thread that holds no lock, after each panic and every now and then.
    pub fn answer_lost(&self) {
        while let Some(mut exchange) = self.lost.take() {
            let client = Arc::clone(exchange.client());
            let losses = exchange.losses;
            exchange.losses += 1;
            // The answer to one may panic as well: that one comes here again, and the others are
            // answered.
            let ended = catch_unwind(AssertUnwindSafe(|| match losses {
                0 => client.end_lost(exchange),
                1 => {
                    // Without a byte, and without waiting for a thread that writes: that may be
                    // what has panicked.
                    client.abandon(Fault::Internal);
                    exchange.fault = Some(Fault::Internal);
                    exchange.complete();
                }
                // Not even that can be done.
                _ => exchange.forget(),
            }));
            if ended.is_err() {
                log::warn!("an exchange that was lost could not be answered");
            }
        }
    }
}

impl Client {
    fn end_lost(self: &Arc<Self>, mut exchange: Exchange) {
        exchange.fault = Some(Fault::Internal);
        Point::AnswerLost.pass();
        match self.progress_of(exchange.id) {
            // Its turn has not come, or is over.
            None => exchange.complete(),
            Some(true) => exchange.cut(),
            Some(false) => {
                exchange.answer(&Answer::fault(Fault::Internal), None, true);
            }
        }
    }
}
