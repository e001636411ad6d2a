//! Jobs that rest before they are tried again.

use super::*;

impl Bench {
    /// Gives a worker's job back, to rest for `seconds`.
    fn back_off(
        &mut self,
        worker: u32,
        ticket: Ticket,
        seconds: u64,
        link: LinkState,
    ) -> Handout<u64> {
        let verdict = Verdict::Retry {
            job: ticket.id,
            ticket,
            free: false,
            back_off: Duration::from_secs(seconds),
        };
        self.next(worker, verdict, link)
    }

    fn wake(&mut self, seconds: u64) -> Handout<u64> {
        self.now = self.at(seconds);
        self.dispatcher.wake(self.now)
    }

    fn resting(&self) -> usize {
        self.dispatcher.counts().resting
    }
}

/// One retry at a time.
const ONE: Settings = Settings {
    retry_floor: 1,
    retry_share: 0.0,
    ..LATE
};

#[test]
fn a_job_rests_and_holds_up_nobody() {
    for settings in [LATE, EARLY] {
        let mut bench = Bench::new(settings, &[1]);
        for id in 1..=3 {
            bench.offer(id);
        }
        // The job's token is free at once.
        assert_eq!(
            bench.back_off(0, bench.ticket(1), 5, LinkState::Up),
            next(2)
        );
        assert_eq!((bench.counts(), bench.resting()), ((1, 1), 1));
        assert_eq!(bench.dispatcher.next_deadline(), Some(bench.at(5)));
        assert_eq!(bench.wake(4), Handout::default());
        assert_eq!((bench.counts(), bench.resting()), ((1, 1), 1));
        // The job goes before one that has waited all the time.
        assert_eq!(bench.wake(5), Handout::default());
        assert_eq!((bench.counts(), bench.resting()), ((2, 1), 0));
        assert_eq!(bench.dispatcher.next_deadline(), Some(bench.at(30)));
        assert_eq!(bench.done(0), next(1));
        assert_eq!(bench.done(0), next(3));
        bench.dispatcher.check(0);
    }
}

#[test]
fn an_idle_worker_takes_a_job_when_its_rest_is_over() {
    for settings in [LATE, EARLY] {
        let mut bench = Bench::new(settings, &[1, 1]);
        bench.offer(1);
        assert_eq!(
            bench.back_off(0, bench.avoiding(1, 0), 5, LinkState::Up),
            Handout::default()
        );
        assert_eq!(bench.wake(5), woken(1, 1));
        assert_eq!(bench.dispatcher.cancel(1), Cancelled::Serving(WorkerId(1)));
    }
}

#[test]
fn the_first_to_wake_is_the_first_to_be_served() {
    for settings in [LATE, EARLY] {
        let mut bench = Bench::new(settings, &[3]);
        for id in 1..=3 {
            bench.offer(id);
        }
        for (worker, id, seconds) in [(0, 3, 4), (1, 2, 2), (2, 1, 3)] {
            bench.back_off(worker, bench.ticket(id), seconds, LinkState::Connecting);
        }
        assert_eq!(bench.wake(9), Handout::default());
        assert_eq!([bench.up(0), bench.up(1), bench.up(2)], [2, 1, 3].map(next));
    }
}

#[test]
fn a_resting_job_has_its_part_of_the_budget() {
    let mut bench = Bench::new(ONE, &[1, 1]);
    bench.offer(1);
    bench.offer(2);
    assert_eq!(
        bench.back_off(0, bench.ticket(1), 5, LinkState::Up),
        Handout::default()
    );
    bench.dispatcher.check(1);
    assert_eq!(
        bench.retry(1, bench.ticket(2), LinkState::Up),
        refused(Refusal::RetryBudget, 2)
    );
    // The job counts once, whether resting, waiting or served.
    assert_eq!(bench.wake(5), woken(0, 1));
    bench.dispatcher.check(1);
    assert_eq!(bench.done(0), Handout::default());
    bench.dispatcher.check(0);
    // A free retry has no part of the budget.
    assert_eq!(bench.offer(3), assigned(1, 3));
    let verdict = Verdict::Retry {
        job: 3,
        ticket: bench.ticket(3),
        free: true,
        back_off: Duration::from_secs(1),
    };
    assert_eq!(bench.next(1, verdict, LinkState::Up), Handout::default());
    assert_eq!(bench.resting(), 1);
    bench.dispatcher.check(0);
}

#[test]
fn a_resting_job_is_in_progress() {
    // Half of the jobs in progress may be retries: two of three are one too many.
    let mut bench = Bench::new(
        Settings {
            retry_floor: 0,
            retry_share: 0.5,
            ..LATE
        },
        &[1, 1, 1],
    );
    for id in 1..=3 {
        bench.offer(id);
    }
    for worker in [0, 1] {
        let ticket = bench.ticket(u64::from(worker) + 1);
        assert_eq!(
            bench.back_off(worker, ticket, 5, LinkState::Up),
            Handout::default()
        );
    }
    assert_eq!(
        bench.back_off(2, bench.ticket(3), 5, LinkState::Up),
        refused(Refusal::RetryBudget, 3)
    );
}

#[test]
fn clients_leave_that_rest() {
    let mut bench = Bench::new(ONE, &[1]);
    bench.offer(1);
    bench.back_off(0, bench.ticket(1), 5, LinkState::Up);
    assert_eq!(bench.dispatcher.cancel(1), Cancelled::Queued(1));
    assert_eq!(bench.dispatcher.cancel(1), Cancelled::Unknown);
    assert_eq!(bench.dispatcher.next_deadline(), None);
    assert_eq!(bench.wake(5), Handout::default());
    bench.dispatcher.check(0);
}

#[test]
fn nobody_rests_longer_than_its_deadline() {
    for (back_off, waits_until) in [(60, 30), (30, 30), (Duration::MAX.as_secs(), 30), (5, 5)] {
        let mut bench = Bench::new(ONE, &[1]);
        bench.offer(1);
        assert_eq!(
            bench.back_off(0, bench.ticket(1), back_off, LinkState::Up),
            Handout::default()
        );
        assert_eq!(
            bench.dispatcher.next_deadline(),
            Some(bench.at(waits_until))
        );
        // Too late for both.
        assert_eq!(bench.wake(30), refused(Refusal::QueueTimeout, 1));
        bench.dispatcher.check(0);
        assert_eq!(bench.resting(), 0);
    }
    // A job whose client wants the response sooner rests no longer than that.
    let mut bench = Bench::new(LATE, &[1]);
    let ticket = Ticket {
        answer_by: Some(bench.at(7)),
        ..bench.ticket(1)
    };
    bench.dispatcher.offer(1, ticket, bench.now);
    bench.back_off(0, ticket, 9, LinkState::Up);
    assert_eq!(bench.wake(7), refused(Refusal::QueueTimeout, 1));
}

#[test]
fn who_rests_is_refused_like_who_waits() {
    let changes = [
        (Change::Close, Refusal::Closed),
        (Change::SetAdmin(Admin::Disabled), Refusal::Disabled),
    ];
    for (change, refusal) in changes {
        let mut bench = Bench::new(ONE, &[1]);
        bench.offer(1);
        bench.back_off(0, bench.ticket(1), 5, LinkState::Up);
        assert_eq!(
            bench.apply(Change::SetAdmin(Admin::Draining)),
            Outcome::default()
        );
        assert_eq!(bench.apply(change).handout, refused(refusal, 1));
        bench.dispatcher.check(0);
        assert_eq!(bench.wake(5), Handout::default());
    }
}

#[test]
fn whether_there_is_a_server_is_asked_after_the_rest() {
    let mut bench = Bench::new(LATE, &[1]);
    bench.offer(1);
    bench.offer(2);
    assert_eq!(
        bench.back_off(0, bench.ticket(1), 5, LinkState::Unreachable),
        refused(Refusal::NoServer, 2)
    );
    // The server is back in time.
    assert_eq!(bench.up(0), Handout::default());
    assert_eq!(bench.wake(5), woken(0, 1));
    // The server is not back in time.
    bench.back_off(0, bench.ticket(1), 5, LinkState::Unreachable);
    assert_eq!(bench.wake(9), Handout::default());
    assert_eq!(bench.wake(10), refused(Refusal::NoServer, 1));
    bench.dispatcher.check(0);
    // Where requests wait for a server, the job waits.
    let wait = Settings {
        wait_for_server: true,
        ..LATE
    };
    let mut bench = Bench::new(wait, &[1]);
    bench.offer(1);
    bench.back_off(0, bench.ticket(1), 5, LinkState::Unreachable);
    assert_eq!(bench.wake(5), Handout::default());
    assert_eq!(bench.counts(), (1, 0));
    assert_eq!(bench.up(0), next(1));
}

#[test]
fn removing_a_bucket_or_a_server_loses_nobody_who_rests() {
    let mut bench = Bench::new(LATE, &[1, 1]);
    let bucket = bench.bucket(0.5, 10);
    assert_eq!(bench.offer_to(bucket, 1), assigned(0, 1));
    assert_eq!(
        bench.back_off(0, bench.avoiding(1, 0), 5, LinkState::Up),
        Handout::default()
    );
    bench.apply(Change::RemoveBucket(bucket));
    bench.apply(Change::RemoveServer(ServerId(0)));
    bench.dispatcher.gone(WorkerId(0), bench.now);
    // Others take their numbers, and have nothing to do with them: the new server is not the one to
    // avoid.
    let mut others = 0;
    while bench.bucket(0.5, 10) != bucket {
        others += 1;
        bench.apply(Change::RemoveBucket(BucketId(bucket.0 + others)));
    }
    assert!(
        others >= 50,
        "not at once, because an earlier ticket may still name the old bucket"
    );
    let outcome = bench.apply(Change::AddServer(NewServer::with_capacity(1)));
    assert_eq!(outcome.server, Some(ServerId(0)));
    bench.up(0);
    assert_eq!(bench.offer(2), assigned(1, 2));
    assert_eq!(bench.wake(5), woken(0, 1));
    let held = |bucket| bench.dispatcher.bucket(bucket).held;
    assert_eq!((held(bucket), held(BucketId(0))), (0, 2));
    bench.dispatcher.check(1);
}

#[test]
fn one_of_several_can_rest() {
    let mut bench = Bench::new(LATE, &[1]);
    for id in 1..=4 {
        bench.offer(id);
    }
    assert_eq!(bench.batch(0, 3), (Some(2), vec![3, 4]));
    let verdict = Verdict::Retry {
        job: 3,
        ticket: bench.ticket(3),
        free: false,
        back_off: Duration::from_secs(5),
    };
    assert_eq!(bench.end_one(0, 3, verdict), Handout::default());
    assert_eq!((bench.counts(), bench.resting()), ((0, 2), 1));
    assert_eq!(bench.done(0), Handout::default());
    assert_eq!(bench.wake(5), woken(0, 3));
}
