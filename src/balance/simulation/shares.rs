//! How much each server gets. Clients wait for their response before the next request, servers have
//! random weights and capacities, and changes in between must not matter.

use std::time::{Duration, Instant};

use super::{PrintedOnPanic, Random};
use crate::balance::*;

/// The schedulers that use weights.
const WEIGHTED: [Schedule; 7] = [
    Schedule::RoundRobin,
    Schedule::LeastLoad,
    Schedule::Random,
    Schedule::TwoChoices,
    Schedule::PeakEwma,
    Schedule::Rendezvous { balance: 10_000 },
    Schedule::Jump { balance: 10_000 },
];

/// How far a share may be from what the weights say.
const TOLERANCE: f64 = 0.05;

/// The average service time.
const SERVICE: f64 = 0.01;

/// A cluster, and what its workers do.
struct World {
    dispatcher: Dispatcher<u64>,
    schedule: Schedule,
    random: Random,
    now: Instant,
    /// The server of each worker, by number.
    server_of: Vec<usize>,
    /// The serving workers, and until when.
    serving: Vec<(Instant, WorkerId)>,
    queued: usize,
    /// By server: the jobs that it got, and its service time as a multiple of the others'.
    got: Vec<u64>,
    slowness: Vec<f64>,
    offered: u64,
}

impl World {
    fn new(schedule: Schedule, servers: &[(u32, usize)], seed: u64) -> Self {
        let mut world = Self {
            dispatcher: Dispatcher::new(Settings {
                schedule,
                seed,
                wait_for_server: true,
                ..Settings::default()
            }),
            schedule,
            random: Random::new(seed ^ 0x5eed),
            now: Instant::now(),
            server_of: Vec::new(),
            serving: Vec::new(),
            queued: 0,
            got: Vec::new(),
            slowness: Vec::new(),
            offered: 0,
        };
        for (weight, capacity) in servers {
            world.add(*weight, *capacity);
        }
        world
    }

    fn add(&mut self, weight: u32, capacity: usize) -> ServerId {
        let server = NewServer {
            weight,
            ..NewServer::with_capacity(capacity)
        };
        let id = self
            .apply(Change::AddServer(server))
            .server
            .expect("a server");
        let place = id.0 as usize;
        if self.got.len() <= place {
            self.got.resize(place + 1, 0);
            self.slowness.resize(place + 1, 1.0);
        }
        (self.got[place], self.slowness[place]) = (0, 1.0);
        id
    }

    /// Applies a change. Started workers come up at once, and dismissed ones leave at once if they
    /// may.
    fn apply(&mut self, change: Change) -> Outcome<u64> {
        let outcome = self
            .dispatcher
            .apply(change, self.now)
            .expect("a possible change");
        for (ServerId(server), worker) in &outcome.started {
            let place = worker.0 as usize;
            if self.server_of.len() <= place {
                self.server_of.resize(place + 1, 0);
            }
            self.server_of[place] = *server as usize;
            let handout = self
                .dispatcher
                .next(*worker, Verdict::None, LinkState::Up, self.now);
            self.follow(*worker, &handout);
        }
        for worker in &outcome.dismissed {
            if !self.serving.iter().any(|(_, serving)| serving == worker) {
                let gone = self.dispatcher.gone(*worker, self.now);
                assert!(gone.started.is_empty());
            }
        }
        for (worker, _) in &outcome.handout.assigned {
            self.queued -= 1;
            self.begin(*worker);
        }
        outcome
    }

    fn set(&mut self, server: u32, change: ServerChange) {
        self.apply(Change::SetServer(ServerId(server), change));
    }

    fn follow(&mut self, worker: WorkerId, handout: &Handout<u64>) {
        assert!(handout.refused.is_empty());
        let assigned = handout.assigned.iter().map(|(worker, _)| *worker);
        for worker in handout.next.map(|_| worker).into_iter().chain(assigned) {
            self.queued -= 1;
            self.begin(worker);
        }
    }

    fn begin(&mut self, worker: WorkerId) {
        let server = self.server_of[worker.0 as usize];
        self.got[server] += 1;
        let even = (self.random.below(1 << 20) as f64 + 0.5) / f64::from(1 << 20);
        let factor = match self.schedule {
            // This scheduler spares servers that seem slow, so none must seem slow here.
            Schedule::PeakEwma => 0.8 + 0.4 * even,
            _ => -even.ln(),
        };
        let took = Duration::from_secs_f64(SERVICE * factor * self.slowness[server]);
        self.serving.push((self.now + took, worker));
    }

    fn offer(&mut self) {
        self.offered += 1;
        let id = self.offered;
        let ticket = Ticket {
            id,
            bucket: BucketId(0),
            key: Some(id),
            affinity: Some(id),
            deadline: self.now + Duration::from_secs(600),
            answer_by: None,
            avoid: None,
            batchable: false,
        };
        match self.dispatcher.offer(id, ticket, self.now) {
            Offer::Assigned(worker, _) => self.begin(worker),
            Offer::Queued => self.queued += 1,
            Offer::Refused(refusal, _) => panic!("{refusal:?}"),
        }
    }

    /// Ends the next service.
    fn end_one(&mut self) {
        let Some(first) = (0..self.serving.len()).min_by_key(|place| self.serving[*place].0) else {
            return;
        };
        let (end, worker) = self.serving.swap_remove(first);
        self.now = self.now.max(end);
        let handout = self
            .dispatcher
            .next(worker, Verdict::Done, LinkState::Up, self.now);
        self.follow(worker, &handout);
    }

    /// Runs `requests` requests of `clients` clients.
    fn run(&mut self, clients: usize, requests: u64) {
        for _ in 0..requests {
            while self.serving.len() + self.queued >= clients {
                self.end_one();
            }
            self.offer();
        }
    }

    /// Returns what each server got of `requests` requests of `clients` clients.
    fn tally(&mut self, clients: usize, requests: u64) -> Vec<u64> {
        let before = self.got.clone();
        self.run(clients, requests);
        let got = self.got.iter().zip(before);
        got.map(|(now, before)| now - before).collect()
    }
}

/// Returns the largest distance of a share from its weight.
fn distance(counts: &[u64], weights: &[u32]) -> f64 {
    let all: u64 = counts.iter().sum();
    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let off = counts
        .iter()
        .zip(weights)
        .map(|(count, weight)| (*count as f64 / all as f64 - f64::from(*weight) / sum).abs());
    off.fold(0.0, f64::max)
}

fn weights(random: &mut Random) -> Vec<u32> {
    let count = 2 + random.below(5);
    (0..count)
        .map(|_| random.pick(&[1, 1, 1, 2, 3, 5, 10, 100, 1000]))
        .collect()
}

fn health(health: Health) -> ServerChange {
    ServerChange {
        health: Some(health),
        ..ServerChange::default()
    }
}

fn warmth(warmth: u16) -> ServerChange {
    ServerChange {
        warmth: Some(warmth),
        ..ServerChange::default()
    }
}

#[test]
fn shares_are_the_weights_at_any_load() {
    super::for_each_seed(350, |seed| {
        let _seed = PrintedOnPanic(seed);
        let mut random = Random::new(seed);
        let schedule = WEIGHTED[seed as usize % WEIGHTED.len()];
        let weights = weights(&mut random);
        let clients = random.pick(&[1, 1, 2, 3, 4, 5, 6, 8, 12, 20]);
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let servers = weights.iter().map(|weight| {
            // Its share has to fit, and schedulers without a memory need room for every burst.
            let share = (f64::from(*weight) / sum * clients as f64 * 1.3).ceil() as usize;
            let slack = match schedule {
                Schedule::RoundRobin | Schedule::LeastLoad | Schedule::TwoChoices => {
                    1 + random.below(4)
                }
                _ => clients,
            };
            (*weight, share + slack)
        });
        let servers = servers.collect::<Vec<_>>();
        let mut world = World::new(schedule, &servers, seed);
        world.run(clients, 100);
        let counts = world.tally(clients, 4000);
        let off = distance(&counts, &weights);
        assert!(
            off <= TOLERANCE,
            "{schedule:?} of {servers:?}, {clients} clients: {counts:?}, {off:.3}"
        );
    });
}

/// One request at a time, and exactly.
#[test]
fn idle_servers_take_turns_by_weight() {
    for schedule in [
        Schedule::RoundRobin,
        Schedule::LeastLoad,
        Schedule::TwoChoices,
        Schedule::PeakEwma,
    ] {
        for weights in [
            &[2, 1, 1][..],
            &[1, 1],
            &[3, 1],
            &[5, 1, 1],
            &[7, 3, 2, 1],
            &[1000, 1],
        ] {
            let servers: Vec<_> = weights.iter().map(|weight| (*weight, 4)).collect();
            let mut world = World::new(schedule, &servers, 1);
            let sum: u32 = weights.iter().sum();
            let rounds = 4000 / u64::from(sum) + 1;
            let counts = world.tally(1, rounds * u64::from(sum));
            for (count, weight) in counts.iter().zip(weights) {
                let expected = rounds * u64::from(*weight);
                // Not every drawn pair contains the server whose turn it is.
                let most = match schedule {
                    Schedule::RoundRobin | Schedule::LeastLoad => 1,
                    _ => 8,
                };
                assert!(
                    count.abs_diff(expected) <= most,
                    "{schedule:?}, {weights:?}: {counts:?}"
                );
            }
        }
    }
}

/// When all servers are busy, a worker that becomes free takes a waiting job. Then the servers'
/// capacity and speed decide, and afterwards weights decide again.
#[test]
fn when_all_are_busy_capacity_decides() {
    for schedule in WEIGHTED {
        let mut world = World::new(schedule, &[(1, 6), (3, 2)], 3);
        let counts = world.tally(12, 4000);
        assert!(
            distance(&counts, &[6, 2]) < TOLERANCE,
            "{schedule:?}: {counts:?}"
        );
        world.run(1, 30);
        let counts = world.tally(1, 3000);
        assert!(
            distance(&counts, &[1, 3]) < TOLERANCE,
            "{schedule:?}: {counts:?}"
        );
    }
}

/// A slow server keeps its share where turns decide, and its part of the jobs at work where loads
/// decide.
#[test]
fn a_slow_server_has_what_its_scheduler_means() {
    let share_of_slow = |schedule, clients| {
        let mut world = World::new(schedule, &[(2, 20), (1, 20), (1, 20)], 8);
        world.slowness[0] = 10.0;
        world.run(clients, 200);
        let counts = world.tally(clients, 4000);
        counts[0] as f64 / 4000.0
    };
    for schedule in [Schedule::RoundRobin, Schedule::Random] {
        for clients in [1, 4] {
            let share = share_of_slow(schedule, clients);
            assert!(
                (share - 0.5).abs() < TOLERANCE,
                "{schedule:?}, {clients}: {share}"
            );
        }
    }
    for schedule in [Schedule::LeastLoad, Schedule::TwoChoices] {
        // With one job at a time, no load is visible.
        let share = share_of_slow(schedule, 1);
        assert!((share - 0.5).abs() < TOLERANCE, "{schedule:?}: {share}");
        // It has half of the 8 jobs at work, each of which takes ten times as long: an eleventh of
        // all. The drawn pair does not always show the server with more jobs.
        let share = share_of_slow(schedule, 8);
        let most = if schedule == Schedule::LeastLoad {
            TOLERANCE
        } else {
            0.12
        };
        assert!((share - 1.0 / 11.0).abs() < most, "{schedule:?}: {share}");
    }
    let share = share_of_slow(Schedule::PeakEwma, 1);
    assert!(share < TOLERANCE, "{share}");
}

/// Of two servers with the same weight the one with fewer jobs is chosen, however long ago the
/// other had its turn.
#[test]
fn fewer_jobs_come_before_the_turn() {
    let mut world = World::new(Schedule::LeastLoad, &[(7, 4), (7, 4)], 1);
    world.slowness[0] = 1e6;
    let counts = world.tally(2, 1000);
    assert!(counts[0] <= 1, "{counts:?}");
}

/// Changes without effect happen between any two requests, while another server comes and goes.
#[test]
fn changes_in_between_cost_nobody_its_turn() {
    super::for_each_seed(280, |seed| {
        let _seed = PrintedOnPanic(seed);
        let mut random = Random::new(seed);
        let schedule = WEIGHTED[seed as usize % WEIGHTED.len()];
        // Jump hashing promises nothing about servers that come and go in the middle.
        let core = weights(&mut random)
            .into_iter()
            .map(|weight| weight.min(10))
            .collect::<Vec<_>>();
        let clients = random.pick(&[1, 1, 2, 3, 5]);
        let servers: Vec<_> = core.iter().map(|weight| (*weight, 30)).collect();
        let mut world = World::new(schedule, &servers, seed);
        let weight = random.pick(&[1, 2, 5]);
        let sum: f64 = core.iter().map(|weight| f64::from(*weight)).sum();
        let part = f64::from(weight) / (f64::from(weight) + sum);
        let mut guest = world.add(weight, 30);
        let (mut while_there, mut expected, mut its) = (0, 0.0, 0);
        let mut there = true;
        let mut bucket = None;
        let period = 1 + random.below(6) as u64;
        for _ in 0..4000 / period {
            match random.below(8) {
                0..3 => {
                    there = !there;
                    let now = if there {
                        Health::Online
                    } else {
                        Health::Offline
                    };
                    world.set(guest.0, health(now));
                }
                3 => {
                    let capacity = Some(20 + random.below(20));
                    world.set(
                        random.below(core.len()) as u32,
                        ServerChange {
                            capacity,
                            ..ServerChange::default()
                        },
                    );
                }
                4 => drop(world.apply(Change::SetQueue {
                    limit: 10_000 + random.below(9),
                    wait_for_server: true,
                })),
                5 => match bucket.take() {
                    Some(bucket) => drop(world.apply(Change::RemoveBucket(bucket))),
                    None => {
                        bucket = world
                            .apply(Change::AddBucket(BucketId(0), Bucket::default()))
                            .bucket;
                    }
                },
                6 => drop(world.apply(Change::SetSchedule(schedule))),
                _ => {
                    let change = ServerChange {
                        admin: Some(random.pick(&[Admin::Enabled, Admin::Draining])),
                        ..ServerChange::default()
                    };
                    there = there && change.admin == Some(Admin::Enabled);
                    world.set(guest.0, change);
                    // The cause of its absence is over.
                    world.set(
                        guest.0,
                        ServerChange {
                            admin: Some(Admin::Enabled),
                            ..health(if there {
                                Health::Online
                            } else {
                                Health::Offline
                            })
                        },
                    );
                }
            }
            let counts = world.tally(clients, period);
            if there {
                while_there += period;
                expected += part * period as f64;
                its += counts[guest.0 as usize];
            }
        }
        let off = distance(&world.got[..core.len()], &core);
        assert!(
            off <= TOLERANCE,
            "{schedule:?} of {core:?}: {:?}, {off:.3}",
            world.got
        );
        // By loads, a server that comes back without jobs first gets its part of all jobs at work.
        let by_load = !matches!(schedule, Schedule::RoundRobin | Schedule::Random) && clients > 1;
        let off = (its as f64 - expected).abs() / f64::from(while_there as u32 + 1);
        assert!(
            by_load || off <= TOLERANCE,
            "{schedule:?}, the guest ({weight} of {core:?}): {its} of {while_there}"
        );
        // It leaves, and another one comes in its place: neither has a burst, nor waits long.
        world.set(guest.0, health(Health::Online));
        while !world.serving.is_empty() {
            world.end_one();
        }
        world.apply(Change::RemoveServer(guest));
        guest = world.add(weight, 30);
        let round = (1.0 / part).ceil() as u64;
        let counts = world.tally(1, 2 * round);
        if matches!(schedule, Schedule::RoundRobin | Schedule::LeastLoad) {
            let its = counts[guest.0 as usize];
            assert!(
                (1..=3).contains(&its),
                "{schedule:?}, {weight} of {core:?}: {counts:?}"
            );
        }
    });
}

/// A change that does not concern what is served makes no difference at all.
#[test]
fn unrelated_changes_change_nothing() {
    super::for_each_seed(240, |seed| {
        let _seed = PrintedOnPanic(seed);
        let mut random = Random::new(seed);
        let schedule = WEIGHTED[seed as usize % WEIGHTED.len()];
        let servers = weights(&mut random)
            .into_iter()
            .map(|weight| (weight, 1 + random.below(3)));
        let servers = servers.collect::<Vec<_>>();
        let capacity: usize = servers.iter().map(|(_, capacity)| capacity).sum();
        let clients = 1 + random.below(2 * capacity);
        let mut worlds = [(); 2].map(|()| {
            let mut world = World::new(schedule, &servers, seed);
            let id = world.add(3, 2);
            world.set(id.0, health(Health::Offline));
            world
        });
        let guest = servers.len() as u32;
        for _ in 0..300 {
            let [plain, changed] = &mut worlds;
            let server = random.below(servers.len());
            let same = match random.below(7) {
                0 => ServerChange {
                    weight: Some(servers[server].0),
                    ..health(Health::Online)
                },
                1 => ServerChange {
                    capacity: Some(servers[server].1),
                    protected: Some(random.one_in(2)),
                    ..ServerChange::default()
                },
                _ => ServerChange::default(),
            };
            changed.set(server as u32, same);
            match random.below(5) {
                // A server that is not in use may be anything.
                0 => changed.set(guest, warmth(1 + random.below(1000) as u16)),
                1 => {
                    let weight = Some(1 + random.below(9) as u32);
                    changed.set(
                        guest,
                        ServerChange {
                            weight,
                            ..ServerChange::default()
                        },
                    );
                }
                2 => drop(changed.apply(Change::SetSchedule(schedule))),
                3 => drop(changed.apply(Change::SetLending(Lending::WorkConserving))),
                _ => drop(changed.apply(Change::SetRetries {
                    floor: 3,
                    share: 0.5,
                })),
            }
            assert_eq!(
                plain.tally(clients, 3),
                changed.tally(clients, 3),
                "{schedule:?}"
            );
        }
    });
}

/// A server that is back gets a fiftieth of its share more at each step.
#[test]
fn a_server_that_warms_up_gets_more_and_more() {
    for schedule in WEIGHTED {
        for (servers, clients, each) in [(2, 1, 8), (4, 1, 12), (3, 4, 12), (2, 3, 8)] {
            let all: Vec<_> = (0..servers).map(|_| (3, 8)).collect();
            let mut world = World::new(schedule, &all, 11);
            world.run(clients, 40);
            world.set(1, health(Health::Offline));
            world.run(clients, 200);
            // Random choice needs more requests to show its shares.
            let each = match schedule {
                Schedule::RoundRobin | Schedule::LeastLoad => each,
                _ => 6 * each,
            };
            let mut quarters = [[0.0; 2]; 4];
            for step in 0..48_u16 {
                let is = (step * 20).max(1);
                let change = ServerChange {
                    health: Some(Health::Online),
                    ..warmth(is)
                };
                world.set(1, change);
                let counts = world.tally(clients, each);
                let is = f64::from(is) / 1000.0;
                let quarter = &mut quarters[usize::from(step / 12)];
                quarter[0] += counts[1] as f64 / (12.0 * each as f64);
                quarter[1] += is / (is + f64::from(servers - 1)) / 12.0;
            }
            let what =
                format!("{schedule:?}, {servers} servers, {clients} clients: {quarters:.3?}");
            for [found, expected] in quarters {
                assert!((found - expected).abs() < TOLERANCE, "{what}");
            }
            assert!(
                quarters.is_sorted_by(|one, next| one[0] < next[0]),
                "{what}"
            );
            world.set(1, warmth(1000));
            let counts = world.tally(clients, 2000);
            assert!(
                distance(&counts, &vec![1; servers as usize]) < TOLERANCE,
                "{what}, then {counts:?}"
            );
        }
    }
}

/// With fewer requests than steps, the others evenly share what it does not get.
#[test]
fn at_one_request_for_several_steps_of_warming_all_have_their_turns() {
    for schedule in [Schedule::RoundRobin, Schedule::LeastLoad] {
        let mut world = World::new(schedule, &[(1, 4); 4], 2);
        world.set(3, health(Health::Offline));
        world.run(1, 10);
        let mut counts = [0; 4];
        for step in 0..50_u16 {
            world.set(
                3,
                ServerChange {
                    health: Some(Health::Online),
                    ..warmth((step * 20).max(1))
                },
            );
            if step % 5 < 2 {
                let got = world.tally(1, 1);
                counts
                    .iter_mut()
                    .zip(got)
                    .for_each(|(count, got)| *count += got);
            }
        }
        let [a, b, c, its] = counts;
        assert!((2..=4).contains(&its), "{schedule:?}: {counts:?}");
        for others in [a, b, c] {
            assert!((5..=7).contains(&others), "{schedule:?}: {counts:?}");
        }
    }
}

/// A server that was full for long makes up for a few turns, not for all.
#[test]
fn what_is_made_up_for_is_bounded() {
    let mut world = World::new(Schedule::RoundRobin, &[(1, 1), (1, 50)], 4);
    world.slowness[0] = 1000.0;
    world.run(2, 300);
    world.slowness[0] = 1.0;
    while world
        .serving
        .iter()
        .any(|(_, worker)| world.server_of[worker.0 as usize] == 0)
    {
        world.end_one();
    }
    let counts = world.tally(1, 20);
    assert!((10..=13).contains(&counts[0]), "{counts:?}");
    assert_eq!(world.tally(1, 100), [50, 50]);
}
