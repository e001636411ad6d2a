//! A switch for tests: threads panic at chosen points. Without the feature `panic_points` this
//! costs nothing.
//!
//! `JUGGLER_PANIC_AT=worker.taken=3x5,tick=1x1` makes every third passage of `worker.taken` panic,
//! at most five times in all, and the first passage of `tick`.

/// A place where a thread may be made to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A worker is about to connect.
    WorkerConnect,
    /// A worker is about to wait for a job.
    WorkerIdle,
    /// A worker has taken an exchange.
    WorkerTaken,
    /// A worker has sent a request.
    WorkerSent,
    /// A worker has read the head of a final response.
    WorkerHead,
    /// A worker has given a part of a response to the client.
    WorkerRelay,
    /// A worker has ended an exchange, and the dispatcher does not know yet.
    WorkerEnd,
    /// A worker has sent a probe.
    WorkerProbe,
    /// A worker has sent several requests at once.
    WorkerBatch,
    /// A thread is about to answer an exchange that the dispatcher refuses.
    Refuse,
    /// A thread is about to send a request for a waiting worker.
    SlotSend,
    /// A session thread has accepted a client.
    SessionAccept,
    /// A session has read the head of a request.
    SessionHead,
    /// A session is reading the body of a request.
    SessionBody,
    /// A courier is with a client.
    CourierDeliver,
    /// A courier checks how fast all clients are.
    CourierPace,
    /// The reaper checks deadlines.
    ReaperTick,
    /// The reaper checks the deadlines of one cluster.
    ClusterTick,
    /// The prober checks health.
    ProberLook,
    /// The prober checks the health of one cluster.
    ClusterLook,
    /// A lost exchange is about to be answered.
    AnswerLost,
    /// A resolver looks up a name.
    ResolverLook,
    /// The tick begins a round.
    Tick,
    /// A log has lines to write.
    LogWrite,
    /// A thread is about to probe a server over a connection of its own.
    ProbeApart,
    /// A signal has come.
    Signal,
    /// A command is about to be carried out.
    Command,
    /// A thread is about to send something to a client, outside the lock.
    WireSend,
    /// A thread is about to wait until a client takes something.
    WireWait,
}

impl Point {
    /// All points.
    pub const ALL: [Self; 29] = [
        Self::WorkerConnect,
        Self::WorkerIdle,
        Self::WorkerTaken,
        Self::WorkerSent,
        Self::WorkerHead,
        Self::WorkerRelay,
        Self::WorkerEnd,
        Self::WorkerProbe,
        Self::WorkerBatch,
        Self::Refuse,
        Self::SlotSend,
        Self::SessionAccept,
        Self::SessionHead,
        Self::SessionBody,
        Self::CourierDeliver,
        Self::CourierPace,
        Self::ReaperTick,
        Self::ClusterTick,
        Self::ProberLook,
        Self::ClusterLook,
        Self::AnswerLost,
        Self::ResolverLook,
        Self::Tick,
        Self::LogWrite,
        Self::ProbeApart,
        Self::Signal,
        Self::Command,
        Self::WireSend,
        Self::WireWait,
    ];

    /// Returns the point's name in `JUGGLER_PANIC_AT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WorkerConnect => "worker.connect",
            Self::WorkerIdle => "worker.idle",
            Self::WorkerTaken => "worker.taken",
            Self::WorkerSent => "worker.sent",
            Self::WorkerHead => "worker.head",
            Self::WorkerRelay => "worker.relay",
            Self::WorkerEnd => "worker.end",
            Self::WorkerProbe => "worker.probe",
            Self::WorkerBatch => "worker.batch",
            Self::Refuse => "refuse",
            Self::SlotSend => "slot.send",
            Self::SessionAccept => "session.accept",
            Self::SessionHead => "session.head",
            Self::SessionBody => "session.body",
            Self::CourierDeliver => "courier.deliver",
            Self::CourierPace => "courier.pace",
            Self::ReaperTick => "reaper.tick",
            Self::ClusterTick => "cluster.tick",
            Self::ProberLook => "prober.look",
            Self::ClusterLook => "cluster.look",
            Self::AnswerLost => "answer.lost",
            Self::ResolverLook => "resolver.look",
            Self::Tick => "tick",
            Self::LogWrite => "log.write",
            Self::ProbeApart => "probe.apart",
            Self::Signal => "signal",
            Self::Command => "command",
            Self::WireSend => "wire.send",
            Self::WireWait => "wire.wait",
        }
    }

    /// Panics here if `JUGGLER_PANIC_AT` says so.
    #[cfg(not(feature = "panic_points"))]
    #[inline(always)]
    pub fn pass(self) {}

    /// Panics here if `JUGGLER_PANIC_AT` says so.
    #[cfg(feature = "panic_points")]
    #[allow(clippy::panic, reason = "that is what it is for")]
    pub fn pass(self) {
        if switch::is_due(self) {
            panic!("JUGGLER_PANIC_AT: {}", self.name());
        }
    }
}

#[cfg(feature = "panic_points")]
mod switch {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Point;

    /// When a point panics.
    struct Rule {
        every: u64,
        most: u64,
        passages: AtomicU64,
    }

    static RULES: LazyLock<Vec<Option<Rule>>> = LazyLock::new(|| {
        let text = std::env::var("JUGGLER_PANIC_AT").unwrap_or_default();
        Point::ALL
            .iter()
            .map(|point| rule(&text, point.name()))
            .collect()
    });

    fn rule(text: &str, name: &str) -> Option<Rule> {
        let (_, rule) = text
            .split(',')
            .filter_map(|part| part.split_once('='))
            .find(|(of, _)| *of == name)?;
        let (every, most) = rule
            .split_once('x')
            .unwrap_or((rule, "18446744073709551615"));
        Some(Rule {
            every: every.parse().ok().filter(|every| *every > 0)?,
            most: most.parse().ok()?,
            passages: AtomicU64::new(0),
        })
    }

    pub(super) fn is_due(point: Point) -> bool {
        let Some(Some(rule)) = RULES.get(point as usize) else {
            return false;
        };
        let passage = rule.passages.fetch_add(1, Ordering::Relaxed) + 1;
        passage % rule.every == 0 && passage / rule.every <= rule.most
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn rules_are_read_by_their_names() {
            let of = |name| {
                rule("tick=1x2,worker.taken=30,bad=x", name).map(|rule| (rule.every, rule.most))
            };
            assert_eq!(of("tick"), Some((1, 2)));
            assert_eq!(of("worker.taken"), Some((30, u64::MAX)));
            assert_eq!(
                (of("bad"), of("worker"), of("log.write")),
                (None, None, None)
            );
        }
    }
}
