//! Buckets and clients, through the dispatcher.

use super::*;

impl Bench {
    pub(super) fn bucket(&mut self, assured: f64, queue_limit: usize) -> BucketId {
        let bucket = Bucket {
            assured: Share::Part(assured),
            queue_limit,
            ..Bucket::default()
        };
        self.apply(Change::AddBucket(BucketId(0), bucket))
            .bucket
            .expect("a bucket")
    }

    pub(super) fn offer_to(&mut self, bucket: BucketId, id: u64) -> Offer<u64> {
        let ticket = Ticket {
            bucket,
            ..self.ticket(id)
        };
        self.dispatcher.offer(id, ticket, self.now)
    }

    fn offer_of(&mut self, key: u64, id: u64) -> Offer<u64> {
        let ticket = Ticket {
            key: Some(key),
            ..self.ticket(id)
        };
        self.dispatcher.offer(id, ticket, self.now)
    }
}

#[test]
fn the_owner_gets_the_next_slot() {
    let mut bench = Bench::new(LATE, &[2]);
    let (vip, bulk) = (bench.bucket(0.5, 10), bench.bucket(0.0, 10));
    for id in 1..=4 {
        bench.offer_to(bulk, id);
    }
    assert_eq!(bench.offer_to(vip, 5), Offer::Queued);
    let counts = bench.dispatcher.bucket(vip);
    assert_eq!((counts.assured, counts.claims, counts.queued), (1, 1, 1));
    assert_eq!(bench.done(0), next(5));
    assert_eq!(bench.done(1), next(3));
    assert_eq!(bench.dispatcher.bucket(vip).violations, 0);
    assert_eq!(bench.dispatcher.bucket(vip).longest_wait, 1);
}

#[test]
fn removing_a_bucket_loses_nothing() {
    let mut bench = Bench::new(LATE, &[1]);
    let bucket = bench.bucket(0.5, 10);
    for id in 1..=3 {
        bench.offer_to(bucket, id);
    }
    bench.apply(Change::RemoveBucket(bucket));
    // A ticket with the removed number stands for the root.
    assert_eq!(bench.offer_to(bucket, 4), Offer::Queued);
    let ticket = bench.ticket(1);
    assert_eq!(
        bench.retry(0, Ticket { bucket, ..ticket }, LinkState::Up),
        next(1)
    );
    for id in 2..=4 {
        assert_eq!(bench.done(0), next(id));
    }
    bench.done(0);
    let root = bench.dispatcher.bucket(BucketId(0));
    assert_eq!((root.held, root.queued), (0, 0));
}

#[test]
fn a_bucket_has_a_limit_of_its_own() {
    let mut bench = Bench::new(LATE, &[1]);
    let bucket = bench.bucket(0.5, 1);
    bench.offer_to(bucket, 1);
    assert_eq!(bench.offer_to(bucket, 2), Offer::Queued);
    assert_eq!(
        bench.offer_to(bucket, 3),
        Offer::Refused(Refusal::QueueFull, 3)
    );
    assert_eq!(bench.offer(4), Offer::Queued);
}

#[test]
fn a_share_is_a_share_of_the_queue_too() {
    let mut bench = Bench::new(LATE, &[4]);
    let bucket = bench.bucket(0.5, 100);
    let limit = LATE.queue_limit as u64;
    for id in 0..4 + limit {
        bench.offer(id);
    }
    assert_eq!(bench.offer(100), Offer::Refused(Refusal::QueueFull, 100));
    // Two of four places are its own; further jobs compete with all others.
    assert_eq!(bench.offer_to(bucket, 101), Offer::Queued);
    assert_eq!(bench.offer_to(bucket, 102), Offer::Queued);
    assert_eq!(
        bench.offer_to(bucket, 103),
        Offer::Refused(Refusal::QueueFull, 103)
    );
    assert_eq!((bench.done(0), bench.done(1)), (next(101), next(102)));
    // A client with its full share offers the next job before it has given back the last.
    assert_eq!(bench.offer_to(bucket, 104), Offer::Queued);
    // The bucket's own limit holds as well.
    let small = bench.bucket(0.25, 0);
    assert_eq!(
        bench.offer_to(small, 105),
        Offer::Refused(Refusal::QueueFull, 105)
    );
}

#[test]
fn clients_take_turns() {
    let mut bench = Bench::new(
        Settings {
            queue_limit: 100,
            ..LATE
        },
        &[1],
    );
    bench.offer(0);
    for id in 1..=4 {
        bench.offer_of(1, id);
    }
    bench.offer_of(2, 5);
    bench.offer_of(2, 6);
    bench.offer(7);
    let order = (0..7)
        .map(|_| bench.done(0).next.expect("a job"))
        .collect::<Vec<_>>();
    assert_eq!(order, [1, 5, 7, 2, 6, 3, 4]);
}

#[test]
fn one_client_cannot_fill_the_queue() {
    let mut bench = Bench::new(LATE, &[1]);
    bench.offer(0);
    let mut waiting = [0; 3];
    for id in 1..=60 {
        let client = if id <= 20 { 0 } else { id as usize % 3 };
        match bench.offer_of(client as u64, id) {
            Offer::Queued => waiting[client] += 1,
            other => {
                let refusal = match waiting.iter().sum() {
                    8 => Refusal::QueueFull,
                    _ => Refusal::ClientQueueFull,
                };
                assert_eq!(other, Offer::Refused(refusal, id));
            }
        }
    }
    // Of eight places half for the first client and one more, of the rest the same for the next,
    // and one is still left for another.
    assert_eq!(waiting, [5, 2, 1]);
    assert_eq!(
        bench.offer_of(10, 61),
        Offer::Refused(Refusal::QueueFull, 61)
    );
}

#[test]
fn one_client_alone_can_use_a_short_queue() {
    for (queue_limit, own) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        let mut bench = Bench::new(
            Settings {
                queue_limit,
                ..LATE
            },
            &[1],
        );
        bench.offer(0);
        let queued = (1..=10)
            .filter(|id| bench.offer_of(1, *id) == Offer::Queued)
            .count();
        assert_eq!(queued, own, "of {queue_limit}");
        let other = bench.offer_of(2, 11);
        assert_eq!(other == Offer::Queued, queue_limit > own);
    }
}

#[test]
fn what_cannot_be_answered_in_time_is_refused_at_once() {
    let mut bench = Bench::new(
        Settings {
            queue_limit: 100,
            ..LATE
        },
        &[1],
    );
    let by = |bench: &Bench, id: u64, seconds: u64, key: u64| Ticket {
        answer_by: Some(bench.now + Duration::from_secs(seconds)),
        key: Some(key),
        ..bench.ticket(id)
    };
    // Nothing is known yet, so the job is accepted.
    bench.offer(1);
    let ticket = by(&bench, 2, 5, 1);
    assert_eq!(bench.dispatcher.offer(2, ticket, bench.now), Offer::Queued);
    // A job takes two seconds.
    bench.now = bench.at(2);
    assert_eq!(bench.done(0), next(2));
    for id in 3..=5 {
        assert_eq!(bench.offer_of(1, id), Offer::Queued);
    }
    assert_eq!(
        bench.dispatcher.expected_wait(BucketId(0)),
        Duration::from_secs(8)
    );
    let ticket = by(&bench, 6, 9, 1);
    assert_eq!(
        bench.dispatcher.offer(6, ticket, bench.now),
        Offer::Refused(Refusal::Hopeless, 6)
    );
    // Another client's turn comes sooner.
    let ticket = by(&bench, 7, 9, 2);
    assert_eq!(bench.dispatcher.offer(7, ticket, bench.now), Offer::Queued);
    // A job that has waited too long is still not served.
    assert_eq!(
        bench.dispatcher.wake(bench.at(12)),
        refused(Refusal::QueueTimeout, 7)
    );
}

#[test]
fn who_cannot_be_answered_in_time_any_more_is_not_served() {
    let mut bench = Bench::new(LATE, &[1]);
    bench.offer(1);
    bench.now = bench.at(2);
    bench.done(0);
    bench.offer(2);
    for (id, seconds) in [(3, 7), (4, 12)] {
        let ticket = Ticket {
            answer_by: Some(bench.at(seconds)),
            ..bench.ticket(id)
        };
        assert_eq!(bench.dispatcher.offer(id, ticket, bench.now), Offer::Queued);
    }
    // It took twice as long as the job before: a server would work in vain.
    bench.now = bench.at(6);
    let handout = bench.done(0);
    assert_eq!(
        (handout.next, handout.refused),
        (Some(4), vec![(Refusal::Hopeless, 3)])
    );
}

/// Unrelated changes of a reload, between any two steps: buckets keep their turns and claims, and
/// clients theirs.
#[test]
fn unrelated_changes_cost_nobody_its_place() {
    let shares = [(0.5, 20), (0.2, 20), (0.0, 20)];
    for seed in 0..60 {
        let mut random = random::Random::new(seed);
        let lending = if seed % 3 == 0 {
            Lending::Reserve
        } else {
            Lending::WorkConserving
        };
        let settings = Settings {
            lending,
            queue_limit: 100,
            ..LATE
        };
        let mut benches = [(); 2].map(|()| {
            let mut bench = Bench::new(settings, &[2, 3]);
            for (assured, queue_limit) in shares {
                bench.bucket(assured, queue_limit);
            }
            let guest = NewServer {
                health: Health::Offline,
                ..NewServer::with_capacity(1)
            };
            bench.apply(Change::AddServer(guest));
            bench
        });
        for id in 1..400 {
            let [plain, changed] = &mut benches;
            let bucket = random.below(3) as usize;
            let same = Bucket {
                assured: Share::Part(shares[bucket].0),
                queue_limit: shares[bucket].1,
                ..Bucket::default()
            };
            let id_of_bucket = BucketId(1 + bucket as u32);
            match random.below(7) {
                0 => drop(changed.apply(Change::SetBucket(id_of_bucket, same))),
                1 => drop(changed.apply(Change::SetLending(lending))),
                2 => drop(changed.apply(Change::SetQueue {
                    limit: 100,
                    wait_for_server: false,
                })),
                3 => {
                    // An unused bucket comes and goes.
                    let added = changed.apply(Change::AddBucket(BucketId(0), Bucket::default()));
                    changed.apply(Change::RemoveBucket(added.bucket.expect("a bucket")));
                }
                4 => {
                    let change = ServerChange {
                        warmth: Some(1 + random.below(900) as u16),
                        ..ServerChange::default()
                    };
                    changed.apply(Change::SetServer(ServerId(2), change));
                }
                5 => drop(changed.apply(Change::SetSchedule(Schedule::RoundRobin))),
                _ => drop(changed.apply(Change::SetBinding { early: false })),
            }
            if random.below(5) < 3 {
                let key = random.below(4);
                let both = [plain, changed].map(|bench| {
                    let ticket = Ticket {
                        key: Some(key),
                        bucket: id_of_bucket,
                        ..bench.ticket(id)
                    };
                    bench.dispatcher.offer(id, ticket, bench.now)
                });
                assert_eq!(both[0], both[1], "seed {seed}, {id}");
            } else {
                let worker = random.below(5) as u32;
                let both = [plain, changed].map(|bench| bench.done(worker));
                assert_eq!(both[0], both[1], "seed {seed}, {id}");
            }
        }
        let [plain, changed] = &benches;
        for bucket in 1..=3 {
            let counts = |bench: &Bench| BucketCounts {
                bound: 0,
                ..bench.dispatcher.bucket(BucketId(bucket))
            };
            assert_eq!(counts(plain), counts(changed));
        }
    }
}
