//! The cost of a decision of the dispatcher. It must not grow with queue depth, and with servers
//! and buckets no faster than their logarithm: compare the lines of one group.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark is no library"
)]

use std::collections::VecDeque;
use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use juggler::balance::{
    Bucket, BucketId, Cancelled, Change, Dispatcher, LinkState, NewServer, Offer, Schedule,
    ServerId, Settings, Share, Ticket, Verdict, WorkerId,
};

/// The workers of each server.
const CAPACITY: u32 = 5;
const DEPTHS: [usize; 3] = [0, 10, 10_000];
const SERVERS: [u32; 2] = [1, 100];
/// The root alone, or this many buckets below it, all with the same share. Jobs go to each in its
/// turn.
const BUCKETS: [u32; 2] = [1, 50];
const SCHEDULES: [(&str, Schedule); 8] = [
    ("round_robin", Schedule::RoundRobin),
    ("chance", Schedule::Chance),
    ("least_load", Schedule::LeastLoad),
    ("random", Schedule::Random),
    ("two_choices", Schedule::TwoChoices),
    ("peak_ewma", Schedule::PeakEwma),
    ("rendezvous", Schedule::Rendezvous { balance: 125 }),
    ("jump", Schedule::Jump { balance: 125 }),
];

/// The shape of a cluster when the measurement begins.
#[derive(Clone, Copy)]
struct Shape {
    early_binding: bool,
    servers: u32,
    buckets: u32,
    depth: usize,
    schedule: Schedule,
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binding = if self.early_binding { "early" } else { "late" };
        write!(
            formatter,
            "{binding}_s{}_b{}_d{}",
            self.servers, self.buckets, self.depth
        )
    }
}

/// All shapes with these numbers of servers.
fn shapes(early_binding: bool, servers: &[u32]) -> impl Iterator<Item = Shape> {
    let buckets = |servers| BUCKETS.iter().map(move |buckets| (servers, *buckets));
    servers
        .iter()
        .flat_map(move |servers| buckets(*servers))
        .flat_map(move |(servers, buckets)| {
            DEPTHS.iter().map(move |depth| Shape {
                early_binding,
                servers,
                buckets,
                depth: *depth,
                schedule: Schedule::RoundRobin,
            })
        })
}

/// A large cluster for each scheduler.
fn large(early_binding: bool, depth: usize) -> impl Iterator<Item = (String, Shape)> {
    SCHEDULES.iter().map(move |(name, schedule)| {
        let shape = Shape {
            early_binding,
            servers: 100,
            buckets: 50,
            depth,
            schedule: *schedule,
        };
        (format!("{name}_{shape}"), shape)
    })
}

/// A cluster, and the worker and job that act next.
struct Cluster {
    shape: Shape,
    dispatcher: Dispatcher<u64>,
    now: Instant,
    last_id: u64,
    turn: u32,
}

impl Cluster {
    /// All workers are up and idle, and nothing waits.
    fn idle(shape: Shape) -> Self {
        let now = Instant::now();
        let mut dispatcher = Dispatcher::new(Settings {
            early_binding: shape.early_binding,
            queue_limit: usize::MAX,
            wait_for_server: true,
            retry_floor: 100,
            retry_share: 0.2,
            schedule: shape.schedule,
            ..Settings::default()
        });
        for _ in 0..shape.servers {
            let server = NewServer::with_capacity(CAPACITY as usize);
            dispatcher.apply(Change::AddServer(server), now).unwrap();
        }
        if shape.buckets > 1 {
            let bucket = Bucket {
                assured: Share::Part(1.0 / f64::from(shape.buckets)),
                ..Bucket::default()
            };
            for _ in 0..shape.buckets {
                let added = Change::AddBucket(BucketId(0), bucket);
                dispatcher.apply(added, now).unwrap();
            }
        }
        for worker in 0..shape.servers * CAPACITY {
            let _ = dispatcher.next(WorkerId(worker), Verdict::None, LinkState::Up, now);
        }
        Self {
            shape,
            dispatcher,
            now,
            last_id: 0,
            turn: 0,
        }
    }

    /// All workers are serving, and nothing waits yet.
    fn busy(shape: Shape) -> Self {
        let mut cluster = Self::idle(shape);
        for _ in 0..shape.servers * CAPACITY {
            assert!(matches!(cluster.offer(None), Offer::Assigned(..)));
        }
        cluster
    }

    /// All workers are serving, and the queue has the shape's depth.
    fn queued(shape: Shape) -> Self {
        let mut cluster = Self::busy(shape);
        for _ in 0..shape.depth {
            assert_eq!(cluster.offer(None), Offer::Queued);
        }
        cluster
    }

    fn ticket(&self, id: u64, avoid: Option<ServerId>) -> Ticket {
        Ticket {
            id,
            bucket: match self.shape.buckets {
                1 => BucketId(0),
                buckets => BucketId(1 + (id % u64::from(buckets)) as u32),
            },
            key: None,
            affinity: None,
            // No two deadlines are equal, as in practice.
            deadline: self.now + Duration::from_secs(60) + Duration::from_nanos(id),
            answer_by: None,
            avoid,
            batchable: false,
        }
    }

    fn offer(&mut self, avoid: Option<ServerId>) -> Offer<u64> {
        self.last_id += 1;
        let ticket = self.ticket(self.last_id, avoid);
        self.dispatcher.offer(self.last_id, ticket, self.now)
    }

    fn next(&mut self, worker: WorkerId, verdict: Verdict<u64>) -> Option<u64> {
        self.dispatcher
            .next(worker, verdict, LinkState::Up, self.now)
            .next
    }

    /// Servers take turns, and so do the workers of each, in the order of jobs bound early.
    fn next_worker(&mut self) -> WorkerId {
        let turn = self.turn;
        self.turn += 1;
        let (round, server) = (turn / self.shape.servers, turn % self.shape.servers);
        WorkerId(server * CAPACITY + round % CAPACITY)
    }
}

/// A job comes and is served, and there is always an idle worker.
fn offer_next_idle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("offer_next_idle");
    for shape in [false, true]
        .into_iter()
        .flat_map(|early| shapes(early, &SERVERS))
    {
        if shape.depth > 0 {
            continue;
        }
        let mut cluster = Cluster::idle(shape);
        group.bench_function(BenchmarkId::from_parameter(shape), |bencher| {
            bencher.iter(|| match cluster.offer(None) {
                Offer::Assigned(worker, job) => {
                    black_box(job);
                    assert_eq!(cluster.next(worker, Verdict::Done), None);
                }
                _ => unreachable!("a worker is idle"),
            });
        });
    }
}

/// A job comes and waits, and a worker that has ended a job takes the next.
fn offer_next_queued(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("offer_next_queued");
    for shape in [false, true]
        .into_iter()
        .flat_map(|early| shapes(early, &SERVERS))
    {
        let mut cluster = Cluster::queued(shape);
        group.bench_function(BenchmarkId::from_parameter(shape), |bencher| {
            bencher.iter(|| {
                assert_eq!(cluster.offer(None), Offer::Queued);
                let worker = cluster.next_worker();
                assert!(cluster.next(worker, Verdict::Done).is_some());
            });
        });
        assert_eq!(cluster.dispatcher.counts().queued, shape.depth);
    }
}

/// The same with each scheduler: a job comes and is served at once by one of 100 servers, or waits
/// in one of 50 buckets.
fn schedulers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler_idle");
    for (name, shape) in [false, true].into_iter().flat_map(|early| large(early, 0)) {
        let mut cluster = Cluster::idle(shape);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| match cluster.offer(None) {
                Offer::Assigned(worker, job) => {
                    black_box(job);
                    assert_eq!(cluster.next(worker, Verdict::Done), None);
                }
                _ => unreachable!("a worker is idle"),
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("scheduler_queued");
    // With early binding the queues depend on how evenly a scheduler spreads jobs, which is no part
    // of its cost.
    for (name, shape) in large(false, 1000) {
        let mut cluster = Cluster::queued(shape);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                assert_eq!(cluster.offer(None), Offer::Queued);
                let worker = cluster.next_worker();
                assert!(cluster.next(worker, Verdict::Done).is_some());
            });
        });
        assert_eq!(cluster.dispatcher.counts().queued, shape.depth);
    }
}

/// Half of the servers are ten times as slow as the others, and two fifths of the workers are busy
/// under least load: there the slow servers are always late for their turns, and the fast ones
/// early. A job comes, and the jobs whose time is up end.
fn schedulers_two_speeds(criterion: &mut Criterion) {
    const SLOW: u32 = 50;
    let mut group = criterion.benchmark_group("scheduler_two_speeds");
    for (name, shape) in large(false, 0) {
        let mut cluster = Cluster::idle(shape);
        // Of each speed the job that began first ends first.
        let mut lines = [(100, VecDeque::new()), (1000, VecDeque::new())];
        let mut at = 0_u64;
        let mut round = || {
            let Offer::Assigned(worker, job) = cluster.offer(None) else {
                unreachable!("a worker is idle");
            };
            black_box(job);
            let (lasts, line) = &mut lines[usize::from(worker.0 < SLOW * CAPACITY)];
            line.push_back((at + *lasts, worker));
            at += 1;
            for (_, line) in &mut lines {
                while line.front().is_some_and(|(end, _)| *end <= at)
                    && let Some((_, worker)) = line.pop_front()
                {
                    assert_eq!(cluster.next(worker, Verdict::Done), None);
                }
            }
        };
        (0..10_000).for_each(|_| round());
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(&mut round);
        });
    }
}

/// A job comes. One job fails at a server, which takes another job. The failed job is taken at
/// another server (with several buckets: the job whose turn it is). In the beginning half of the
/// waiting jobs avoid the first server; with one bucket that stays so.
fn retry(criterion: &mut Criterion) {
    const FAILING: ServerId = ServerId(0);
    const OTHER: WorkerId = WorkerId(CAPACITY);
    let mut group = criterion.benchmark_group("retry_avoiding");
    for shape in shapes(false, &[2, 100]) {
        let mut cluster = Cluster::busy(shape);
        for _ in 0..shape.depth / 2 {
            assert_eq!(cluster.offer(Some(FAILING)), Offer::Queued);
            assert_eq!(cluster.offer(None), Offer::Queued);
        }
        // A job's content is its number. What the first worker serves at the start does not matter
        // to the dispatcher.
        let mut failing = 1;
        group.bench_function(BenchmarkId::from_parameter(shape), |bencher| {
            bencher.iter(|| {
                assert_eq!(cluster.offer(None), Offer::Queued);
                let verdict = Verdict::Retry {
                    job: failing,
                    ticket: cluster.ticket(failing, Some(FAILING)),
                    free: true,
                    back_off: Duration::ZERO,
                };
                let taken = cluster.next(WorkerId(0), verdict).unwrap();
                let other = cluster.next(OTHER, Verdict::Done);
                assert!(other == Some(failing) || shape.buckets > 1 && other.is_some());
                failing = taken;
            });
        });
        assert_eq!(cluster.dispatcher.counts().queued, shape.depth);
    }
}

/// A client leaves whose job waits somewhere in the queue, and another client comes.
fn cancel_queued(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cancel_queued");
    for shape in shapes(false, &SERVERS).filter(|shape| shape.depth > 0) {
        let mut cluster = Cluster::busy(shape);
        let mut waiting: Vec<_> = (0..shape.depth)
            .map(|_| {
                assert_eq!(cluster.offer(None), Offer::Queued);
                cluster.last_id
            })
            .collect();
        let mut place = 0;
        group.bench_function(BenchmarkId::from_parameter(shape), |bencher| {
            bencher.iter(|| {
                // A stride that visits all places before it comes back.
                place = (place + 7919) % waiting.len();
                let id = waiting[place];
                assert_eq!(cluster.dispatcher.cancel(id), Cancelled::Queued(id));
                assert_eq!(cluster.offer(None), Offer::Queued);
                waiting[place] = cluster.last_id;
            });
        });
        assert_eq!(cluster.dispatcher.counts().queued, shape.depth);
    }
}

/// A client leaves whose job is being served (each in its turn).
fn cancel_serving(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cancel_serving");
    for shape in shapes(false, &SERVERS) {
        let mut cluster = Cluster::queued(shape);
        let serving = u64::from(shape.servers * CAPACITY);
        let mut id = 0;
        group.bench_function(BenchmarkId::from_parameter(shape), |bencher| {
            bencher.iter(|| {
                id = id % serving + 1;
                assert!(matches!(
                    cluster.dispatcher.cancel(id),
                    Cancelled::Serving(_)
                ));
            });
        });
    }
}

/// A search for jobs that have waited too long, when there are none.
fn expire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expire_none");
    for shape in shapes(false, &SERVERS) {
        let mut cluster = Cluster::queued(shape);
        group.bench_function(BenchmarkId::from_parameter(shape), |bencher| {
            bencher.iter(|| {
                assert!(
                    cluster
                        .dispatcher
                        .wake(black_box(cluster.now))
                        .refused
                        .is_empty()
                );
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets =
        offer_next_idle,
        offer_next_queued,
        schedulers,
        schedulers_two_speeds,
        retry,
        cancel_queued,
        cancel_serving,
        expire
}
criterion_main!(benches);
