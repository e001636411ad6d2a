//! A client as couriers and the registry see it.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::exchange::outbox::Taken;
use crate::exchange::registry::Short;
use crate::fault::Fault;

use super::write::LINGER;
use super::{Client, End, Holds};

/// What became of bytes that a courier had taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::exchange) enum Delivered {
    /// So many are with the kernel.
    Sent(usize),
    /// The connection broke.
    Broken,
    /// They could not be read back.
    Lost,
}

impl Client {
    /// The next bytes to deliver; `None` if there are none at the moment.
    pub(in crate::exchange) fn next_delivery(&self) -> Option<Taken> {
        self.reply.lock().outbox.take()
    }

    /// What became of them. Returns whether the courier may go on.
    pub(in crate::exchange) fn end_delivery(&self, taken: Taken, delivered: Delivered) -> bool {
        let mut reply = self.reply.lock();
        if matches!(reply.end, End::Dead(_)) {
            // It was cut meanwhile: the outbox knows nothing of these bytes any more.
            return false;
        }
        let sent = match delivered {
            Delivered::Sent(sent) => sent,
            Delivered::Broken => {
                self.die(&mut reply, Fault::ClientGoneData);
                return false;
            }
            Delivered::Lost => {
                self.die(&mut reply, Fault::Internal);
                return false;
            }
        };
        reply.outbox.give_back(taken, sent);
        // A writer that is at the file's end needs it as it is.
        let used_up = if reply.sending {
            None
        } else {
            reply.outbox.used_up()
        };
        if sent > 0 {
            self.note_taken(&mut reply, sent);
        }
        while let Some(exchange) = reply.outbox.delivered() {
            exchange.complete();
        }
        // Nor has anybody bytes on their way to the outbox.
        if reply.is_delivered() && reply.open.is_none() {
            self.delivered(&mut reply);
        }
        if reply.awaited && !reply.is_occupied() {
            self.turned.notify_one();
        }
        if reply.in_hand {
            self.room.notify_all();
        }
        drop(reply);
        // Outside the lock: closing a file may take long.
        drop(used_up);
        true
    }

    /// The courier cannot go on.
    pub(in crate::exchange) fn fail_delivery(&self) {
        let mut reply = self.reply.lock();
        self.die(&mut reply, Fault::Internal);
    }

    /// The courier is not with it any more, which it has to be if something has come in between.
    pub(in crate::exchange) fn release_courier(self: &Arc<Self>) {
        let mut reply = self.reply.lock();
        reply.courier = false;
        reply.idle_since = Instant::now();
        if !matches!(reply.end, End::Dead(_)) {
            self.call_courier(&mut reply);
        }
    }

    /// Cuts it if it takes too little of what lies undelivered.
    pub(in crate::exchange) fn look_at_pace(&self, now: Instant) {
        // A thread that has the lock sends, or looks by itself.
        if let Some(mut reply) = self.reply.try_lock()
            && self.is_too_slow(&mut reply, now)
        {
            self.die(&mut reply, Fault::SlowClient);
        }
    }

    /// The process ends: what is not finished is to be seen as cut.
    pub(in crate::exchange) fn abandon(&self, fault: Fault) {
        // Not `lock_to_write`: whoever sends to it may wait for it.
        let mut reply = self.reply.lock();
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
        let read_at = self.read_at.load(Ordering::Relaxed);
        let is_reading = read_at != 0 && now_ms.saturating_sub(read_at) < LINGER.as_millis() as u64;
        if until != 0 && now_ms >= until && !is_reading {
            self.stream.shutdown(Shutdown::Both);
        }
    }

    /// For how long it has made no progress with something of which others lack room, if that is
    /// for a quarter of its time limit: then it is to give way. Those with more of it come first.
    pub(in crate::exchange) fn stands_still(
        &self,
        short: Short,
        now_ms: u64,
    ) -> Option<(Holds, Duration)> {
        let over = |since: u64, limit: Duration| {
            let still = Duration::from_millis(now_ms.saturating_sub(since));
            (since != 0 && still >= limit / 4).then_some(still)
        };
        let takes = || {
            over(
                self.taken_at.load(Ordering::Relaxed),
                self.listener.timeout.write,
            )
        };
        let gives = || {
            let limit = Duration::from_millis(self.read_limit.load(Ordering::Relaxed));
            over(self.read_at.load(Ordering::Relaxed), limit)
        };
        if self.is_condemned() {
            return None;
        }
        let holds = self.holds.load(Ordering::Relaxed);
        let has = |what: Holds| holds == what as u8;
        match short {
            Short::Responses if self.spooled.load(Ordering::Relaxed) => {
                takes().map(|still| (Holds::Spool, still))
            }
            Short::Requests if has(Holds::Spool) => gives().map(|still| (Holds::Spool, still)),
            Short::Requests if has(Holds::Memory) => gives().map(|still| (Holds::Memory, still)),
            Short::Heads if has(Holds::Head) => gives().map(|still| (Holds::Head, still)),
            Short::Sessions => takes().max(gives()).map(|still| (Holds::Nothing, still)),
            Short::Responses | Short::Requests | Short::Heads => None,
        }
    }

    /// Ends it to make room for others, here and now if possible.
    pub(in crate::exchange) fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
        let reading = self.read_at.load(Ordering::Relaxed) != 0;
        match self.reply.try_lock() {
            // Its session tells it why.
            Some(reply) if reading && reply.is_delivered() => self.stream.shutdown(Shutdown::Read),
            Some(mut reply) => self.die(&mut reply, Fault::GaveWayResponse),
            None => {
                self.stream.reset_on_close();
                self.stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// It has to give way to others.
    pub fn is_condemned(&self) -> bool {
        self.condemned.load(Ordering::Relaxed)
    }

    /// Something of a request came now, and the next of it has to come within this time. It `holds`
    /// so much of what all share.
    pub fn note_read(&self, now: Instant, limit: Duration, holds: Holds) {
        self.read_at
            .store(self.hub.uptime_ms(now), Ordering::Relaxed);
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.read_limit.store(limit, Ordering::Relaxed);
        self.holds.store(holds as u8, Ordering::Relaxed);
    }

    /// Nothing of a request is waited for any more.
    pub fn note_read_whole(&self) {
        self.read_at.store(0, Ordering::Relaxed);
        self.holds.store(Holds::Nothing as u8, Ordering::Relaxed);
    }
}
