//! Servers that are held offline until an operator releases them.

use super::*;

fn sticky(mode: Mode) -> Settings {
    Settings {
        sticky_offline: true,
        rise: 1,
        fall: 1,
        ..settings(mode)
    }
}

#[test]
fn sticky_offline_is_for_who_had_been_online() {
    let mut bench = Bench::new(sticky(Mode::Paranoid));
    // Not at the start, even if its first probe fails.
    bench.probe(Err(FaultClass::Connect));
    assert_eq!(bench.monitor.held(), None);
    bench.probe(Ok(()));
    assert!(bench.monitor.is_usable());
    let (_, fell) = bench.probe(Err(FaultClass::Protocol));
    let (cause, since) = (fell.expect("it has fallen").cause, bench.now);
    let held = Held { cause, since };
    // Held at once, so that a restart before the server is back changes nothing.
    assert_eq!(bench.monitor.held(), Some(&held));
    bench.probe(Ok(()));
    assert_eq!(
        (bench.monitor.state(), bench.monitor.is_usable()),
        (State::Online, false)
    );
    assert_eq!(bench.monitor.held(), Some(&held));
    // Another fall does not change when and why.
    bench.probe(Err(FaultClass::Connect));
    bench.probe(Ok(()));
    assert_eq!(bench.monitor.held(), Some(&held));
    assert_eq!(bench.monitor.fallen_for(bench.now), bench.now - since);
    let released = bench.monitor.release("anna", bench.now);
    let cause = Cause::Released("anna".to_owned());
    assert_eq!(
        released,
        change(State::Online, State::Online, cause, bench.now)
    );
    assert_eq!(bench.monitor.last_change().cloned(), released);
    assert!(bench.monitor.is_usable());
    assert_eq!(bench.monitor.fallen_for(bench.now), Duration::ZERO);
    assert_eq!(bench.monitor.release("anna", bench.now), None);
}

#[test]
fn who_was_only_trusted_is_not_held() {
    for worked in [false, true] {
        let mut bench = Bench::new(sticky(Mode::Lazy));
        assert!(!bench.monitor.was_online());
        if worked {
            bench.succeed();
        }
        assert_eq!(bench.monitor.was_online(), worked);
        bench.take_offline();
        bench.probe(Ok(()));
        assert_eq!(
            (bench.monitor.is_usable(), bench.monitor.was_online()),
            (!worked, true)
        );
    }
}

#[test]
fn who_is_released_while_it_is_offline_comes_back_by_itself() {
    let mut bench = Bench::new(sticky(Mode::Paranoid));
    bench.probe(Ok(()));
    let (_, fell) = bench.probe(Err(FaultClass::Timeout));
    let released = bench.monitor.release("anna", bench.now);
    let cause = Cause::Released("anna".to_owned());
    assert_eq!(
        released,
        change(State::Offline, State::Offline, cause, bench.now)
    );
    // What was wrong with the server is still told.
    assert_eq!(bench.monitor.last_change().cloned(), fell);
    assert!(!bench.monitor.is_usable());
    bench.probe(Ok(()));
    assert!(bench.monitor.is_usable());
    // A release holds only once.
    bench.probe(Err(FaultClass::Timeout));
    assert!(bench.monitor.held().is_some());
}

#[test]
fn a_hold_outlives_a_restart() {
    let long_ago = |bench: &Bench| Held {
        cause: Cause::Remembered("5 exchanges in a row failed: the connection broke".to_owned()),
        since: bench.now - 100 * SECOND,
    };
    for mode in [Mode::Paranoid, Mode::Lazy] {
        let mut bench = Bench::new(sticky(mode));
        let held = long_ago(&bench);
        bench.monitor.hold(held.clone());
        assert!(!bench.monitor.is_usable() && bench.monitor.was_online());
        assert_eq!(bench.monitor.fallen_for(bench.now), 100 * SECOND);
        if mode == Mode::Paranoid {
            bench.probe(Err(FaultClass::Connect));
            bench.probe(Ok(()));
        }
        assert_eq!(
            (bench.monitor.state(), bench.monitor.is_usable()),
            (State::Online, false)
        );
        assert_eq!(bench.monitor.held(), Some(&held));
        assert!(bench.monitor.release("anna", bench.now).is_some());
        assert!(bench.monitor.is_usable());
    }
    let mut bench = Bench::new(settings(Mode::Lazy));
    let held = long_ago(&bench);
    bench.monitor.hold(held);
    assert!(bench.monitor.is_usable() && bench.monitor.held().is_none());
}

#[test]
fn who_turns_sticky_offline_off_releases() {
    let loose = Settings {
        sticky_offline: false,
        ..sticky(Mode::Paranoid)
    };
    let mut bench = Bench::new(sticky(Mode::Paranoid));
    bench.probe(Ok(()));
    bench.probe(Err(FaultClass::Connect));
    bench.probe(Ok(()));
    // Other changes do not release it.
    assert_eq!(bench.monitor.set(sticky(Mode::Disabled), bench.now), None);
    assert_eq!(bench.monitor.set(sticky(Mode::Paranoid), bench.now), None);
    assert!(!bench.monitor.is_usable());
    assert_eq!(
        bench.monitor.set(loose, bench.now),
        change(State::Online, State::Online, Cause::Reconfigured, bench.now)
    );
    assert!(bench.monitor.is_usable());
    assert_eq!(bench.monitor.set(loose, bench.now), None);
    // A server that comes online by the same change has only one change.
    let mut bench = Bench::new(sticky(Mode::Paranoid));
    bench.probe(Ok(()));
    bench.probe(Err(FaultClass::Connect));
    let disabled = Settings {
        mode: Mode::Disabled,
        ..loose
    };
    assert_eq!(
        bench.monitor.set(disabled, bench.now),
        change(
            State::Offline,
            State::Online,
            Cause::Reconfigured,
            bench.now
        )
    );
    assert!(bench.monitor.is_usable());
}
