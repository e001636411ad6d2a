//! A wire as couriers and the registry see it.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::exchange::courier::{Carried, Delivered};
use crate::exchange::outbox::Taken;
use crate::exchange::registry::{Holds, Listed, Short};
use crate::fault::Fault;
use crate::net::Stream;

use super::ending::Ending;
use super::push::LINGER;
use super::shared::{End, Guarded, Wire};

impl<T: Guarded, E: Ending> Carried for Wire<T, E> {
    fn stream(&self) -> &Stream {
        self.transport.stream()
    }

    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.transport.write_now(bytes)
    }

    fn next_delivery(&self) -> Option<Taken> {
        self.out.lock().outbox.take()
    }

    fn end_delivery(&self, taken: Taken, delivered: Delivered) -> bool {
        let mut out = self.out.lock();
        if matches!(out.end, End::Dead(_)) {
            // It was cut meanwhile: the outbox knows nothing of these bytes any more.
            return false;
        }
        let sent = match delivered {
            Delivered::Sent(sent) => sent,
            Delivered::Broken => {
                self.die(&mut out, Fault::ClientGoneData);
                return false;
            }
            Delivered::Lost => {
                self.die(&mut out, Fault::Internal);
                return false;
            }
        };
        out.outbox.give_back(taken, sent);
        // A writer that is at the file's end needs it as it is.
        let used_up = if out.writer.is_sending() {
            None
        } else {
            out.outbox.used_up()
        };
        if sent > 0 {
            self.note_taken(&mut out, sent);
        }
        while let Some(ending) = out.outbox.delivered() {
            ending.complete();
        }
        // Nor are bytes on their way to the outbox.
        if out.is_delivered() && !out.turn.is_busy() {
            self.delivered(&mut out);
        }
        if !out.is_occupied() {
            self.wake_awaiting(&out);
        }
        if out.writer.is_holding() {
            self.room.notify_all();
        }
        drop(out);
        // Outside the lock: closing a file may take long.
        drop(used_up);
        true
    }

    fn fail_delivery(&self) {
        self.die(&mut self.out.lock(), Fault::Internal);
        self.hub.answer_lost();
    }

    fn release_courier(self: Arc<Self>) {
        let mut out = self.out.lock();
        out.is_with_courier = false;
        out.idle_since = Instant::now();
        if !matches!(out.end, End::Dead(_)) {
            self.call_courier(&mut out);
        }
    }

    fn look_at_pace(&self, now: Instant) {
        // A thread that has the lock sends, or looks by itself.
        if let Some(mut out) = self.out.try_lock()
            && self.is_too_slow(&mut out, now)
        {
            self.die(&mut out, Fault::SlowClient);
        }
    }
}

impl<T: Guarded, E: Ending> Listed for Wire<T, E> {
    fn idle_since(&self) -> Option<Instant> {
        self.idle_since()
    }

    fn is_reading(&self) -> bool {
        self.is_reading()
    }

    fn is_dismissed(&self) -> bool {
        self.is_dismissed()
    }

    fn dismiss(&self) {
        self.dismiss();
    }

    fn idle_at(&self) -> u64 {
        self.marks.idle_at.load(Ordering::Relaxed)
    }

    fn is_fresh(&self, now_ms: u64) -> bool {
        self.marks.is_fresh(now_ms)
    }

    fn end_lingering(&self, now_ms: u64) {
        if self.marks.has_lingered(now_ms, LINGER.as_millis() as u64) {
            self.transport.shutdown(Shutdown::Both);
        }
    }

    fn stands_still(&self, short: Short, now_ms: u64) -> Option<(Holds, Duration)> {
        let write_limit = self.listener().timeout.write;
        self.marks.stands_still(short, now_ms, write_limit)
    }

    fn condemn(&self) {
        self.marks.condemned.store(true, Ordering::Relaxed);
        let reading = self.marks.read_at.load(Ordering::Relaxed) != 0;
        match self.out.try_lock() {
            // Its session tells it why.
            Some(out) if reading && out.is_delivered() => self.transport.shutdown(Shutdown::Read),
            Some(mut out) => {
                self.die(&mut out, Fault::GaveWayResponse);
            }
            None => {
                self.transport.reset_on_close();
                self.transport.shutdown(Shutdown::Both);
            }
        }
    }

    fn abandon(&self, fault: Fault) {
        // Not `lock_to_write`: the thread that sends may wait for this one.
        let mut out = self.out.lock();
        if out.turn.is_busy() || !out.is_delivered() {
            self.reset(&mut out, fault);
        }
    }
}
