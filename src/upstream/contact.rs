//! How a server is connected to: whether it can be reached, whose turn it is to find out, and
//! whether connections are worth keeping (`connect`).
//!
//! Most servers keep a connection open after a response, and hold thousands. Others work on one
//! connection at a time, and to those an idle connection is a client that does not come to the
//! point: the request on another connection waits behind it (pre-fork servers such as Apache's or
//! gunicorn's `sync` workers). With `connect = "auto"` nobody has to know which:
//!
//! - A server that ends the connection after a response is connected to for each request.
//! - One that leaves it open keeps it, and gets one more connection as a *trial*: it stays unused
//!   as long as the others suffice. A server that holds it for [`TRIAL`] holds them all, and is
//!   kept warm. One that ends it, twice in a row, gives a thread or a process to each connection
//!   and has a limit for those that do not come to the point. It is connected to on demand, and
//!   keeps a connection only for a moment after a response.
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

/// A server that holds an unused connection for so long does not suffer from it. More than
/// Apache's (20 s) and gunicorn's (5 s) limits for the first request, less than those of servers
/// that wait for many connections at once (nginx and Node: 60 s).
pub(super) const TRIAL: Duration = Duration::from_secs(25);

/// Trials that the server has to end in a row: a single end may be that of the server's restart.
const ENDED_TRIALS: u8 = 2;

/// A server that ended its trials is served on demand for so long. Then it is tried again.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What connections of a server are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Not known yet: a worker connects for its first request, and keeps the connection as long as
    /// the server does. One may be connected for a trial.
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

/// How a trial went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// The server has held the unused connection for [`TRIAL`].
    Held,
    /// The server has ended the unused connection.
    Ended,
    /// The connection was used, or is of no use for another reason.
    NoResult,
}

/// What was learned of a server just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    /// It leaves connections open: a trial can begin.
    Keeps,
    /// It holds unused connections.
    Holds,
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
    /// It leaves connections open. Of those that were not used it has ended as many in a row.
    Keeps {
        is_tried: bool,
        ended: u8,
    },
    Holds,
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
            (Connect::Warm, _) | (Connect::Auto, Learned::Holds) => Manner::Warm,
            (Connect::OnDemand, _) | (Connect::Auto, Learned::Ends(..)) => Manner::OnDemand,
            (Connect::Auto, Learned::Nothing | Learned::Keeps { .. }) => Manner::Unsettled,
        }
    }

    /// Returns whether how an exchange leaves its connection can still teach something.
    pub(super) fn is_learning(&self) -> bool {
        let is_open = matches!(self.learned, Learned::Nothing | Learned::Ends(..));
        self.setting == Connect::Auto && is_open
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
            Learned::Keeps { .. } | Learned::Holds => return None,
            // That it keeps those which were used is no news.
            Learned::Ends(Reason::EndsUnused, since) if now < after(since, REMEMBERED) => {
                return None;
            }
            Learned::Nothing | Learned::Ends(..) => {}
        }
        self.learned = Learned::Keeps {
            is_tried: false,
            ended: 0,
        };
        (self.setting == Connect::Auto).then_some(Lesson::Keeps)
    }

    /// The server ended a connection after the first response over it.
    pub(super) fn ended_used(&mut self, now: Instant) -> Option<Lesson> {
        // Single responses of a server that keeps connections may end one.
        if self.learned != Learned::Nothing {
            return None;
        }
        self.ends(Reason::EndsUsed, now)
    }

    /// Returns whether a worker that has nothing to do is to connect for a trial. It then ends that
    /// by [`Self::end_trial`].
    pub(super) fn begin_trial(&mut self) -> bool {
        match &mut self.learned {
            Learned::Keeps { is_tried, .. } if self.setting == Connect::Auto => {
                !std::mem::replace(is_tried, true)
            }
            _ => false,
        }
    }

    /// A trial is over.
    pub(super) fn end_trial(&mut self, trial: Trial, now: Instant) -> Option<Lesson> {
        let Learned::Keeps { is_tried, ended } = &mut self.learned else {
            return None;
        };
        *is_tried = false;
        match trial {
            Trial::NoResult => None,
            Trial::Held => {
                self.learned = Learned::Holds;
                Some(Lesson::Holds)
            }
            Trial::Ended => {
                *ended += 1;
                (*ended >= ENDED_TRIALS).then(|| self.ends(Reason::EndsUnused, now))?
            }
        }
    }

    fn ends(&mut self, reason: Reason, now: Instant) -> Option<Lesson> {
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
    fn a_server_that_holds_an_unused_connection_is_kept_warm() {
        let (mut contact, now) = contact(Connect::Auto);
        assert!(!contact.begin_trial(), "nothing is known of it");
        assert!(contact.is_learning());
        assert_eq!(contact.left_open(now), Some(Lesson::Keeps));
        assert!(!contact.is_learning());
        assert_eq!(contact.left_open(now), None);
        assert_eq!(contact.manner(), Manner::Unsettled);
        assert!(contact.begin_trial() && !contact.begin_trial(), "one");
        // The connection was needed.
        assert_eq!(contact.end_trial(Trial::NoResult, now), None);
        assert!(contact.begin_trial());
        assert_eq!(contact.end_trial(Trial::Held, now), Some(Lesson::Holds));
        assert_eq!(contact.manner(), Manner::Warm);
        // A single response that ends its connection changes nothing.
        assert_eq!(contact.ended_used(now), None);
        assert_eq!(contact.manner(), Manner::Warm);
        assert!(!contact.begin_trial());
    }

    #[test]
    fn a_server_that_ends_its_connections_is_served_on_demand_and_that_is_told_once() {
        let (mut contact, now) = contact(Connect::Auto);
        let ends = Some(Lesson::Ends(Reason::EndsUsed));
        assert_eq!(contact.ended_used(now), ends);
        assert_eq!(contact.manner(), Manner::OnDemand);
        assert!(!contact.keeps_used() && !contact.begin_trial());
        assert!(contact.is_learning(), "it may have been a page of an error");
        assert_eq!(contact.ended_used(now), None);
        // The first was a page of an error, say.
        assert_eq!(contact.left_open(now), Some(Lesson::Keeps));
        assert_eq!(contact.manner(), Manner::Unsettled);
        for _ in 0..2 {
            assert!(contact.begin_trial());
            assert_eq!(contact.end_trial(Trial::Ended, now), None, "it was told");
        }
        assert_eq!(contact.manner(), Manner::OnDemand);
    }

    #[test]
    fn a_server_that_ends_unused_connections_is_tried_again_after_a_time() {
        let (mut contact, now) = contact(Connect::Auto);
        let _ = contact.left_open(now);
        assert!(contact.begin_trial());
        assert_eq!(contact.end_trial(Trial::Ended, now), None, "a restart?");
        assert_eq!(contact.manner(), Manner::Unsettled);
        assert!(contact.begin_trial());
        let ends = Some(Lesson::Ends(Reason::EndsUnused));
        assert_eq!(contact.end_trial(Trial::Ended, now), ends);
        assert!(contact.keeps_used());
        assert_eq!(contact.left_open(now + REMEMBERED - MS), None);
        assert_eq!(contact.manner(), Manner::OnDemand);
        assert_eq!(contact.left_open(now + REMEMBERED), Some(Lesson::Keeps));
        assert_eq!(contact.manner(), Manner::Unsettled);
    }

    #[test]
    fn what_was_learned_is_forgotten_when_the_server_comes_back_or_settings_change() {
        let (mut contact, now) = contact(Connect::Auto);
        let _ = contact.left_open(now);
        assert!(contact.begin_trial());
        let _ = contact.end_trial(Trial::Held, now);
        contact.failed(false, now);
        assert_eq!(contact.manner(), Manner::Warm, "until it comes back");
        contact.reached();
        assert_eq!(contact.manner(), Manner::Unsettled);
        let _ = contact.left_open(now);
        contact.set(Connect::OnDemand);
        assert_eq!(contact.manner(), Manner::OnDemand);
        // A trial that went on meanwhile says nothing.
        assert_eq!(contact.end_trial(Trial::Held, now), None);
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
            assert_eq!(contact.ended_used(now), None);
            assert_eq!(contact.manner(), manner);
            assert_eq!(contact.left_open(now), None);
            assert!(!contact.begin_trial() && !contact.is_learning());
            assert_eq!(contact.manner(), manner);
        }
    }
}
