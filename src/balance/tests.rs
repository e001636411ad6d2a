//! The dispatcher, case by case.

mod batches;
mod changes;
mod rests;
mod sharing;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::*;

/// A dispatcher with a clock and servers whose workers are all up.
struct Bench {
    dispatcher: Dispatcher<u64>,
    start: Instant,
    now: Instant,
}

const LATE: Settings = Settings {
    early_binding: false,
    queue_limit: 8,
    wait_for_server: false,
    retry_floor: 10,
    retry_share: 0.2,
    schedule: Schedule::RoundRobin,
    lending: Lending::WorkConserving,
    seed: 0,
};

const EARLY: Settings = Settings {
    early_binding: true,
    ..LATE
};

impl Bench {
    fn new(settings: Settings, capacities: &[usize]) -> Self {
        let now = Instant::now();
        let mut bench = Self {
            dispatcher: Dispatcher::new(settings),
            start: now,
            now,
        };
        for capacity in capacities {
            bench.apply(Change::AddServer(NewServer::with_capacity(*capacity)));
        }
        for worker in 0..capacities.iter().sum::<usize>() {
            bench.up(worker as u32);
        }
        bench
    }

    fn apply(&mut self, change: Change) -> Outcome<u64> {
        self.dispatcher
            .apply(change, self.now)
            .expect("a possible change")
    }

    fn add(&mut self, capacity: usize) {
        self.apply(Change::AddServer(NewServer::with_capacity(capacity)));
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn ticket(&self, id: u64) -> Ticket {
        Ticket {
            id,
            bucket: BucketId(0),
            key: None,
            affinity: None,
            deadline: self.at(30),
            answer_by: None,
            avoid: None,
            batchable: true,
        }
    }

    fn avoiding(&self, id: u64, server: u32) -> Ticket {
        Ticket {
            avoid: Some(ServerId(server)),
            ..self.ticket(id)
        }
    }

    fn offer(&mut self, id: u64) -> Offer<u64> {
        self.dispatcher.offer(id, self.ticket(id), self.now)
    }

    fn next(&mut self, worker: u32, verdict: Verdict<u64>, link: LinkState) -> Handout<u64> {
        self.dispatcher
            .next(WorkerId(worker), verdict, link, self.now)
    }

    fn up(&mut self, worker: u32) -> Handout<u64> {
        self.next(worker, Verdict::None, LinkState::Up)
    }

    fn done(&mut self, worker: u32) -> Handout<u64> {
        self.next(worker, Verdict::Done, LinkState::Up)
    }

    fn retry(&mut self, worker: u32, ticket: Ticket, link: LinkState) -> Handout<u64> {
        self.next(
            worker,
            Verdict::Retry {
                job: ticket.id,
                ticket,
                free: false,
                back_off: Duration::ZERO,
            },
            link,
        )
    }

    /// Returns what a worker that has served all gets next: the first job, and those taken besides.
    fn batch(&mut self, worker: u32, most: usize) -> (Option<u64>, Vec<u64>) {
        let mut more = VecDeque::new();
        let (worker, batch) = (WorkerId(worker), (most, &mut more));
        let handout =
            self.dispatcher
                .next_batch(worker, Verdict::Done, LinkState::Up, batch, self.now);
        assert!(handout.assigned.is_empty() && handout.refused.is_empty());
        (handout.next, more.into())
    }

    fn end_one(&mut self, worker: u32, id: u64, verdict: Verdict<u64>) -> Handout<u64> {
        self.dispatcher
            .end_one(WorkerId(worker), id, verdict, self.now)
    }

    fn counts(&self) -> (usize, usize) {
        let Counts {
            queued, serving, ..
        } = self.dispatcher.counts();
        (queued, serving)
    }
}

fn assigned(worker: u32, id: u64) -> Offer<u64> {
    Offer::Assigned(WorkerId(worker), id)
}

fn next(id: u64) -> Handout<u64> {
    Handout {
        next: Some(id),
        ..Handout::default()
    }
}

fn refused(refusal: Refusal, id: u64) -> Handout<u64> {
    Handout {
        refused: vec![(refusal, id)],
        ..Handout::default()
    }
}

fn woken(worker: u32, id: u64) -> Handout<u64> {
    Handout {
        assigned: vec![(WorkerId(worker), id)],
        ..Handout::default()
    }
}

#[test]
fn offers_go_round_the_servers() {
    let mut bench = Bench::new(LATE, &[2, 2, 2]);
    // Of each server, the worker that connected first is used.
    let workers = [0, 2, 4, 1, 3, 5];
    for (id, worker) in (1..).zip(workers) {
        assert_eq!(bench.offer(id), assigned(worker, id));
    }
    assert_eq!(bench.offer(7), Offer::Queued);
}

#[test]
fn the_round_passes_over_a_busy_server_and_does_not_lose_its_place() {
    let mut bench = Bench::new(LATE, &[1, 1, 1]);
    assert_eq!(bench.offer(1), assigned(0, 1));
    assert_eq!(bench.offer(2), assigned(1, 2));
    assert_eq!(bench.done(0), Handout::default());
    assert_eq!(bench.offer(3), assigned(2, 3));
    assert_eq!(bench.done(2), Handout::default());
    assert_eq!(bench.offer(4), assigned(0, 4));
    assert_eq!(bench.offer(5), assigned(2, 5));
}

#[test]
fn the_warmest_worker_of_a_server_is_used() {
    let mut bench = Bench::new(LATE, &[3]);
    for id in 1..=3 {
        bench.offer(id);
    }
    for worker in [2, 0, 1] {
        bench.done(worker);
    }
    // To look at an idle connection changes nothing.
    bench.up(2);
    assert_eq!(bench.offer(4), assigned(1, 4));
    assert!(bench.dispatcher.retire(WorkerId(0)));
    assert_eq!(bench.offer(5), assigned(2, 5));
    assert_eq!(bench.offer(6), Offer::Queued);
}

#[test]
fn connections_that_no_job_went_over_are_used_after_the_others_the_oldest_first() {
    let mut bench = Bench::new(LATE, &[4]);
    assert_eq!(bench.offer(1), assigned(0, 1));
    assert_eq!(bench.offer(2), assigned(1, 2));
    bench.done(0);
    bench.done(1);
    // The warmest is lost and made anew: it comes last.
    assert!(bench.dispatcher.retire(WorkerId(1)));
    bench.up(1);
    for (id, worker) in (3..).zip([0, 2, 3, 1]) {
        assert_eq!(bench.offer(id), assigned(worker, id));
    }
    // One that is borrowed, for a look at the server, has been used then.
    let mut bench = Bench::new(LATE, &[3]);
    for worker in [2, 1, 0, 2] {
        let borrowed = bench.dispatcher.borrow(ServerId(0));
        assert_eq!(borrowed, Some(WorkerId(worker)));
        bench.up(worker);
    }
}

#[test]
fn waiting_jobs_are_served_in_order() {
    let mut bench = Bench::new(LATE, &[1, 1]);
    for id in 1..=5 {
        bench.offer(id);
    }
    assert_eq!(bench.counts(), (3, 2));
    assert_eq!(bench.done(1), next(3));
    assert_eq!(bench.done(0), next(4));
    assert_eq!(bench.done(0), next(5));
    assert_eq!(bench.done(0), Handout::default());
    assert_eq!(bench.counts(), (0, 1));
}

#[test]
fn the_queue_has_a_limit() {
    let mut bench = Bench::new(
        Settings {
            queue_limit: 1,
            ..LATE
        },
        &[1],
    );
    assert_eq!(bench.offer(1), assigned(0, 1));
    assert_eq!(bench.offer(2), Offer::Queued);
    assert_eq!(bench.offer(3), Offer::Refused(Refusal::QueueFull, 3));
    let mut bench = Bench::new(
        Settings {
            queue_limit: 0,
            ..LATE
        },
        &[1],
    );
    assert_eq!(bench.offer(1), assigned(0, 1));
    assert_eq!(bench.offer(2), Offer::Refused(Refusal::QueueFull, 2));
}

#[test]
fn without_a_reachable_server_jobs_are_refused_or_wait() {
    for settings in [LATE, EARLY] {
        let mut bench = Bench::new(settings, &[]);
        assert_eq!(bench.offer(1), Offer::Refused(Refusal::NoServer, 1));
        bench.add(1);
        // A server that is being connected counts as reachable.
        assert_eq!(bench.offer(2), Offer::Queued);
        assert_eq!(
            bench.next(0, Verdict::None, LinkState::Unreachable),
            refused(Refusal::NoServer, 2)
        );
        assert_eq!(bench.offer(3), Offer::Refused(Refusal::NoServer, 3));

        let mut bench = Bench::new(
            Settings {
                wait_for_server: true,
                ..settings
            },
            &[],
        );
        assert_eq!(bench.offer(1), Offer::Queued);
        bench.add(2);
        bench.next(0, Verdict::None, LinkState::Unreachable);
        bench.next(1, Verdict::None, LinkState::Unreachable);
        assert_eq!(bench.offer(2), Offer::Queued);
        assert_eq!(bench.up(1), next(1));
        assert_eq!(bench.up(0), next(2));
    }
}

#[test]
fn a_retry_goes_to_another_server_at_once() {
    for settings in [LATE, EARLY] {
        let mut bench = Bench::new(settings, &[1, 1]);
        assert_eq!(bench.offer(1), assigned(0, 1));
        let ticket = bench.avoiding(1, 0);
        assert_eq!(bench.retry(0, ticket, LinkState::Up), woken(1, 1));
        assert_eq!(bench.counts(), (0, 1));
        assert_eq!(bench.dispatcher.cancel(1), Cancelled::Serving(WorkerId(1)));
    }
}

#[test]
fn a_retry_waits_at_the_head_for_another_server() {
    for settings in [LATE, EARLY] {
        let mut bench = Bench::new(settings, &[1, 1]);
        for id in 1..=4 {
            bench.offer(id);
        }
        let ticket = bench.avoiding(1, 0);
        // Not for its own worker, which takes the job behind it.
        assert_eq!(bench.retry(0, ticket, LinkState::Up), next(3));
        assert_eq!(bench.done(1), next(1));
        assert_eq!(bench.done(1), next(4));
    }
}

#[test]
fn a_retry_may_go_back_to_the_only_server() {
    for settings in [LATE, EARLY] {
        let mut bench = Bench::new(settings, &[1, 1]);
        bench.next(1, Verdict::None, LinkState::Unreachable);
        assert_eq!(bench.offer(1), assigned(0, 1));
        assert_eq!(bench.offer(2), Offer::Queued);
        let ticket = bench.avoiding(1, 0);
        assert_eq!(bench.retry(0, ticket, LinkState::Up), next(1));
        assert_eq!(bench.done(0), next(2));
    }
}

#[test]
fn losing_the_other_server_lifts_avoidance() {
    let mut bench = Bench::new(LATE, &[2, 1]);
    assert_eq!(bench.offer(1), assigned(0, 1));
    assert_eq!(bench.offer(2), assigned(2, 2));
    let ticket = bench.avoiding(1, 0);
    assert_eq!(bench.retry(0, ticket, LinkState::Up), Handout::default());
    assert_eq!(bench.counts(), (1, 1));
    // Worker 0 became idle last.
    assert_eq!(
        bench.next(2, Verdict::Done, LinkState::Unreachable),
        woken(0, 1)
    );
}

#[test]
fn an_idle_worker_skips_everything_that_avoids_its_server() {
    let mut bench = Bench::new(LATE, &[1, 1, 1]);
    for id in 1..=3 {
        bench.offer(id);
    }
    for id in 4..=6 {
        let ticket = bench.avoiding(id, 0);
        assert_eq!(bench.dispatcher.offer(id, ticket, bench.now), Offer::Queued);
    }
    let ticket = bench.avoiding(7, 1);
    assert_eq!(bench.dispatcher.offer(7, ticket, bench.now), Offer::Queued);
    assert_eq!(bench.offer(8), Offer::Queued);
    assert_eq!(bench.done(0), next(7));
    assert_eq!(bench.done(1), next(4));
    assert_eq!(bench.done(0), next(8));
    assert_eq!(bench.done(0), Handout::default());
    assert_eq!(bench.done(2), next(5));
}

#[test]
fn early_binding_waits_for_its_own_server() {
    let mut bench = Bench::new(EARLY, &[1, 1]);
    for id in 1..=6 {
        bench.offer(id);
    }
    assert_eq!(bench.done(0), next(3));
    assert_eq!(bench.done(0), next(5));
    assert_eq!(bench.done(0), Handout::default());
    // The first turn is the first server's, which is idle; the next is the second's, which is not.
    assert_eq!(bench.offer(7), assigned(0, 7));
    bench.done(0);
    assert_eq!(bench.offer(8), Offer::Queued);
    assert_eq!(bench.done(1), next(4));
    assert_eq!(bench.done(1), next(6));
    assert_eq!(bench.done(1), next(8));
}

#[test]
fn losing_a_server_opens_what_was_bound_to_it() {
    let mut bench = Bench::new(EARLY, &[1, 2]);
    for id in 1..=7 {
        bench.offer(id);
    }
    // 3, 5 and 7 wait for the first server, 6 for the second.
    assert_eq!(bench.counts(), (4, 3));
    assert_eq!(bench.done(1), next(6));
    assert_eq!(bench.done(2), Handout::default());
    assert_eq!(
        bench.next(0, Verdict::Done, LinkState::Unreachable),
        woken(2, 3)
    );
    assert_eq!(bench.done(1), next(5));
    assert_eq!(bench.done(1), next(7));
}

#[test]
fn the_retry_budget_has_a_share() {
    // Half of all jobs: of four in progress two may be retries.
    let mut bench = Bench::new(
        Settings {
            retry_floor: 0,
            retry_share: 0.5,
            ..LATE
        },
        &[1, 1, 1, 1],
    );
    for id in 1..=4 {
        bench.offer(id);
    }
    for (worker, id) in [(0, 1), (1, 2)] {
        assert_eq!(
            bench.retry(worker, bench.ticket(id), LinkState::Connecting),
            Handout::default()
        );
    }
    assert_eq!(
        bench.retry(2, bench.ticket(3), LinkState::Connecting),
        refused(Refusal::RetryBudget, 3)
    );
    // One of them is over: one of three leaves room.
    assert_eq!(bench.dispatcher.cancel(1), Cancelled::Queued(1));
    bench.offer(5);
    assert_eq!(
        bench.retry(3, bench.ticket(4), LinkState::Connecting),
        Handout::default()
    );
}

#[test]
fn a_job_counts_once_however_often_it_is_tried() {
    let mut bench = Bench::new(
        Settings {
            retry_floor: 1,
            retry_share: 0.0,
            ..LATE
        },
        &[1, 1],
    );
    bench.offer(1);
    bench.offer(2);
    for _ in 0..3 {
        assert_eq!(bench.retry(0, bench.ticket(1), LinkState::Up), next(1));
    }
    // A free retry does not undo that, and is never refused.
    for (worker, id) in [(0, 1), (1, 2)] {
        let ticket = bench.ticket(id);
        let free = Verdict::Retry {
            job: id,
            ticket,
            free: true,
            back_off: Duration::ZERO,
        };
        assert_eq!(bench.next(worker, free, LinkState::Up), next(id));
    }
    assert_eq!(
        bench.retry(1, bench.ticket(2), LinkState::Up),
        refused(Refusal::RetryBudget, 2)
    );
    assert_eq!(bench.done(0), Handout::default());
}

#[test]
fn retries_beyond_the_budget_are_refused() {
    let mut bench = Bench::new(
        Settings {
            retry_floor: 1,
            retry_share: 0.0,
            ..LATE
        },
        &[1, 1],
    );
    bench.offer(1);
    bench.offer(2);
    let ticket = bench.ticket(1);
    assert_eq!(
        bench.retry(0, ticket, LinkState::Connecting),
        Handout::default()
    );
    let ticket = bench.ticket(2);
    assert_eq!(
        bench.retry(1, ticket, LinkState::Connecting),
        refused(Refusal::RetryBudget, 2)
    );
    assert_eq!(bench.counts(), (1, 0));
}

#[test]
fn the_queue_limit_does_not_hold_for_retries() {
    let mut bench = Bench::new(
        Settings {
            queue_limit: 0,
            ..LATE
        },
        &[1],
    );
    bench.offer(1);
    let ticket = bench.ticket(1);
    assert_eq!(
        bench.retry(0, ticket, LinkState::Connecting),
        Handout::default()
    );
    assert_eq!(bench.counts(), (1, 0));
}

#[test]
fn jobs_wait_until_their_deadline_and_no_longer() {
    let mut bench = Bench::new(LATE, &[1]);
    bench.offer(1);
    let soon = Ticket {
        deadline: bench.at(5),
        ..bench.ticket(2)
    };
    let sooner = Ticket {
        deadline: bench.at(3),
        ..bench.ticket(3)
    };
    bench.dispatcher.offer(2, soon, bench.now);
    bench.dispatcher.offer(3, sooner, bench.now);
    bench.offer(4);
    assert_eq!(bench.dispatcher.next_deadline(), Some(bench.at(3)));
    assert_eq!(bench.dispatcher.wake(bench.at(2)), Handout::default());
    assert_eq!(
        bench.dispatcher.wake(bench.at(3)),
        refused(Refusal::QueueTimeout, 3)
    );
    assert_eq!(bench.dispatcher.next_deadline(), Some(bench.at(5)));
    bench.now = bench.at(6);
    let handout = bench.done(0);
    assert_eq!(
        handout,
        Handout {
            next: Some(4),
            refused: vec![(Refusal::QueueTimeout, 2)],
            ..Handout::default()
        }
    );
    assert_eq!(bench.dispatcher.next_deadline(), None);
    // Neither a retry nor an offer gets past its deadline.
    bench.now = bench.at(30);
    let ticket = bench.ticket(4);
    assert_eq!(
        bench.retry(0, ticket, LinkState::Up),
        refused(Refusal::QueueTimeout, 4)
    );
    assert_eq!(bench.offer(5), Offer::Refused(Refusal::QueueTimeout, 5));
    assert_eq!(bench.counts(), (0, 0));
}

#[test]
fn a_job_assigned_meanwhile_is_not_lost() {
    let mut bench = Bench::new(LATE, &[1]);
    assert_eq!(bench.offer(1), assigned(0, 1));
    assert_eq!(bench.up(0), Handout::default());
    assert!(!bench.dispatcher.retire(WorkerId(0)));
    assert_eq!(bench.offer(2), Offer::Queued);
    assert_eq!(bench.up(0), Handout::default());
    assert_eq!(bench.counts(), (1, 1));
    assert_eq!(bench.done(0), next(2));
}

#[test]
fn clients_leave() {
    let mut bench = Bench::new(LATE, &[1]);
    for id in 1..=4 {
        bench.offer(id);
    }
    assert_eq!(bench.dispatcher.cancel(3), Cancelled::Queued(3));
    assert_eq!(bench.dispatcher.cancel(3), Cancelled::Unknown);
    assert_eq!(bench.dispatcher.cancel(1), Cancelled::Serving(WorkerId(0)));
    assert_eq!(bench.done(0), next(2));
    assert_eq!(bench.dispatcher.cancel(1), Cancelled::Unknown);
    assert_eq!(bench.done(0), next(4));
    assert_eq!(bench.done(0), Handout::default());
    assert_eq!(bench.dispatcher.cancel(u64::MAX), Cancelled::Unknown);
}

#[test]
fn closing_ends_what_waits_and_leaves_what_is_served() {
    let mut bench = Bench::new(LATE, &[1]);
    bench.offer(1);
    bench.offer(2);
    assert_eq!(
        bench.apply(Change::Close).handout,
        refused(Refusal::Closed, 2)
    );
    assert_eq!(bench.offer(3), Offer::Refused(Refusal::Closed, 3));
    let ticket = bench.ticket(1);
    assert_eq!(
        bench.retry(0, ticket, LinkState::Up),
        refused(Refusal::Closed, 1)
    );
    assert_eq!(bench.counts(), (0, 0));
}

#[test]
fn counts_tell_workers_that_are_up() {
    let mut bench = Bench::new(LATE, &[2, 1]);
    bench.offer(1);
    bench.next(2, Verdict::None, LinkState::Unreachable);
    assert_eq!(
        bench.dispatcher.counts(),
        Counts {
            queued: 0,
            resting: 0,
            serving: 1,
            up: 2,
            workers: 3,
            capacity: 2,
        }
    );
}

#[test]
fn unknown_workers_and_servers_do_no_harm() {
    let mut bench = Bench::new(LATE, &[1]);
    let ticket = bench.avoiding(1, 77);
    assert_eq!(
        bench.retry(9, ticket, LinkState::Up),
        refused(Refusal::Closed, 1)
    );
    assert!(bench.dispatcher.retire(WorkerId(9)));
    assert_eq!(bench.dispatcher.offer(1, ticket, bench.now), assigned(0, 1));
    assert_eq!(
        bench.dispatcher.offer(2, bench.avoiding(2, 77), bench.now),
        Offer::Queued
    );
    assert_eq!(bench.done(0), next(2));
}
