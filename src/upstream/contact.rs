//! How a server is connected to: whether it can be reached, whose turn it is to find out, and
//! whether connections are worth keeping (`connect`).
//!
//! Most servers keep a connection open after a response, and hold thousands. Others work on one
//! connection at a time, and to those an idle connection is a client that does not come to the
//! point: the request on another connection waits behind it (pre-fork servers such as Apache's or
//! gunicorn's `sync` workers). Nobody has to know which: with `connect = "auto"` the first
//! responses show it.
//!
//! Pure: the callers give the time, and do what the result says.

use std::time::{Duration, Instant};

use crate::base::time::after;
use crate::plan::Connect;

/// After a failed attempt to connect the server is left alone for so long, twice as long after
/// each further one, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest time between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A server that ended connections before any request came is served on demand for so long. Then
/// it may have been a restart, which ends all connections.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What connections of a server are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Not known yet: a worker connects for its first request, and keeps the connection as long as
    /// the server does.
    Unsettled,
    /// All workers are connected before they are needed.
    Warm,
    /// A worker connects for a request.
    OnDemand,
}

/// Why connections are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The server ends connections after a response.
    EndsUsed,
    /// The server ends connections before any request has come.
    EndsUnused,
}

/// What was learned of a server just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    /// It leaves connections open.
    Keeps,
    /// It does not, and that is told for the first time.
    Ends(Reason),
}

/// Whether a worker may try to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may. If it is alone, the others wait for what comes of it.
    Now { is_alone: bool },
    /// The server could not be reached, and is left alone until then.
    At(Instant),
    /// Another worker is finding out whether it can be reached.
    Wait,
}

/// What a success is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Nothing new.
    AsBefore,
    /// Others wait to know.
    First,
    /// An attempt had failed before.
    Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// No attempt has ended.
    Unknown,
    /// The last attempt succeeded.
    Reached,
    /// The last attempt failed, perhaps because the balancer itself lacks something. The next is
    /// due then.
    Failed {
        due: Instant,
        pause: Duration,
        is_ours: bool,
    },
}

/// How a server is connected to.
#[derive(Debug)]
pub(super) struct Contact {
    setting: Connect,
    reach: Reach,
    /// A worker is finding out.
    is_tried: bool,
    learned: Learned,
    /// It was told that its connections are not kept.
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learned {
    Nothing,
    Keeps,
    Ends(Reason, Instant),
}

impl Contact {
    /// Nothing is known of the server.
    pub(super) fn new(setting: Connect) -> Self {
        Self {
            setting,
            reach: Reach::Unknown,
            is_tried: false,
            learned: Learned::Nothing,
            is_told: false,
        }
    }

    /// What connections are worth.
    pub(super) fn manner(&self) -> Manner {
        match (self.setting, self.learned) {
            (Connect::Warm, _) | (Connect::Auto, Learned::Keeps) => Manner::Warm,
            (Connect::OnDemand, _) | (Connect::Auto, Learned::Ends(..)) => Manner::OnDemand,
            (Connect::Auto, Learned::Nothing) => Manner::Unsettled,
        }
    }

    /// Returns whether the server ends connections before they are used, and none after.
    pub(super) fn keeps_used(&self) -> bool {
        matches!(self.learned, Learned::Ends(Reason::EndsUnused, _))
    }

    /// The last attempt to connect succeeded.
    pub(super) fn is_reached(&self) -> bool {
        self.reach == Reach::Reached
    }

    /// The last attempt to connect failed, and not for something that the balancer itself lacks.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.reach, Reach::Failed { is_ours: false, .. })
    }

    /// The settings have changed, perhaps to the same: what was learned is settled again.
    pub(super) fn set(&mut self, setting: Connect) {
        self.setting = setting;
        self.learned = Learned::Nothing;
        self.is_told = false;
    }

    // === Whether it can be reached

    /// Whether a worker may try to connect now. A worker that may, alone, ends that by
    /// [`Self::reached`], [`Self::failed`] or [`Self::give_up`].
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        match self.reach {
            Reach::Reached => return Turn::Now { is_alone: false },
            Reach::Unknown if self.is_tried => return Turn::Wait,
            Reach::Failed { due, .. } if now < due => return Turn::At(due),
            Reach::Failed { .. } if self.is_tried => return Turn::At(after(now, FIRST_PAUSE)),
            Reach::Unknown | Reach::Failed { .. } => {}
        }
        self.is_tried = true;
        Turn::Now { is_alone: true }
    }

    /// An attempt succeeded.
    pub(super) fn reached(&mut self) -> Reached {
        self.is_tried = false;
        match std::mem::replace(&mut self.reach, Reach::Reached) {
            Reach::Reached => Reached::AsBefore,
            Reach::Unknown => Reached::First,
            Reach::Failed { .. } => {
                // It may be another program now.
                self.learned = Learned::Nothing;
                Reached::Again
            }
        }
    }

    /// An attempt failed, perhaps because the balancer itself lacks something (`is_ours`). Returns
    /// whether that is news.
    pub(super) fn failed(&mut self, is_ours: bool, now: Instant) -> bool {
        self.is_tried = false;
        let (pause, is_news) = match self.reach {
            // Of several that were made at once, one counts.
            Reach::Failed { due, .. } if now < due => return false,
            Reach::Failed { pause, .. } => ((pause * 2).min(LONGEST_PAUSE), false),
            Reach::Unknown | Reach::Reached => (FIRST_PAUSE, true),
        };
        let due = after(now, pause);
        self.reach = Reach::Failed {
            due,
            pause,
            is_ours,
        };
        is_news
    }

    /// An attempt that was made alone ended without a result.
    pub(super) fn give_up(&mut self) {
        self.is_tried = false;
    }

    // === What connections are worth

    /// A response left its connection open.
    pub(super) fn left_open(&mut self, now: Instant) -> Option<Lesson> {
        match self.learned {
            Learned::Keeps => return None,
            // That it keeps those which were used is no news.
            Learned::Ends(Reason::EndsUnused, since) if now < after(since, REMEMBERED) => {
                return None;
            }
            Learned::Nothing | Learned::Ends(..) => {}
        }
        self.learned = Learned::Keeps;
        (self.setting == Connect::Auto).then_some(Lesson::Keeps)
    }

    /// The server ended a connection, for this reason: after the first response over it, or before
    /// any request.
    pub(super) fn ended(&mut self, reason: Reason, now: Instant) -> Option<Lesson> {
        match (self.learned, reason) {
            // Single responses of a server that keeps connections may end one.
            (Learned::Keeps | Learned::Ends(..), Reason::EndsUsed) => return None,
            // What was not kept open could not be ended.
            (Learned::Nothing | Learned::Ends(..), Reason::EndsUnused) => return None,
            (Learned::Nothing, Reason::EndsUsed) | (Learned::Keeps, Reason::EndsUnused) => {}
        }
        self.learned = Learned::Ends(reason, now);
        let is_news = self.setting == Connect::Auto && !std::mem::replace(&mut self.is_told, true);
        is_news.then_some(Lesson::Ends(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn contact(setting: Connect) -> (Contact, Instant) {
        (Contact::new(setting), Instant::now())
    }

    #[test]
    fn one_worker_finds_out_whether_the_server_can_be_reached() {
        let (mut contact, now) = contact(Connect::Auto);
        assert_eq!(contact.turn(now), Turn::Now { is_alone: true });
        assert_eq!(contact.turn(now), Turn::Wait);
        assert_eq!(contact.reached(), Reached::First);
        assert_eq!(contact.turn(now), Turn::Now { is_alone: false });
        assert_eq!(contact.turn(now), Turn::Now { is_alone: false });
        assert_eq!(contact.reached(), Reached::AsBefore);
        assert!(contact.is_reached() && !contact.has_failed());
    }

    #[test]
    fn a_server_that_fails_is_tried_less_and_less_often_by_one_worker_at_a_time() {
        let (mut contact, mut now) = contact(Connect::Warm);
        let mut pauses = Vec::new();
        for attempt in 0..6 {
            assert_eq!(contact.turn(now), Turn::Now { is_alone: true });
            assert!(matches!(contact.turn(now), Turn::Wait | Turn::At(_)));
            assert_eq!(contact.failed(false, now), attempt == 0, "news once");
            assert!(contact.has_failed() && !contact.is_reached());
            let Turn::At(due) = contact.turn(now) else {
                panic!("it is left alone")
            };
            pauses.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 500, 500]);
        assert_eq!(contact.turn(now), Turn::Now { is_alone: true });
        assert_eq!(contact.turn(now), Turn::At(now + FIRST_PAUSE));
        contact.give_up();
        assert_eq!(contact.turn(now), Turn::Now { is_alone: true });
        assert_eq!(contact.reached(), Reached::Again);
    }

    #[test]
    fn of_several_attempts_that_fail_together_one_counts() {
        let (mut contact, now) = contact(Connect::Warm);
        contact.reached();
        assert!(contact.failed(false, now));
        assert!(!contact.failed(false, now + MS));
        assert_eq!(contact.turn(now + MS), Turn::At(now + FIRST_PAUSE));
    }

    #[test]
    fn what_the_balancer_lacks_is_no_failure_of_the_server() {
        let (mut contact, now) = contact(Connect::Warm);
        assert!(contact.failed(true, now));
        assert!(!contact.has_failed() && !contact.is_reached());
        assert_eq!(contact.turn(now), Turn::At(now + FIRST_PAUSE));
    }

    #[test]
    fn a_response_that_leaves_its_connection_open_warms_the_server() {
        let (mut contact, now) = contact(Connect::Auto);
        assert_eq!(contact.manner(), Manner::Unsettled);
        assert_eq!(contact.left_open(now), Some(Lesson::Keeps));
        assert_eq!(contact.manner(), Manner::Warm);
        assert_eq!(contact.left_open(now), None);
        // A single response that ends its connection changes nothing.
        assert_eq!(contact.ended(Reason::EndsUsed, now), None);
        assert_eq!(contact.manner(), Manner::Warm);
    }

    #[test]
    fn a_server_that_ends_its_connections_is_served_on_demand_and_that_is_told_once() {
        let (mut contact, now) = contact(Connect::Auto);
        let ends = Some(Lesson::Ends(Reason::EndsUsed));
        assert_eq!(contact.ended(Reason::EndsUsed, now), ends);
        assert_eq!(contact.manner(), Manner::OnDemand);
        assert!(!contact.keeps_used());
        assert_eq!(contact.ended(Reason::EndsUsed, now), None);
        // The first was a page of an error, say.
        assert_eq!(contact.left_open(now), Some(Lesson::Keeps));
        assert_eq!(contact.manner(), Manner::Warm);
        assert_eq!(contact.ended(Reason::EndsUnused, now), None, "it was told");
        assert_eq!(contact.manner(), Manner::OnDemand);
    }

    #[test]
    fn a_server_that_ends_unused_connections_is_tried_again_after_a_time() {
        let (mut contact, now) = contact(Connect::Auto);
        let _ = contact.left_open(now);
        let ends = Some(Lesson::Ends(Reason::EndsUnused));
        assert_eq!(contact.ended(Reason::EndsUnused, now), ends);
        assert!(contact.keeps_used());
        assert_eq!(contact.left_open(now + REMEMBERED - MS), None);
        assert_eq!(contact.manner(), Manner::OnDemand);
        assert_eq!(contact.left_open(now + REMEMBERED), Some(Lesson::Keeps));
        assert_eq!(contact.manner(), Manner::Warm);
    }

    #[test]
    fn what_was_learned_is_forgotten_when_the_server_comes_back_or_settings_change() {
        let (mut contact, now) = contact(Connect::Auto);
        let _ = contact.left_open(now);
        contact.failed(false, now);
        assert_eq!(contact.manner(), Manner::Warm, "until it comes back");
        contact.reached();
        assert_eq!(contact.manner(), Manner::Unsettled);
        let _ = contact.left_open(now);
        contact.set(Connect::OnDemand);
        assert_eq!(contact.manner(), Manner::OnDemand);
        contact.set(Connect::Auto);
        assert_eq!(contact.manner(), Manner::Unsettled);
    }

    #[test]
    fn where_the_operator_has_decided_nothing_is_learned() {
        for (setting, manner) in [
            (Connect::Warm, Manner::Warm),
            (Connect::OnDemand, Manner::OnDemand),
        ] {
            let (mut contact, now) = contact(setting);
            assert_eq!(contact.ended(Reason::EndsUsed, now), None);
            assert_eq!(contact.manner(), manner);
            assert_eq!(contact.left_open(now), None);
            assert_eq!(contact.ended(Reason::EndsUnused, now), None);
            assert_eq!(contact.manner(), manner);
        }
    }
}
