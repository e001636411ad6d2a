//! Schedulers, tested through the dispatcher.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::balance::*;

/// Makes servers with these weights that are never full, all up.
fn cluster(schedule: Schedule, weights: &[u32], capacity: usize) -> Dispatcher<u64> {
    let now = Instant::now();
    let mut dispatcher = Dispatcher::new(Settings {
        schedule,
        seed: 5,
        ..Settings::default()
    });
    for weight in weights {
        let server = NewServer {
            weight: *weight,
            ..NewServer::with_capacity(capacity)
        };
        let outcome = dispatcher
            .apply(Change::AddServer(server), now)
            .expect("a server");
        for (_, worker) in outcome.started {
            dispatcher.next(worker, Verdict::None, LinkState::Up, now);
        }
    }
    dispatcher
}

fn ticket(id: u64, key: u64, now: Instant) -> Ticket {
    Ticket {
        id,
        bucket: BucketId(0),
        key: None,
        affinity: Some(key),
        deadline: now + Duration::from_secs(60),
        answer_by: None,
        avoid: None,
        batchable: false,
    }
}

/// Returns the server that serves a job. Its worker is free again at once.
fn serve(
    dispatcher: &mut Dispatcher<u64>,
    key: u64,
    capacity: usize,
    now: Instant,
    took: Duration,
) -> u32 {
    match dispatcher.offer(key, ticket(key, key, now), now) {
        Offer::Assigned(worker, _) => {
            dispatcher.next(worker, Verdict::Done, LinkState::Up, now + took);
            worker.0 / capacity as u32
        }
        other => panic!("{other:?}"),
    }
}

fn distribution(schedule: Schedule, weights: &[u32], jobs: u64) -> Vec<u64> {
    let now = Instant::now();
    let mut dispatcher = cluster(schedule, weights, 2);
    let mut counts = vec![0; weights.len()];
    for id in 0..jobs {
        counts[serve(&mut dispatcher, id, 2, now, Duration::ZERO) as usize] += 1;
    }
    counts
}

#[test]
fn weights_converge() {
    assert_eq!(
        distribution(Schedule::RoundRobin, &[5, 3, 1], 900),
        [500, 300, 100]
    );
    assert_eq!(distribution(Schedule::Chance, &[5, 3, 1], 90), [90, 0, 0]);
    // The loads are always 0 and do not decide, so turns do.
    assert_eq!(distribution(Schedule::LeastLoad, &[3, 1], 88), [66, 22]);
    for schedule in [
        Schedule::Random,
        Schedule::Rendezvous { balance: 1000 },
        Schedule::Jump { balance: 1000 },
    ] {
        let counts = distribution(schedule, &[5, 3, 1], 90_000);
        for (count, expected) in counts.iter().zip([50_000.0, 30_000.0, 10_000.0]) {
            let ratio = *count as f64 / expected;
            assert!((0.9..1.1).contains(&ratio), "{schedule:?}: {counts:?}");
        }
    }
}

#[test]
fn turns_are_spread_evenly() {
    let now = Instant::now();
    let mut dispatcher = cluster(Schedule::RoundRobin, &[4, 2, 1], 2);
    let turns = (0..700)
        .map(|id| serve(&mut dispatcher, id, 2, now, Duration::ZERO))
        .collect::<Vec<_>>();
    for window in turns.windows(7) {
        let mut counts = [0i32; 3];
        window
            .iter()
            .for_each(|server| counts[*server as usize] += 1);
        for (count, expected) in counts.iter().zip([4, 2, 1]) {
            assert!((count - expected).abs() <= 1, "{window:?}");
        }
    }
}

#[test]
fn who_was_away_makes_up_for_little() {
    let now = Instant::now();
    let mut dispatcher = cluster(Schedule::RoundRobin, &[2, 1], 1);
    // The second server is busy for a long time.
    let mut id = 0;
    let mut held = None;
    while held.is_none() {
        id += 1;
        match dispatcher.offer(id, ticket(id, id, now), now) {
            Offer::Assigned(WorkerId(1), _) => held = Some(WorkerId(1)),
            Offer::Assigned(worker, _) => {
                drop(dispatcher.next(worker, Verdict::Done, LinkState::Up, now));
            }
            other => panic!("{other:?}"),
        }
    }
    for id in 100..200 {
        assert_eq!(serve(&mut dispatcher, id, 1, now, Duration::ZERO), 0);
    }
    dispatcher.next(WorkerId(1), Verdict::Done, LinkState::Up, now);
    let turns = (200..230)
        .map(|id| serve(&mut dispatcher, id, 1, now, Duration::ZERO))
        .collect::<Vec<_>>();
    let its = |turns: &[u32]| turns.iter().filter(|server| **server == 1).count();
    // It makes up for four of the fifty turns that it has missed.
    assert_eq!(its(&turns[..5]), 5, "{turns:?}");
    assert_eq!(its(&turns[6..]), 8, "{turns:?}");
}

#[test]
fn the_least_loaded_server_is_the_one_with_the_fewest_jobs_for_its_weight() {
    let now = Instant::now();
    let mut dispatcher = cluster(Schedule::LeastLoad, &[2, 1], 6);
    let mut counts = [0; 2];
    for id in 0..9 {
        match dispatcher.offer(id, ticket(id, id, now), now) {
            Offer::Assigned(worker, _) => counts[worker.0 as usize / 6] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(counts, [6, 3]);
    let two = |schedule| {
        let mut dispatcher = cluster(schedule, &[1; 10], 50);
        let mut counts = [0; 10];
        for id in 0..200 {
            if let Offer::Assigned(worker, _) = dispatcher.offer(id, ticket(id, id, now), now) {
                counts[worker.0 as usize / 50] += 1;
            }
        }
        counts.into_iter().max().expect("a server")
    };
    // 20 each; at random the fullest has about 30.
    assert!(two(Schedule::TwoChoices) <= 24);
    assert!(two(Schedule::Random) > 24);
    assert_eq!(two(Schedule::LeastLoad), 20);
}

#[test]
fn a_slow_server_gets_less() {
    let mut now = Instant::now();
    let mut dispatcher = cluster(Schedule::PeakEwma, &[1; 3], 2);
    let mut counts = [0; 3];
    for id in 0..900 {
        // The second server is slow, and the scheduler is not told.
        let server = match dispatcher.offer(id, ticket(id, id, now), now) {
            Offer::Assigned(worker, _) => {
                let server = worker.0 / 2;
                let took = Duration::from_millis(if server == 1 { 200 } else { 10 });
                now += Duration::from_millis(1);
                dispatcher.next(worker, Verdict::Done, LinkState::Up, now + took);
                server
            }
            other => panic!("{other:?}"),
        };
        counts[server as usize] += 1;
    }
    assert!(
        counts[1] < 50 && counts[0] > 350 && counts[2] > 350,
        "{counts:?}"
    );
    let latency = dispatcher
        .server(ServerId(1))
        .and_then(|server| server.latency);
    assert!(
        latency.is_some_and(|latency| latency > Duration::from_millis(100)),
        "{latency:?}"
    );
}

#[test]
fn a_key_stays_with_its_server() {
    let now = Instant::now();
    for (schedule, tolerance) in [
        (Schedule::Rendezvous { balance: 1000 }, 0),
        // It promises little for servers that leave from the middle.
        (Schedule::Jump { balance: 1000 }, 600),
    ] {
        let mut dispatcher = cluster(schedule, &[1; 5], 2);
        let map = |dispatcher: &mut Dispatcher<u64>| {
            (0..1000u64)
                .map(|key| (key, serve(dispatcher, key, 2, now, Duration::ZERO)))
                .collect::<BTreeMap<_, _>>()
        };
        let before = map(&mut dispatcher);
        assert_eq!(map(&mut dispatcher), before);
        let health = |health| ServerChange {
            health: Some(health),
            ..ServerChange::default()
        };
        dispatcher
            .apply(Change::SetServer(ServerId(2), health(Health::Offline)), now)
            .expect("a server");
        let without = map(&mut dispatcher);
        let moved = before
            .iter()
            .filter(|(key, server)| **server != 2 && without[key] != **server);
        let moved = moved.count();
        assert!(
            moved <= tolerance,
            "{schedule:?}: {moved} moved that need not"
        );
        assert!(without.values().all(|server| *server != 2));
        dispatcher
            .apply(Change::SetServer(ServerId(2), health(Health::Online)), now)
            .expect("a server");
        assert_eq!(map(&mut dispatcher), before);
    }
}

#[test]
fn one_key_alone_does_not_overload_its_server() {
    let now = Instant::now();
    for schedule in [
        Schedule::Rendezvous { balance: 125 },
        Schedule::Jump { balance: 125 },
    ] {
        let mut dispatcher = cluster(schedule, &[1; 4], 100);
        let mut counts = [0; 4];
        for id in 0..100 {
            match dispatcher.offer(id, ticket(id, 7, now), now) {
                Offer::Assigned(worker, _) => counts[worker.0 as usize / 100] += 1,
                other => panic!("{other:?}"),
            }
        }
        // 125 percent of 25, rounded up.
        assert_eq!(counts.iter().max(), Some(&32), "{schedule:?}: {counts:?}");
    }
}

#[test]
fn a_scheduler_can_be_switched_at_any_time() {
    let now = Instant::now();
    let mut dispatcher = cluster(Schedule::RoundRobin, &[1, 1], 2);
    serve(&mut dispatcher, 1, 2, now, Duration::ZERO);
    dispatcher
        .apply(Change::SetSchedule(Schedule::Chance), now)
        .expect("a scheduler");
    let turns = (2..6).map(|id| serve(&mut dispatcher, id, 2, now, Duration::ZERO));
    assert_eq!(turns.collect::<Vec<_>>(), [0; 4]);
}
