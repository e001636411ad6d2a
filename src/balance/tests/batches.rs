//! Several jobs at one worker.

use super::*;

/// Room for more than the other clients need.
const LONG: Settings = Settings {
    queue_limit: 20,
    ..LATE
};

#[test]
fn a_worker_takes_several_but_no_more_than_its_part() {
    let mut bench = Bench::new(LONG, &[1, 1]);
    for id in 1..=16 {
        bench.offer(id);
    }
    assert_eq!(bench.counts(), (14, 2));
    assert_eq!(bench.batch(0, 4), (Some(3), vec![4, 5, 6]));
    assert_eq!(bench.counts(), (10, 5));
    // Nine are left behind the first, for two workers.
    assert_eq!(bench.batch(1, 64), (Some(7), vec![8, 9, 10, 11]));
    assert_eq!(bench.batch(1, 1), (Some(12), vec![]));
    assert_eq!(bench.batch(1, 64), (Some(13), vec![14]));
    assert_eq!(bench.batch(1, 64), (Some(15), vec![]));
    assert_eq!(bench.batch(1, 64), (Some(16), vec![]));
    assert_eq!(bench.batch(1, 64), (None, vec![]));
    assert_eq!(bench.counts(), (0, 4));
    assert_eq!(bench.batch(0, 64), (None, vec![]));
    assert_eq!(bench.counts(), (0, 0));
}

#[test]
fn a_batch_ends_before_what_goes_alone() {
    let mut bench = Bench::new(LONG, &[1]);
    for id in 1..=9 {
        let ticket = Ticket {
            batchable: id != 4,
            ..bench.ticket(id)
        };
        bench.dispatcher.offer(id, ticket, bench.now);
    }
    assert_eq!(bench.batch(0, 8), (Some(2), vec![3]));
    assert_eq!(bench.batch(0, 8), (Some(4), vec![]));
    assert_eq!(bench.batch(0, 4), (Some(5), vec![6, 7, 8]));
    assert_eq!(bench.batch(0, 8), (Some(9), vec![]));
    // A retry goes alone, whatever its ticket says.
    bench.offer(10);
    bench.offer(11);
    let ticket = bench.ticket(9);
    assert_eq!(
        bench.retry(0, ticket, LinkState::Connecting),
        Handout::default()
    );
    assert_eq!(bench.batch(0, 8), (Some(9), vec![]));
    assert_eq!(bench.batch(0, 8), (Some(10), vec![11]));
}

#[test]
fn a_worker_takes_no_other_servers_jobs() {
    let mut bench = Bench::new(
        Settings {
            queue_limit: 20,
            ..EARLY
        },
        &[1, 2],
    );
    for id in 1..=13 {
        bench.offer(id);
    }
    // 3, 5, 7, 9, 11 and 13 wait for the first server, 6, 8, 10 and 12 for the second, which has
    // two workers.
    assert_eq!(bench.batch(1, 64), (Some(6), vec![8]));
    assert_eq!(bench.batch(0, 64), (Some(3), vec![5, 7, 9, 11, 13]));
}

#[test]
fn one_job_of_a_batch_can_go_elsewhere() {
    let mut bench = Bench::new(LATE, &[1, 1]);
    for id in 1..=8 {
        bench.offer(id);
    }
    assert_eq!(bench.batch(0, 3), (Some(3), vec![4, 5]));
    assert_eq!(bench.done(1), next(6));
    for id in 3..=5 {
        assert_eq!(bench.dispatcher.cancel(id), Cancelled::Serving(WorkerId(0)));
    }
    let retry = |bench: &Bench, job| Verdict::Retry {
        job,
        ticket: bench.avoiding(job, 0),
        free: false,
        back_off: Duration::ZERO,
    };
    // The first job, and one from the middle; they go before the waiting ones.
    let verdict = retry(&bench, 4);
    assert_eq!(bench.end_one(0, 4, verdict), Handout::default());
    let verdict = retry(&bench, 3);
    assert_eq!(bench.end_one(0, 3, verdict), Handout::default());
    assert_eq!(bench.dispatcher.cancel(4), Cancelled::Queued(4));
    assert_eq!(bench.counts(), (3, 2));
    assert_eq!(bench.done(1), next(3));
    assert_eq!(bench.dispatcher.cancel(5), Cancelled::Serving(WorkerId(0)));
    assert_eq!(bench.end_one(0, 5, Verdict::Done), Handout::default());
    assert_eq!(bench.dispatcher.cancel(5), Cancelled::Unknown);
    // The worker has no job left, but is not idle before it asks.
    assert_eq!(bench.counts(), (2, 1));
    assert_eq!(bench.batch(0, 3), (Some(7), vec![]));
    // An idle worker gets at once what comes back.
    assert_eq!(bench.done(1), next(8));
    assert_eq!(bench.done(0), Handout::default());
    let verdict = Verdict::Retry {
        job: 8,
        ticket: bench.avoiding(8, 1),
        free: true,
        back_off: Duration::ZERO,
    };
    assert_eq!(bench.end_one(1, 8, verdict), woken(0, 8));
    assert_eq!(
        bench.end_one(9, 1, retry(&bench, 1)),
        refused(Refusal::Closed, 1)
    );
}

#[test]
fn nobody_takes_more_while_another_bucket_waits() {
    let mut bench = Bench::new(LONG, &[1]);
    let (vip, bulk) = (bench.bucket(0.5, 10), bench.bucket(0.0, 10));
    for id in 1..=6 {
        bench.offer_to(bulk, id);
    }
    bench.offer_to(vip, 7);
    bench.offer_to(vip, 8);
    assert_eq!(bench.batch(0, 8), (Some(7), vec![]));
    assert_eq!(bench.batch(0, 8), (Some(8), vec![]));
    assert_eq!(bench.batch(0, 8), (Some(2), vec![3, 4, 5, 6]));
}

#[test]
fn idle_workers_get_theirs_before_a_batch_is_made() {
    let mut bench = Bench::new(LONG, &[1, 1]);
    assert_eq!(bench.offer(1), assigned(0, 1));
    for id in 2..=3 {
        let ticket = bench.avoiding(id, 1);
        assert_eq!(bench.dispatcher.offer(id, ticket, bench.now), Offer::Queued);
    }
    let verdict = Verdict::Retry {
        job: 1,
        ticket: bench.avoiding(1, 0),
        free: true,
        back_off: Duration::ZERO,
    };
    let mut more = VecDeque::new();
    let batch = (8, &mut more);
    let handout =
        bench
            .dispatcher
            .next_batch(WorkerId(0), verdict, LinkState::Up, batch, bench.now);
    assert_eq!(
        (handout.next, handout.assigned),
        (Some(2), vec![(WorkerId(1), 1)])
    );
    // Only one waits then, for two workers.
    assert!(more.is_empty());
}

#[test]
fn all_of_a_batch_have_one_token() {
    let mut bench = Bench::new(LONG, &[1, 1]);
    let (vip, bulk) = (bench.bucket(0.5, 10), bench.bucket(0.0, 10));
    for id in 1..=8 {
        bench.offer_to(bulk, id);
    }
    assert_eq!(bench.batch(0, 4), (Some(3), vec![4, 5]));
    assert_eq!(bench.dispatcher.bucket(bulk).held, 2);
    assert_eq!(bench.dispatcher.counts().serving, 4);
    assert_eq!(
        bench
            .dispatcher
            .server(ServerId(0))
            .map(|server| server.serving),
        Some(3)
    );
    // A job under its share gets the next slot, whatever the other bucket does.
    bench.offer_to(vip, 9);
    assert_eq!(bench.batch(1, 4), (Some(9), vec![]));
    let counts = bench.dispatcher.bucket(vip);
    assert_eq!((counts.longest_wait, counts.violations), (1, 0));
    // The token comes back with the last of them.
    for (id, held) in [(3, 1), (5, 1), (4, 0)] {
        assert_eq!(bench.end_one(0, id, Verdict::Done), Handout::default());
        assert_eq!(bench.dispatcher.bucket(bulk).held, held);
    }
}

#[test]
fn a_batch_goes_with_its_bucket() {
    let mut bench = Bench::new(LONG, &[1]);
    let bucket = bench.bucket(0.5, 10);
    for id in 1..=5 {
        bench.offer_to(bucket, id);
    }
    assert_eq!(bench.batch(0, 3), (Some(2), vec![3, 4]));
    bench.apply(Change::RemoveBucket(bucket));
    let ticket = Ticket {
        bucket,
        ..bench.ticket(3)
    };
    let verdict = Verdict::Retry {
        job: 3,
        ticket,
        free: true,
        back_off: Duration::ZERO,
    };
    assert_eq!(bench.end_one(0, 3, verdict), Handout::default());
    let root = bench.dispatcher.bucket(BucketId(0));
    assert_eq!((root.held, root.serving, root.queued), (1, 1, 2));
    assert_eq!(bench.batch(0, 3), (Some(3), vec![]));
    assert_eq!(bench.batch(0, 3), (Some(5), vec![]));
    assert_eq!(bench.batch(0, 3), (None, vec![]));
    assert_eq!(bench.dispatcher.bucket(BucketId(0)).held, 0);
}

#[test]
fn a_batch_leaves_a_slow_starter_its_other_places() {
    let mut bench = Bench::new(LONG, &[4]);
    let half = ServerChange {
        warmth: Some(500),
        ..ServerChange::default()
    };
    bench.apply(Change::SetServer(ServerId(0), half));
    for id in 1..=10 {
        bench.offer(id);
    }
    assert_eq!(bench.counts(), (8, 2));
    // Eight jobs for the two workers that may work now.
    assert_eq!(bench.batch(0, 8), (Some(3), vec![4, 5, 6]));
    assert_eq!(bench.batch(1, 8), (Some(7), vec![8]));
    assert_eq!(bench.counts(), (2, 6));
}

#[test]
fn each_of_a_batch_took_its_part_of_the_time() {
    let mut bench = Bench::new(LONG, &[1]);
    for id in 1..=5 {
        bench.offer(id);
    }
    assert_eq!(bench.batch(0, 8), (Some(2), vec![3, 4, 5]));
    bench.now = bench.at(4);
    // The first job took no time, and these four took one second each.
    assert_eq!(bench.batch(0, 8), (None, vec![]));
    assert_eq!(
        bench.dispatcher.expected_wait(BucketId(0)),
        Duration::from_secs(1)
    );
}
