//! Health, case by case, and at random against the rules.

mod sticky;
mod witnesses;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn settings(mode: Mode) -> Settings {
    Settings {
        mode,
        jitter: 0.0,
        ..Settings::default()
    }
}

/// A monitor and the time.
struct Bench {
    monitor: Monitor,
    now: Instant,
    witnesses: u64,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Instant::now() + Duration::from_secs(1000);
        Self {
            monitor: Monitor::new(settings, 7, now),
            now,
            witnesses: 0,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Waits for the next probe. Returns how long that took, and the change.
    fn probe(&mut self, result: Result<(), FaultClass>) -> (Duration, Option<Transition>) {
        let due = self.monitor.next_event().expect("it is probed");
        let waited = due.saturating_duration_since(self.now);
        self.now = self.now.max(due);
        let (probe, change) = self.monitor.poll(self.now);
        assert_eq!(change, None);
        let change = self
            .monitor
            .probed(probe.expect("a probe is due"), result, self.now);
        (waited, change)
    }

    /// Fails an exchange of another client, at another path, each time.
    fn fail(&mut self, class: FaultClass) -> Option<Transition> {
        self.witnesses += 1;
        self.fail_for(class, self.witnesses, self.witnesses)
    }

    fn fail_for(&mut self, class: FaultClass, client: u64, path: u64) -> Option<Transition> {
        let witness = (class != FaultClass::Connect).then_some(Witness { client, path });
        self.monitor
            .exchanged(Err(Failure { class, witness }), self.now)
    }

    fn succeed(&mut self) {
        assert_eq!(self.monitor.exchanged(Ok(()), self.now), None);
    }

    fn take_offline(&mut self) {
        while self.fail(FaultClass::Connect).is_none() {}
        assert_eq!(self.monitor.state(), State::Offline);
    }
}

fn change(from: State, to: State, cause: Cause, at: Instant) -> Option<Transition> {
    Some(Transition {
        from,
        to,
        cause,
        at,
    })
}

#[test]
fn paranoid_wants_to_see_it_first_and_looks_always() {
    let mut bench = Bench::new(settings(Mode::Paranoid));
    assert_eq!(bench.monitor.state(), State::Unknown);
    assert!(!bench.monitor.is_usable());
    let (waited, changed) = bench.probe(Ok(()));
    assert_eq!(waited, Duration::ZERO);
    assert_eq!(
        changed,
        change(
            State::Unknown,
            State::Online,
            Cause::ProbesSucceeded(1),
            bench.now
        )
    );
    assert_eq!(bench.probe(Ok(())), (2 * SECOND, None));
    bench.succeed();
    assert_eq!(bench.probe(Ok(())).0, 2 * SECOND);
}

#[test]
fn the_first_probe_decides_and_later_ones_change_its_mind() {
    let slow = Settings {
        rise: 3,
        fall: 3,
        ..settings(Mode::Paranoid)
    };
    let mut bench = Bench::new(slow);
    let (_, changed) = bench.probe(Err(FaultClass::Connect));
    let cause = Cause::ProbesFailed(1, FaultClass::Connect);
    assert_eq!(
        changed,
        change(State::Unknown, State::Offline, cause, bench.now)
    );
    for _ in 0..2 {
        assert_eq!(bench.probe(Ok(())), (2 * SECOND, None));
    }
    let (_, changed) = bench.probe(Ok(()));
    assert_eq!(
        changed,
        change(
            State::Offline,
            State::Online,
            Cause::ProbesSucceeded(3),
            bench.now
        )
    );
    for _ in 0..2 {
        assert_eq!(bench.probe(Err(FaultClass::Connect)).1, None);
    }
    assert!(bench.probe(Err(FaultClass::Connect)).1.is_some());
}

#[test]
fn a_failed_probe_is_followed_soon() {
    let mut bench = Bench::new(settings(Mode::Paranoid));
    bench.probe(Ok(()));
    assert_eq!(bench.probe(Err(FaultClass::Timeout)), (2 * SECOND, None));
    let (waited, changed) = bench.probe(Err(FaultClass::Status));
    assert_eq!(waited, SECOND / 2);
    let cause = Cause::ProbesFailed(2, FaultClass::Status);
    assert_eq!(
        changed,
        change(State::Online, State::Offline, cause, bench.now)
    );
    assert_eq!(bench.monitor.last_change().cloned(), changed);
    // A success between them starts the count again.
    bench.probe(Ok(()));
    bench.probe(Err(FaultClass::Connect));
    assert_eq!(bench.probe(Ok(())).1, None);
    assert!(bench.probe(Ok(())).1.is_some());
}

#[test]
fn a_probe_without_an_answer_has_failed_and_a_late_one_counts_for_nothing() {
    let mut bench = Bench::new(settings(Mode::Paranoid));
    bench.probe(Ok(()));
    bench.pass(2 * SECOND);
    let (probe, _) = bench.monitor.poll(bench.now);
    assert_eq!(bench.monitor.poll(bench.now), (None, None));
    assert_eq!(bench.monitor.next_event(), Some(bench.now + 2 * SECOND));
    bench.pass(2 * SECOND);
    assert_eq!(bench.monitor.poll(bench.now), (None, None));
    bench.pass(SECOND / 2);
    let (second, _) = bench.monitor.poll(bench.now);
    assert!(second.is_some() && second != probe);
    assert_eq!(
        bench
            .monitor
            .probed(probe.expect("it was due"), Ok(()), bench.now),
        None
    );
    bench.pass(2 * SECOND);
    let (_, changed) = bench.monitor.poll(bench.now);
    let cause = Cause::ProbesFailed(2, FaultClass::Timeout);
    assert_eq!(
        changed,
        change(State::Online, State::Offline, cause, bench.now)
    );
}

#[test]
fn a_probe_that_nobody_had_time_for_counts_for_nothing() {
    let mut bench = Bench::new(settings(Mode::Paranoid));
    bench.probe(Ok(()));
    bench.probe(Err(FaultClass::Timeout));
    let before = bench.monitor.counts();
    assert_eq!((before.successes, before.failures), (0, 1));
    for _ in 0..5 {
        let due = bench.monitor.next_event().expect("it is probed");
        bench.now = due;
        let (probe, _) = bench.monitor.poll(bench.now);
        let probe = probe.expect("a probe is due");
        bench.monitor.skipped(probe, bench.now);
        assert_eq!(bench.monitor.counts(), before);
        // An interval, although one probe has failed: at a recheck all workers would still be busy.
        assert_eq!(bench.monitor.next_event(), Some(bench.now + 2 * SECOND));
        // The probe has ended: neither its result nor skipping it again has an effect.
        bench.pass(SECOND);
        assert_eq!(
            bench
                .monitor
                .probed(probe, Err(FaultClass::Timeout), bench.now),
            None
        );
        bench.monitor.skipped(probe, bench.now);
        assert_eq!(bench.monitor.counts(), before);
        assert_eq!(bench.monitor.next_event(), Some(bench.now + SECOND));
    }
    assert_eq!(bench.monitor.state(), State::Online);
    // The failure before still counts.
    assert!(bench.probe(Err(FaultClass::Timeout)).1.is_some());
}

#[test]
fn a_probe_that_cannot_be_begun_yet_is_due_again_soon_and_counts_nothing() {
    let mut bench = Bench::new(settings(Mode::Paranoid));
    for _ in 0..3 {
        let (probe, changed) = bench.monitor.poll(bench.now);
        let soon = bench.now + SECOND / 10;
        bench.monitor.postponed(probe.unwrap(), soon);
        assert_eq!((changed, bench.monitor.state()), (None, State::Unknown));
        assert_eq!(bench.monitor.next_event(), Some(soon));
        assert_eq!(bench.monitor.poll(bench.now), (None, None));
        bench.pass(SECOND / 10);
        // The probe is not the current one any more, so postponing it has no effect.
        bench.monitor.postponed(probe.unwrap(), bench.now + SECOND);
    }
    assert_eq!(
        bench.probe(Ok(())).1.unwrap().cause,
        Cause::ProbesSucceeded(1)
    );
}

#[test]
fn counts_are_of_probes_alike_since_the_last_change() {
    let mut bench = Bench::new(settings(Mode::Paranoid));
    assert_eq!(bench.monitor.counts(), Counts::default());
    let counts = |successes, failures, now, result| Counts {
        successes,
        failures,
        last_probe: Some((now, result)),
    };
    bench.probe(Ok(()));
    assert_eq!(bench.monitor.counts(), counts(0, 0, bench.now, Ok(())));
    bench.probe(Ok(()));
    bench.probe(Ok(()));
    assert_eq!(bench.monitor.counts(), counts(2, 0, bench.now, Ok(())));
    let failed = Err(FaultClass::Status);
    bench.probe(failed);
    assert_eq!(bench.monitor.counts(), counts(0, 1, bench.now, failed));
    bench.probe(failed);
    assert_eq!(bench.monitor.counts(), counts(0, 0, bench.now, failed));
    // Traffic is not counted with probes.
    let at = bench.now;
    bench.pass(SECOND);
    bench.succeed();
    assert_eq!(bench.monitor.counts(), counts(0, 0, at, failed));
}

#[test]
fn it_is_known_how_long_it_has_been_out() {
    let mut bench = Bench::new(settings(Mode::Paranoid));
    let out = |bench: &Bench| bench.monitor.fallen_for(bench.now);
    bench.pass(SECOND);
    assert_eq!(
        (out(&bench), bench.monitor.was_online()),
        (Duration::ZERO, false)
    );
    bench.probe(Err(FaultClass::Connect));
    bench.pass(SECOND);
    assert_eq!((out(&bench), bench.monitor.was_online()), (SECOND, false));
    // More failures are not a new fall.
    bench.probe(Err(FaultClass::Connect));
    assert_eq!(out(&bench), 2 * SECOND);
    bench.probe(Ok(()));
    assert_eq!(
        (out(&bench), bench.monitor.was_online()),
        (4 * SECOND, false)
    );
    bench.probe(Ok(()));
    bench.pass(SECOND);
    assert_eq!(
        (out(&bench), bench.monitor.was_online()),
        (Duration::ZERO, true)
    );
    bench.take_offline();
    bench.pass(SECOND);
    assert_eq!((out(&bench), bench.monitor.was_online()), (SECOND, true));
}

#[test]
fn lazy_looks_only_while_it_is_offline() {
    let mut bench = Bench::new(settings(Mode::Lazy));
    assert!(bench.monitor.is_usable());
    assert_eq!(bench.monitor.next_event(), None);
    bench.pass(100 * SECOND);
    assert_eq!(bench.monitor.poll(bench.now), (None, None));
    bench.take_offline();
    assert_eq!(bench.probe(Ok(())), (2 * SECOND, None));
    assert!(bench.probe(Ok(())).1.is_some());
    assert_eq!(bench.monitor.next_event(), None);
}

#[test]
fn opportunistic_looks_at_a_server_that_has_nothing_to_do() {
    let mut bench = Bench::new(settings(Mode::Opportunistic));
    assert!(bench.monitor.is_usable());
    for _ in 0..10 {
        bench.pass(SECOND);
        bench.succeed();
        assert_eq!(bench.monitor.poll(bench.now), (None, None));
    }
    assert_eq!(bench.probe(Ok(())).0, 2 * SECOND);
    // Failing traffic is a reason to probe, even if it is not enough to take the server out.
    bench.probe(Err(FaultClass::Timeout));
    bench.succeed();
    assert_eq!(bench.probe(Ok(())).0, SECOND / 2);
}

#[test]
fn disabled_is_always_online() {
    let mut bench = Bench::new(settings(Mode::Disabled));
    assert_eq!(bench.monitor.next_event(), None);
    for _ in 0..100 {
        assert_eq!(bench.fail(FaultClass::Connect), None);
    }
    assert!(bench.monitor.is_usable());
    // A server that is switched to this mode is online too.
    let mut bench = Bench::new(settings(Mode::Lazy));
    bench.take_offline();
    let changed = bench.monitor.set(settings(Mode::Disabled), bench.now);
    assert_eq!(
        changed,
        change(
            State::Offline,
            State::Online,
            Cause::Reconfigured,
            bench.now
        )
    );
}

#[test]
fn one_slow_request_takes_nobody_out() {
    let mut eager = settings(Mode::Lazy);
    eager.passive.consecutive = [1; 5];
    eager.passive.least = 0;
    eager.passive.ratio = 0.0;
    for class in [FaultClass::Timeout, FaultClass::Connect, FaultClass::Broken] {
        let mut bench = Bench::new(eager);
        assert_eq!(bench.fail(class), None);
        assert!(bench.monitor.is_usable());
    }
}

#[test]
fn failures_one_after_the_other_are_counted_by_class() {
    let mut bench = Bench::new(settings(Mode::Lazy));
    for _ in 0..2 {
        assert_eq!(bench.fail(FaultClass::Connect), None);
    }
    bench.succeed();
    for _ in 0..2 {
        assert_eq!(bench.fail(FaultClass::Connect), None);
        assert_eq!(bench.fail(FaultClass::Timeout), None);
        assert_eq!(bench.fail(FaultClass::Status), None);
    }
    let cause = Cause::ExchangesFailed(3, FaultClass::Connect);
    assert_eq!(
        bench.fail(FaultClass::Connect),
        change(State::Online, State::Offline, cause, bench.now)
    );
    // What ends after that was begun before.
    assert_eq!(bench.fail(FaultClass::Connect), None);
}

#[test]
fn the_window_slides() {
    let mut ratio = settings(Mode::Lazy);
    ratio.passive.consecutive = [0; 5];
    ratio.passive.least = 10;
    let mut bench = Bench::new(ratio);
    // Nine failures just before the end of a fixed window, and nine just after: never ten within
    // ten seconds.
    for _ in 0..9 {
        assert_eq!(bench.fail(FaultClass::Broken), None);
    }
    bench.pass(10 * SECOND);
    for _ in 0..9 {
        assert_eq!(bench.fail(FaultClass::Broken), None);
    }
    // Across such a border they do count.
    bench.pass(9 * SECOND);
    for _ in 0..9 {
        bench.succeed();
    }
    let cause = Cause::FailureRatio { failed: 10, of: 19 };
    assert_eq!(
        bench.fail(FaultClass::Broken),
        change(State::Online, State::Offline, cause, bench.now)
    );
    // A class that does not count makes no difference.
    let mut bench = Bench::new(ratio);
    for _ in 0..100 {
        assert_eq!(bench.fail(FaultClass::Status), None);
    }
}

#[test]
fn it_starts_slowly_after_having_been_offline() {
    let slow = Settings {
        slow_start: 10 * SECOND,
        rise: 1,
        ..settings(Mode::Lazy)
    };
    let mut bench = Bench::new(slow);
    assert_eq!(bench.monitor.warmth(bench.now), 1000);
    bench.take_offline();
    bench.probe(Ok(()));
    assert_eq!(bench.monitor.warmth(bench.now), 1);
    bench.pass(5 * SECOND);
    assert_eq!(bench.monitor.warmth(bench.now), 500);
    bench.pass(5 * SECOND);
    assert_eq!(bench.monitor.warmth(bench.now), 1000);

    // Not if the first probe finds the server at work: all servers would be spared together when
    // the balancer starts.
    let mut bench = Bench::new(Settings {
        mode: Mode::Paranoid,
        ..slow
    });
    bench.probe(Ok(()));
    assert_eq!(bench.monitor.warmth(bench.now), 1000);
    bench.take_offline();
    bench.probe(Ok(()));
    assert_eq!(bench.monitor.warmth(bench.now), 1);
}

#[test]
fn causes_are_told_in_words() {
    let told = |cause: Cause| cause.to_string();
    for (cause, expected) in [
        (Cause::Trusted, "trusted from the start"),
        (Cause::ProbesSucceeded(1), "1 probe succeeded"),
        (Cause::ProbesSucceeded(2), "2 probes succeeded"),
        (
            Cause::ProbesFailed(1, FaultClass::Connect),
            "1 probe failed: no connection could be made",
        ),
        (
            Cause::ProbesFailed(2, FaultClass::Timeout),
            "2 probes failed, the last: no answer in time",
        ),
        (
            Cause::ExchangesFailed(5, FaultClass::Broken),
            "5 exchanges in a row failed: the connection broke",
        ),
        (
            Cause::ExchangesFailed(2, FaultClass::Protocol),
            "2 exchanges in a row failed: the answer was no HTTP",
        ),
        (
            Cause::ProbesFailed(3, FaultClass::Status),
            "3 probes failed, the last: the server answered with an error",
        ),
        (
            Cause::FailureRatio { failed: 12, of: 20 },
            "12 of 20 exchanges failed",
        ),
        (Cause::Reconfigured, "health checking was changed"),
        (Cause::Released("alice".to_owned()), "released by alice"),
    ] {
        assert_eq!(told(cause.clone()), expected);
        assert_eq!(told(Cause::Remembered(told(cause))), expected);
    }
}

#[test]
fn probes_are_spread() {
    let mut bench = Bench::new(Settings {
        jitter: 0.2,
        ..Settings::default()
    });
    let waits = (0..100)
        .map(|_| bench.probe(Ok(())).0)
        .skip(1)
        .collect::<Vec<_>>();
    let (least, most) = (
        waits.iter().min().expect("some"),
        waits.iter().max().expect("some"),
    );
    assert!(
        *least >= SECOND.mul_f64(1.6) && *least < SECOND.mul_f64(1.7),
        "{least:?}"
    );
    assert!(
        *most <= SECOND.mul_f64(2.4) && *most > SECOND.mul_f64(2.3),
        "{most:?}"
    );
}

#[test]
fn who_was_switched_off_has_to_show_again_that_it_works() {
    for (mode, expected) in [
        (Mode::Paranoid, State::Unknown),
        (Mode::Lazy, State::Online),
    ] {
        let mut bench = Bench::new(settings(mode));
        if mode == Mode::Paranoid {
            bench.probe(Ok(()));
        }
        assert_eq!(bench.monitor.state(), State::Online);
        bench.pass(SECOND * 1000);
        bench.monitor.forget(bench.now);
        assert_eq!(bench.monitor.state(), expected);
        if mode == Mode::Paranoid {
            assert_eq!(
                bench.probe(Err(FaultClass::Timeout)).1.unwrap().to,
                State::Offline
            );
        }
    }
}

#[test]
fn the_last_servers_are_never_taken() {
    let seen = |usable, seconds| {
        Some(Seen {
            usable,
            may_return: true,
            held: false,
            fallen_for: Duration::from_secs(seconds),
        })
    };
    let panic = Panic::default();
    let fine = [seen(true, 0), seen(true, 0), seen(false, 9), seen(false, 5)];
    assert_eq!(panic.decide(&fine), [true, true, false, false]);
    // The server that fell last comes back first.
    let bad = [
        seen(false, 7),
        seen(true, 0),
        seen(false, 9),
        seen(false, 5),
    ];
    assert_eq!(panic.decide(&bad), [false, true, false, true]);
    let worse = [seen(false, 7), None, seen(false, 9), seen(false, 5)];
    assert_eq!(panic.decide(&worse), [true, false, false, true]);
    let but = |may_return, held| {
        Some(Seen {
            may_return,
            held,
            ..seen(false, 1).expect("one")
        })
    };
    // Not one that was never seen to work. A held server comes back only if there is no other.
    assert_eq!(
        panic.decide(&[but(false, false), seen(false, 9)]),
        [false, true]
    );
    assert_eq!(
        panic.decide(&[but(true, true), seen(false, 9)]),
        [false, true]
    );
    assert_eq!(panic.decide(&[but(true, true)]), [true]);
    assert_eq!(
        Panic { threshold: 0.0 }.decide(&bad),
        [false, true, false, false]
    );
}

proptest! {
    /// Whatever happens, each change has the right origin, every probe ends, and one is due as the
    /// mode demands.
    #[test]
    fn rules_hold(
        steps in prop::collection::vec((0u32..8, 0u64..3000, 0usize..5), 0..200),
        mode in 0usize..4,
        sticky: bool,
    ) {
        let mode = [Mode::Lazy, Mode::Opportunistic, Mode::Paranoid, Mode::Disabled][mode];
        let mut now = Instant::now();
        let settings = Settings { sticky_offline: sticky, ..settings(mode) };
        let mut monitor = Monitor::new(settings, 1, now);
        let classes = [
            FaultClass::Connect,
            FaultClass::Broken,
            FaultClass::Timeout,
            FaultClass::Protocol,
            FaultClass::Status,
        ];
        let mut state = monitor.state();
        let mut probe = None;
        let mut good = 0;
        for (what, millis, class) in steps {
            now += Duration::from_millis(millis);
            let class = classes[class];
            let change = match what {
                0 | 1 => {
                    let (started, change) = monitor.poll(now);
                    if started.is_some() {
                        prop_assert!(mode != Mode::Disabled);
                        let is_probed = mode != Mode::Lazy || monitor.state() != State::Online;
                        prop_assert!(is_probed || monitor.is_suspected);
                        probe = started;
                    }
                    change
                }
                2 => probe.take().and_then(|probe| monitor.probed(probe, Ok(()), now)),
                3 => probe.take().and_then(|probe| monitor.probed(probe, Err(class), now)),
                4 => {
                    let witness = Some(Witness { client: millis % 3, path: millis % 4 });
                    monitor.exchanged(Err(Failure { class, witness }), now)
                }
                5 => {
                    if let Some(probe) = probe.take() {
                        monitor.skipped(probe, now);
                    }
                    None
                }
                6 => {
                    let was_held = monitor.held().is_some();
                    let change = monitor.release("anna", now);
                    prop_assert_eq!(change.is_some(), was_held);
                    let stays = |change: Transition| change.from == state && change.to == state;
                    prop_assert!(change.is_none_or(stays));
                    None
                }
                _ => monitor.exchanged(Ok(()), now),
            };
            good = if what == 4 { good + 1 } else { 0 };
            if let Some(change) = change {
                prop_assert_eq!(change.from, state);
                prop_assert!(change.from != change.to);
                prop_assert_eq!(change.at, now);
                prop_assert_eq!(monitor.last_change(), Some(&change));
                let known = change.from != State::Unknown;
                state = change.to;
                match change.cause {
                    Cause::ExchangesFailed(times, _) => prop_assert!(times >= 2 && good >= 1),
                    Cause::ProbesFailed(times, _) | Cause::ProbesSucceeded(times) => {
                        prop_assert_eq!(times, if known { 2 } else { 1 });
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(monitor.state(), state);
            prop_assert!(monitor.held().is_none() || sticky && monitor.was_online());
            prop_assert!(monitor.fallen_for(now) == Duration::ZERO || !monitor.is_usable());
            prop_assert!((1..=1000).contains(&monitor.warmth(now)));
            match (mode, state) {
                (Mode::Disabled, _) => {
                    prop_assert_eq!((state, monitor.next_event()), (State::Online, None));
                }
                (Mode::Lazy, State::Online) => {}
                _ => prop_assert!(monitor.next_event().is_some()),
            }
        }
    }
}
