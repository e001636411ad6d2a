//! A client as couriers and the registry see it.

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::exchange::outbox::Taken;
use crate::fault::Fault;

use super::{Client, End, Pace, Reply};

/// A courier that has delivered for fewer milliseconds than this says nothing about its client's speed.
const JUDGED_AFTER: u64 = 500;

impl Client {
    /// The next bytes to deliver; `None` once there are none, and then the courier is released.
    pub(in crate::exchange) fn next_delivery(&self) -> Option<Taken> {
        let mut reply = self.reply.lock();
        match reply.outbox.take() {
            Ok(Some(taken)) => Some(taken),
            Ok(None) => {
                self.release_courier(&mut reply);
                None
            }
            Err(error) => {
                log::error!("spool: reading back failed: {error}");
                self.release_courier(&mut reply);
                self.die(&mut reply, Fault::Internal);
                None
            }
        }
    }

    /// A courier has come. (While a client waits for one, its pace is not its fault.)
    pub(in crate::exchange) fn greet_courier(&self, now: Instant) {
        if self.courier_since.load(Ordering::Relaxed) == 0 {
            self.courier_since.store(self.hub.uptime_ms(now), Ordering::Relaxed);
        }
    }

    /// So many of the bytes taken are with the kernel, after such a time. `false` if that is too slow.
    pub(in crate::exchange) fn count_delivery(&self, bytes: usize, took: Duration) -> bool {
        self.courier_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut reply = self.reply.lock();
        if matches!(reply.end, End::Dead(_)) {
            // It was cut meanwhile: the outbox knows nothing of these bytes any more.
            return false;
        }
        reply.pace.spent += took;
        reply.pace.sent += bytes as u64;
        let patience = self.listener.timeout.write;
        if reply.pace.spent >= patience {
            let least = (self.listener.limit.min_rate as f64 * patience.as_secs_f64()).max(1.0);
            if (reply.pace.sent as f64) < least {
                return false;
            }
            reply.pace = Pace::default();
        }
        reply.outbox.sent(bytes);
        while let Some(exchange) = reply.outbox.delivered() {
            exchange.complete();
        }
        if reply.outbox.unsent() == 0 && reply.open.is_none() {
            self.delivered(&mut reply);
        }
        if reply.awaited && !reply.is_occupied() {
            self.turned.notify_one();
        }
        true
    }

    /// The courier has to go on to others and will be back; so much of what it took is sent.
    pub(in crate::exchange) fn interrupt_delivery(&self, taken: Taken, done: usize) {
        let mut reply = self.reply.lock();
        if !matches!(reply.end, End::Dead(_)) {
            reply.outbox.give_back(taken, done);
        }
    }

    /// The courier gives up.
    pub(in crate::exchange) fn fail_delivery(&self, fault: Fault) {
        let mut reply = self.reply.lock();
        self.release_courier(&mut reply);
        let fault = if self.condemned.load(Ordering::Relaxed) {
            Fault::SlowClient
        } else {
            fault
        };
        self.die(&mut reply, fault);
    }

    fn release_courier(&self, reply: &mut Reply) {
        reply.courier = false;
        reply.idle_since = Instant::now();
        self.courier_since.store(0, Ordering::Relaxed);
    }

    /// The process ends: what is not finished is to be seen as cut.
    pub(in crate::exchange) fn abandon(&self, fault: Fault) {
        let mut reply = self.lock_to_write();
        if reply.open.is_some() || !reply.is_delivered() {
            self.reset(&mut reply, fault);
        }
    }

    // === For the registry, which may not wait for `reply`

    pub(in crate::exchange) fn idle_at(&self) -> u64 {
        self.idle_at.load(Ordering::Relaxed)
    }

    pub(in crate::exchange) fn end_lingering(&self, now_ms: u64) {
        let until = self.linger_until.load(Ordering::Relaxed);
        if until != 0 && now_ms >= until {
            self.stream.shutdown(Shutdown::Both);
        }
    }

    /// How well it takes what a courier brings, least first; `None` without a courier. Who has had one for a moment only is not
    /// judged before all others, and of equals the one who has had it longest is the slowest.
    pub(in crate::exchange) fn progress(&self, now_ms: u64) -> Option<(bool, u64, u64)> {
        let since = self.courier_since.load(Ordering::Relaxed);
        let sent = self.courier_sent.load(Ordering::Relaxed);
        let passed = now_ms.saturating_sub(since);
        (since != 0).then(|| (passed < JUDGED_AFTER, sent.saturating_mul(1024) / (passed + 1), since))
    }

    /// Cuts it to make room, here and now if possible: its courier may come to it only when the room is used up.
    pub(in crate::exchange) fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
        // Who calls holds another client's lock, or this one's.
        if let Some(mut reply) = self.reply.try_lock() {
            self.die(&mut reply, Fault::SlowClient);
        } else {
            self.stream.reset_on_close();
            self.stream.shutdown(Shutdown::Both);
        }
    }
}
