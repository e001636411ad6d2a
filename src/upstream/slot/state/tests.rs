//! Each transition of a slot, and all of them in any order beside a model.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::Arc;

use proptest::prelude::*;

use crate::plan::ServerAddress;
use crate::proto::h1::HeadLimits;
use crate::upstream::connection::Connection;
use crate::upstream::played::Played;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

const CLOSE: Grace = Grace {
    time: Some(SECOND),
    is_told: false,
};

const NOTIFY: Grace = Grace {
    time: Some(SECOND),
    is_told: true,
};

const IGNORE: Grace = Grace {
    time: None,
    is_told: false,
};

struct Fixture {
    state: State<u64>,
    played: Arc<Played>,
    connection: Connection,
    start: Instant,
}

impl Fixture {
    fn new() -> Self {
        let played = Played::saying([]);
        let connection = connect(&played);
        Self {
            state: State::new(),
            played,
            connection,
            start: Instant::now(),
        }
    }

    fn link(&self) -> Link {
        self.connection.link().clone()
    }

    fn at(&self, seconds: u32) -> Instant {
        after(self.start, SECOND * seconds)
    }

    fn wait(&mut self) -> bool {
        self.state.wait(Some(self.connection.idle()))
    }

    fn begin(&mut self, id: u64) -> bool {
        let link = self.link();
        self.state.begin(id, &link)
    }

    fn turn(&mut self, id: u64) {
        let (link, now) = (self.link(), self.at(0));
        self.state.turn(id, &link, 0, now);
    }

    fn cancel(&mut self, id: u64, grace: Grace) {
        let now = self.at(0);
        self.state.cancel(id, grace, 0, now);
    }

    fn is_broken(&self) -> bool {
        self.played.how_ended() == Some(Shutdown::Both)
    }
}

fn connect(played: &Arc<Played>) -> Connection {
    let timeout = crate::plan::samples::cluster().timeout;
    let limits = HeadLimits {
        head: 8192,
        fields: 100,
        target: 8192,
    };
    let address = ServerAddress::Tcp(([127, 0, 0, 1], 1).into());
    Connection::new(played.into(), address, &timeout, limits).unwrap()
}

fn begun(has_begun: bool) -> Upload {
    let mut upload = Upload::default();
    upload.has_begun = has_begun;
    upload
}

// === The inbox

#[test]
fn a_job_for_a_worker_that_waits_is_sent_for_it_and_then_taken() {
    let mut slot = Fixture::new();
    assert!(slot.wait());
    let (job, _) = slot.state.put(7, 7, true).unwrap();
    assert!(slot.state.is_sending());
    assert!(slot.state.take().is_none(), "not before it is sent");
    assert!(slot.state.is_sending());
    slot.state.sent(job, begun(true));
    assert!(!slot.state.is_sending());
    assert!(!slot.wait(), "there is something for it");
    let (job, upload) = slot.state.take().unwrap();
    assert!(job == 7 && upload.has_begun);
    assert_eq!(slot.state.serving, Serving::Alone(7));
    assert!(slot.state.take().is_none());
}

#[test]
fn a_job_is_put_as_it_is_where_no_other_thread_may_send_it() {
    // The worker does not wait.
    let mut slot = Fixture::new();
    assert!(slot.state.put(1, 1, true).is_none());
    assert_eq!(slot.state.take().unwrap().0, 1);
    // It waits without a connection.
    assert!(slot.state.wait(None));
    assert!(slot.state.put(2, 2, true).is_none());
    assert_eq!(slot.state.take().unwrap().0, 2);
    // It is not the first attempt.
    assert!(slot.wait());
    assert!(slot.state.put(3, 3, false).is_none());
    assert_eq!(slot.state.take().unwrap().0, 3);
    // Its client may have left.
    slot.cancel(4, IGNORE);
    assert!(slot.wait());
    assert!(slot.state.put(4, 4, true).is_none());
    assert_eq!(slot.state.take().unwrap().0, 4);
    assert_eq!(slot.state.serving, Serving::Nothing);
}

#[test]
fn a_request_of_which_nothing_was_sent_is_not_served_yet() {
    let mut slot = Fixture::new();
    assert!(slot.wait());
    let (job, _) = slot.state.put(1, 1, true).unwrap();
    slot.cancel(1, CLOSE);
    slot.state.sent(job, Upload::default());
    let now = slot.at(100);
    slot.state.abort_if_due(0, now);
    slot.state.break_off();
    assert!(!slot.is_broken());
    assert!(!slot.begin(1), "its client has left");
}

#[test]
fn a_worker_does_not_wait_when_there_is_a_probe_or_a_stop_and_offers_no_connection_later() {
    let mut slot = Fixture::new();
    slot.state.probe = Some(ProbeId(1));
    assert!(!slot.wait());
    assert!(slot.state.put(1, 1, true).is_none());
    let mut slot = Fixture::new();
    slot.state.is_stopped = true;
    assert!(!slot.wait());
    let mut slot = Fixture::new();
    assert!(slot.wait());
    // The wait is over without a job: the connection is the worker's alone again.
    assert!(slot.state.take().is_none());
    assert!(slot.state.put(1, 1, true).is_none());
}

#[test]
fn a_reset_ends_a_job_that_was_begun_and_keeps_all_else() {
    let mut slot = Fixture::new();
    assert!(slot.wait());
    let (job, _) = slot.state.put(1, 1, true).unwrap();
    slot.state.sent(job, begun(true));
    assert_eq!(slot.state.reset(), Some(1));
    assert!(slot.state.take().is_none());
    // Nothing of this one was sent.
    assert!(slot.state.put(2, 2, true).is_none());
    slot.state.probe = Some(ProbeId(3));
    slot.state.is_stopped = true;
    slot.cancel(2, CLOSE);
    assert_eq!(slot.state.reset(), None);
    assert_eq!(slot.state.probe, Some(ProbeId(3)));
    assert!(slot.state.is_stopped && slot.state.has_left(2));
    assert_eq!(slot.state.take().unwrap().0, 2);
    // The lost connection is neither broken nor told anything.
    slot.state.break_off();
    assert_eq!(slot.played.how_ended(), None);
}

// === Clients that leave

#[test]
fn a_grace_ends_only_without_progress() {
    let mut slot = Fixture::new();
    assert!(slot.begin(1));
    slot.cancel(1, CLOSE);
    let (early, due, later) = (slot.start, slot.at(1), slot.at(2));
    slot.state.abort_if_due(0, early);
    assert!(!slot.is_broken());
    slot.state.abort_if_due(5, due);
    assert!(!slot.is_broken(), "something came meanwhile");
    slot.state.abort_if_due(5, due);
    assert!(!slot.is_broken(), "it begins anew with that");
    slot.state.abort_if_due(5, later);
    assert!(slot.is_broken());
}

#[test]
fn the_end_of_an_exchange_ends_its_grace() {
    let mut slot = Fixture::new();
    assert!(slot.begin(1));
    slot.cancel(1, CLOSE);
    assert!(slot.state.end(1, true));
    assert!(slot.begin(2));
    let later = slot.at(100);
    slot.state.abort_if_due(0, later);
    assert!(!slot.is_broken());
    assert!(!slot.state.end(2, true));
}

#[test]
fn an_exchange_left_behind_by_a_batch_is_alone_on_its_own_connection() {
    let mut slot = Fixture::new();
    slot.turn(1);
    assert!(!slot.state.end(1, false));
    slot.state.forget_connection();
    assert!(slot.begin(2));
    slot.cancel(2, NOTIFY);
    slot.state.notify(2);
    assert!(slot.state.is_notified());
    assert_eq!(slot.played.how_ended(), Some(Shutdown::Write));
}

#[test]
fn a_server_is_not_told_in_a_turn_nor_of_a_client_for_which_that_is_not_wanted() {
    let mut slot = Fixture::new();
    slot.turn(1);
    slot.cancel(1, NOTIFY);
    slot.state.notify(1);
    assert!(!slot.state.end(2, false) && slot.state.end(1, true));
    assert!(slot.begin(3));
    slot.cancel(3, CLOSE);
    slot.state.notify(3);
    assert!(!slot.state.is_notified());
    assert_eq!(slot.played.how_ended(), None);
}

#[test]
fn what_was_told_counts_for_that_exchange_and_connection_alone() {
    let mut slot = Fixture::new();
    assert!(slot.begin(1));
    slot.cancel(1, NOTIFY);
    slot.state.notify(1);
    assert!(slot.state.end(1, true) && slot.state.is_notified());
    assert!(slot.state.put(2, 2, true).is_none());
    assert!(
        !slot.state.is_notified(),
        "the next job knows nothing of it"
    );
    // Another connection of the same worker.
    let other = connect(&Played::saying([]));
    assert!(slot.state.begin(2, other.link()));
    slot.cancel(2, NOTIFY);
    slot.state.notify(2);
    assert!(slot.state.is_notified());
    assert!(slot.state.begin(3, &slot.connection.link().clone()));
    assert!(!slot.state.is_notified());
}

// === All in any order

#[derive(Clone, Debug)]
enum Step {
    Wait(bool),
    Put { is_first: bool, begins: bool },
    Take,
    Begin,
    Turn,
    End(bool),
    Cancel(u64, bool),
    Due,
    BreakOff,
    Forget,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Wait),
        4 => any::<(bool, bool)>()
            .prop_map(|(is_first, begins)| Step::Put { is_first, begins }),
        4 => Just(Step::Take),
        3 => Just(Step::Begin),
        2 => Just(Step::Turn),
        4 => any::<bool>().prop_map(Step::End),
        3 => (0_u64..3, any::<bool>()).prop_map(|(back, to_end)| Step::Cancel(back, to_end)),
        2 => Just(Step::Due),
        1 => Just(Step::BreakOff),
        1 => Just(Step::Forget),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    /// Whatever happens in whatever order: a job is given out once, a connection is broken only
    /// while an exchange is served over it whose client has left (or at a stop), and no exchange
    /// whose client has left is begun if it is not to be served to the end.
    #[test]
    fn a_slot_is_like_its_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut slot = Fixture::new();
        // The model: jobs in the slot, what is served, who has left.
        let (mut lying, mut waits) = (None, false);
        let mut serving: Option<u64> = None;
        let (mut is_between, mut is_known) = (false, false);
        let mut left: BTreeMap<u64, bool> = BTreeMap::new();
        let mut next_id = 0;
        let mut current = 0;
        let mut graced: Option<u64> = None;
        for step in steps {
            match step {
                Step::Wait(is_connected) => {
                    let may = lying.is_none();
                    let idle = is_connected.then(|| slot.connection.idle());
                    prop_assert_eq!(slot.state.wait(idle), may && !waits);
                    if may && !waits {
                        waits = is_connected;
                    }
                }
                Step::Put { is_first, begins } if lying.is_none() => {
                    next_id += 1;
                    let is_sent = waits && is_first && !left.contains_key(&next_id);
                    waits = false;
                    let put = slot.state.put(next_id, next_id, is_first);
                    prop_assert_eq!(put.is_some(), is_sent);
                    if let Some((job, _)) = put {
                        slot.state.sent(job, begun(begins));
                        (is_between, is_known) = (false, true);
                        serving = begins.then_some(next_id);
                        graced = None;
                    }
                    lying = Some((next_id, is_sent && begins));
                }
                Step::Put { .. } => {}
                Step::Take => {
                    waits = false;
                    let taken = slot.state.take().map(|(job, upload)| (job, upload.has_begun));
                    prop_assert_eq!(taken, lying.take());
                    if let Some((job, _)) = taken {
                        current = job;
                    }
                }
                Step::Begin => {
                    let refused = left.get(&current).is_some_and(|to_end| !to_end);
                    prop_assert_eq!(slot.begin(current), !refused);
                    if refused {
                        left.remove(&current);
                    } else {
                        if serving != Some(current) {
                            graced = graced.filter(|id| *id == current);
                        }
                        (serving, is_between, is_known) = (Some(current), false, true);
                    }
                }
                Step::Turn => {
                    slot.turn(current);
                    (serving, is_between, is_known) = (Some(current), false, true);
                    if let Some(to_end) = left.get(&current) {
                        graced = (!to_end).then_some(current);
                    }
                }
                Step::End(was_last) => {
                    prop_assert_eq!(
                        slot.state.end(current, was_last),
                        left.contains_key(&current)
                    );
                    left.remove(&current);
                    if was_last {
                        left.clear();
                    }
                    (serving, is_between, graced) = (None, !was_last, None);
                }
                Step::Cancel(back, to_end) => {
                    let id = current.saturating_sub(back);
                    slot.cancel(id, if to_end { IGNORE } else { CLOSE });
                    left.entry(id).or_insert(to_end);
                    if serving == Some(id) {
                        graced = (!to_end).then_some(id);
                    }
                }
                Step::Due => {
                    let now = slot.at(100);
                    slot.state.abort_if_due(0, now);
                    if graced.take().is_some() {
                        prop_assert_eq!(slot.is_broken(), is_known);
                    }
                }
                Step::BreakOff => {
                    slot.state.break_off();
                    if (serving.is_some() || is_between) && is_known {
                        prop_assert!(slot.is_broken());
                    }
                }
                Step::Forget => {
                    slot.state.forget_connection();
                    is_known = false;
                }
                Step::Reset => {
                    let expected = lying.take_if(|(_, begun)| *begun).map(|(job, _)| job);
                    prop_assert_eq!(slot.state.reset(), expected);
                    waits = false;
                    (serving, is_between, is_known, graced) = (None, false, false, None);
                }
            }
            for id in 0..=next_id {
                prop_assert_eq!(slot.state.has_left(id), left.contains_key(&id));
            }
            if slot.is_broken() {
                // A connection that is broken is of no further use.
                break;
            }
        }
    }
}
