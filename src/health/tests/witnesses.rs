//! What one client or one path shows is a reason to probe; what several show counts.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const PROVOKED: [FaultClass; 4] = [
    FaultClass::Broken,
    FaultClass::Timeout,
    FaultClass::Protocol,
    FaultClass::Status,
];

/// Every class counts, in a row and in the window.
fn eager(mode: Mode) -> Settings {
    let mut eager = settings(mode);
    eager.passive.consecutive = [3; 5];
    eager.passive.least = 6;
    eager.passive.counts = [true; 5];
    eager
}

#[test]
fn nobody_alone_takes_a_server_from_all() {
    for class in PROVOKED {
        for mode in [Mode::Lazy, Mode::Opportunistic, Mode::Paranoid] {
            let mut bench = Bench::new(eager(mode));
            if mode == Mode::Paranoid {
                bench.probe(Ok(()));
            }
            // Whatever path it asks for.
            for path in 0..1000 {
                assert_eq!(bench.fail_for(class, 1, path), None, "{class:?} {path}");
            }
            // The server is probed soon, and the result of that counts.
            let (waited, changed) = bench.probe(Ok(()));
            assert_eq!((waited, changed), (SECOND / 2, None), "{mode:?}");
            assert_eq!(bench.monitor.next_event().is_none(), mode == Mode::Lazy);
            // One more failure of another client makes two that count, and not a thousand.
            assert_eq!(bench.fail_for(class, 2, 1), None);
            assert_eq!(bench.probe(Err(class)).1, None);
            let cause = Cause::ProbesFailed(2, class);
            let (_, changed) = bench.probe(Err(class));
            assert_eq!(
                changed,
                change(State::Online, State::Offline, cause, bench.now)
            );
        }
    }
}

#[test]
fn a_connect_is_provoked_by_nobody() {
    let mut bench = Bench::new(eager(Mode::Lazy));
    assert_eq!(bench.fail(FaultClass::Connect), None);
    assert_eq!(bench.fail(FaultClass::Connect), None);
    assert!(bench.fail(FaultClass::Connect).is_some());
}

#[test]
fn two_clients_are_enough_and_as_many_of_each() {
    for class in PROVOKED {
        let mut bench = Bench::new(eager(Mode::Lazy));
        for (client, path) in [(1, 1), (1, 2), (1, 1), (1, 2)] {
            assert_eq!(bench.fail_for(class, client, path), None);
        }
        // Two of five count, and four of six.
        assert_eq!(bench.fail_for(class, 2, 3), None);
        let cause = Cause::ExchangesFailed(6, class);
        let changed = bench.fail_for(class, 2, 1);
        assert_eq!(
            changed,
            change(State::Online, State::Offline, cause, bench.now)
        );
    }
}

#[test]
fn one_path_alone_takes_no_server_out_while_others_work() {
    for class in PROVOKED {
        let mut bench = Bench::new(eager(Mode::Lazy));
        bench.succeed();
        for client in 0..100 {
            assert_eq!(bench.fail_for(class, client, 1), None, "{class:?} {client}");
        }
        // Nothing has worked for the length of the window, so the path is not the cause.
        bench.pass(10 * SECOND);
        assert!(bench.fail_for(class, 100, 1).is_some());
    }
}

#[test]
fn one_client_counts_for_as_much_as_all_others_of_a_window() {
    let mut ratio = eager(Mode::Lazy);
    ratio.passive.consecutive = [0; 5];
    let mut bench = Bench::new(ratio);
    // One client only fails, beside others that succeed.
    for round in 0..500 {
        assert_eq!(bench.fail_for(FaultClass::Broken, 1, round), None);
        if round % 100 == 0 {
            bench.succeed();
        }
    }
    // Each failure of others counts twice, because one of that client counts with it: six of eleven
    // are more than half.
    assert_eq!(bench.fail_for(FaultClass::Broken, 2, 1000), None);
    assert_eq!(bench.fail_for(FaultClass::Broken, 3, 1001), None);
    let cause = Cause::FailureRatio {
        failed: 503,
        of: 508,
    };
    let changed = bench.fail_for(FaultClass::Broken, 4, 1002);
    assert_eq!(
        changed,
        change(State::Online, State::Offline, cause, bench.now)
    );
    // What slides out of the window counts no more.
    let mut bench = Bench::new(ratio);
    for witness in 0..5 {
        assert_eq!(bench.fail_for(FaultClass::Broken, witness, witness), None);
    }
    bench.pass(10 * SECOND);
    for path in 0..50 {
        assert_eq!(bench.fail_for(FaultClass::Broken, 9, path), None);
    }
}

proptest! {
    /// The rules of witnesses, compared with a list of everything that happened.
    #[test]
    fn a_server_goes_by_what_several_have_seen(
        steps in prop::collection::vec((0u64..4, 0u64..4, 0usize..6, 0u64..900), 0..300),
        consecutive in 0u32..6,
        least in 2usize..12,
    ) {
        let mut rules = eager(Mode::Lazy);
        rules.passive.consecutive = [consecutive; 5];
        rules.passive.least = least;
        let mut bench = Bench::new(rules);
        let mut row: Vec<(FaultClass, u64)> = Vec::new();
        let mut all: Vec<(Instant, Option<u64>)> = Vec::new();
        for (client, path, what, millis) in steps {
            bench.pass(Duration::from_millis(millis));
            let Some(&class) = PROVOKED.get(what) else {
                bench.succeed();
                row.clear();
                all.push((bench.now, None));
                continue;
            };
            row.push((class, client));
            all.push((bench.now, Some(client)));
            let Some(changed) = bench.fail_for(class, client, path) else { continue };
            // The client with the most failures counts for at most those of all others.
            let telling = |clients: Vec<u64>| {
                let of = |client| clients.iter().filter(|other| **other == client).count();
                let top = (0..4).map(of).max().unwrap_or(0);
                let lead = (2 * top).saturating_sub(clients.len());
                if lead > 1 { clients.len() - lead } else { clients.len() }
            };
            match changed.cause {
                Cause::ExchangesFailed(..) => {
                    let of_class = row.iter().filter(|(other, _)| *other == class);
                    let row = of_class.map(|(_, client)| *client).collect();
                    prop_assert!(telling(row) >= consecutive.max(2) as usize);
                }
                Cause::FailureRatio { failed, of } => {
                    let recent = all.iter().filter(|(then, _)| bench.now - *then < 10 * SECOND);
                    let failures: Vec<_> =
                        recent.clone().filter_map(|(_, client)| *client).collect();
                    let recent: Vec<_> = recent.collect();
                    prop_assert_eq!((failed, of), (failures.len(), recent.len()));
                    let telling = telling(failures);
                    prop_assert!(telling >= 2 && 2 * telling >= of - (failed - telling));
                }
                other => prop_assert!(false, "{:?}", other),
            }
            break;
        }
    }
}
