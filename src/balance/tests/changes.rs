//! Roles, states and capacities that change while jobs wait and are served.

use super::*;

fn server(capacity: usize, role: Role) -> Change {
    Change::AddServer(NewServer {
        role,
        ..NewServer::with_capacity(capacity)
    })
}

fn set(server: u32, change: ServerChange) -> Change {
    Change::SetServer(ServerId(server), change)
}

fn capacity(capacity: usize) -> ServerChange {
    ServerChange {
        capacity: Some(capacity),
        ..ServerChange::default()
    }
}

fn admin(admin: Admin) -> ServerChange {
    ServerChange {
        admin: Some(admin),
        ..ServerChange::default()
    }
}

fn health(health: Health) -> ServerChange {
    ServerChange {
        health: Some(health),
        ..ServerChange::default()
    }
}

/// Makes servers of these roles, one worker each, all up.
fn roles(settings: Settings, roles: &[Role]) -> Bench {
    let mut bench = Bench::new(settings, &[]);
    for role in roles {
        for (_, worker) in bench.apply(server(1, *role)).started {
            bench.up(worker.0);
        }
    }
    bench
}

#[test]
fn a_standby_server_helps_when_all_active_ones_are_busy() {
    for settings in [LATE, EARLY] {
        let mut bench = roles(settings, &[Role::Standby, Role::Active, Role::Backup]);
        assert_eq!(bench.offer(1), assigned(1, 1));
        assert_eq!(bench.offer(2), assigned(0, 2));
        // A backup does not help: it is used when no other server is usable.
        assert_eq!(bench.offer(3), Offer::Queued);
        assert_eq!(bench.dispatcher.counts().capacity, 2);
    }
}

#[test]
fn a_backup_comes_in_when_nobody_else_is_there_and_goes_out_again() {
    let mut bench = roles(LATE, &[Role::Active, Role::Standby, Role::Backup]);
    for id in 1..=4 {
        bench.offer(id);
    }
    bench.apply(set(0, health(Health::Offline)));
    let outcome = bench.apply(set(1, admin(Admin::Draining)));
    assert_eq!(outcome.handout, woken(2, 3));
    assert_eq!(bench.dispatcher.counts().capacity, 1);
    // What backups serve ends as usual.
    assert_eq!(bench.done(0), Handout::default());
    assert_eq!(
        bench.apply(set(0, health(Health::Online))).handout,
        woken(0, 4)
    );
    assert_eq!(bench.done(2), Handout::default());
    assert_eq!(bench.offer(5), Offer::Queued);
}

#[test]
fn requests_wait_for_the_last_server_to_come_back() {
    let wait = Settings {
        wait_for_server: true,
        ..LATE
    };
    let mut bench = Bench::new(wait, &[1]);
    bench.apply(set(0, health(Health::Offline)));
    assert_eq!(bench.offer(1), Offer::Queued);
    assert_eq!(
        bench.apply(set(0, health(Health::Online))).handout,
        woken(0, 1)
    );
}

#[test]
fn more_capacity_means_more_workers_who_serve_what_waits() {
    let mut bench = Bench::new(LATE, &[1]);
    for id in 1..=3 {
        bench.offer(id);
    }
    let outcome = bench.apply(set(0, capacity(3)));
    assert_eq!(
        outcome.started,
        [(ServerId(0), WorkerId(1)), (ServerId(0), WorkerId(2))]
    );
    assert_eq!(bench.up(1), next(2));
    assert_eq!(bench.up(2), next(3));
}

#[test]
fn less_capacity_lets_workers_finish() {
    let mut bench = Bench::new(LATE, &[3]);
    bench.offer(1);
    bench.offer(2);
    // Worker 2 is idle; worker 1 serves.
    let outcome = bench.apply(set(0, capacity(1)));
    assert_eq!(outcome.dismissed, [WorkerId(2), WorkerId(1)]);
    assert_eq!(bench.offer(3), Offer::Queued);
    assert_eq!(bench.done(1), Handout::default());
    assert_eq!(bench.counts(), (1, 1));
    // A larger capacity starts no worker before the leaving ones have left, so that there are never
    // more connections than three, or one.
    let outcome = bench.apply(set(0, capacity(2)));
    assert_eq!(outcome, Outcome::default());
    assert_eq!(
        bench.dispatcher.gone(WorkerId(2), bench.now),
        Outcome::default()
    );
    let outcome = bench.dispatcher.gone(WorkerId(1), bench.now);
    assert_eq!(outcome.started.len(), 1);
    assert_eq!(bench.up(outcome.started[0].1.0), next(3));
}

#[test]
fn a_server_that_is_removed_ends_what_it_has_and_leaves_nothing() {
    let mut bench = Bench::new(LATE, &[1, 1]);
    bench.offer(1);
    bench.offer(2);
    let outcome = bench.apply(Change::RemoveServer(ServerId(0)));
    assert_eq!(outcome.dismissed, [WorkerId(0)]);
    assert_eq!(
        bench
            .dispatcher
            .apply(Change::RemoveServer(ServerId(0)), bench.now),
        Err(Rejection::Terminating)
    );
    assert_eq!(bench.offer(3), Offer::Queued);
    assert_eq!(bench.done(0), Handout::default());
    bench.dispatcher.gone(WorkerId(0), bench.now);
    assert_eq!(bench.dispatcher.server(ServerId(0)), None);
    assert_eq!(
        bench.dispatcher.apply(set(0, capacity(1)), bench.now),
        Err(Rejection::UnknownServer)
    );
    assert_eq!(bench.dispatcher.counts().workers, 1);
}

#[test]
fn a_server_in_the_place_of_one_that_is_gone_is_not_avoided_for_it() {
    let mut bench = Bench::new(LATE, &[1, 1]);
    bench.offer(1);
    bench.offer(2);
    let ticket = bench.avoiding(1, 0);
    assert_eq!(bench.retry(0, ticket, LinkState::Up), Handout::default());
    bench.apply(Change::RemoveServer(ServerId(0)));
    bench.dispatcher.gone(WorkerId(0), bench.now);
    let outcome = bench.apply(server(1, Role::Active));
    assert_eq!(outcome.server, Some(ServerId(0)));
    assert_eq!(bench.up(outcome.started[0].1.0), next(1));
}

#[test]
fn a_protected_server_stays() {
    let mut bench = Bench::new(LATE, &[1]);
    let protected = |protected| ServerChange {
        protected: Some(protected),
        ..ServerChange::default()
    };
    bench.apply(set(0, protected(true)));
    assert_eq!(
        bench
            .dispatcher
            .apply(Change::RemoveServer(ServerId(0)), bench.now),
        Err(Rejection::Protected)
    );
    let terminating = ServerChange {
        role: Some(Role::Terminating),
        ..ServerChange::default()
    };
    assert_eq!(
        bench.dispatcher.apply(set(0, terminating), bench.now),
        Err(Rejection::Protected)
    );
    bench.apply(set(0, protected(false)));
    bench.apply(Change::RemoveServer(ServerId(0)));
}

#[test]
fn draining_keeps_connections_and_disabling_ends_them() {
    let mut bench = Bench::new(LATE, &[2, 1]);
    assert_eq!(
        bench.apply(set(0, admin(Admin::Draining))),
        Outcome::default()
    );
    assert_eq!(bench.offer(1), assigned(2, 1));
    assert_eq!(bench.offer(2), Offer::Queued);
    assert_eq!(
        bench.apply(set(0, admin(Admin::Enabled))).handout,
        woken(0, 2)
    );
    let outcome = bench.apply(set(0, admin(Admin::Disabled)));
    assert_eq!(outcome.dismissed, [WorkerId(1), WorkerId(0)]);
}

#[test]
fn a_server_that_starts_slowly_has_a_part_of_its_capacity() {
    let mut bench = Bench::new(LATE, &[4]);
    let warmth = |warmth| ServerChange {
        warmth: Some(warmth),
        ..ServerChange::default()
    };
    bench.apply(set(0, warmth(1)));
    assert_eq!(bench.offer(1), assigned(0, 1));
    assert_eq!(bench.offer(2), Offer::Queued);
    assert_eq!(bench.offer(3), Offer::Queued);
    assert_eq!(bench.apply(set(0, warmth(500))).handout, woken(1, 2));
    assert_eq!(bench.apply(set(0, warmth(1000))).handout, woken(2, 3));
}

#[test]
fn a_cluster_is_drained_and_disabled() {
    let mut bench = Bench::new(LATE, &[1]);
    bench.offer(1);
    bench.offer(2);
    bench.apply(Change::SetAdmin(Admin::Draining));
    assert_eq!(bench.offer(3), Offer::Refused(Refusal::Disabled, 3));
    assert_eq!(bench.done(0), next(2));
    bench.apply(Change::SetAdmin(Admin::Enabled));
    assert_eq!(bench.offer(4), Offer::Queued);
    let outcome = bench.apply(Change::SetAdmin(Admin::Disabled));
    assert_eq!(outcome.handout, refused(Refusal::Disabled, 4));
}

#[test]
fn a_worker_is_borrowed_to_look_at_its_server() {
    let mut bench = Bench::new(LATE, &[3, 1]);
    let borrow = |bench: &mut Bench, server: u32| {
        bench
            .dispatcher
            .borrow(ServerId(server))
            .map(|worker| worker.0)
    };
    let counts = bench.dispatcher.counts();
    // The worker that would get a job last, so that each has its turn.
    assert_eq!(borrow(&mut bench, 0), Some(2));
    assert_eq!(bench.up(2), Handout::default());
    assert_eq!(borrow(&mut bench, 0), Some(1));
    assert_eq!(bench.dispatcher.counts(), counts);
    bench.dispatcher.check(0);
    // The borrowed worker gets no job.
    assert_eq!(bench.offer(1), assigned(2, 1));
    assert_eq!(bench.offer(2), assigned(3, 2));
    assert_eq!(bench.offer(3), assigned(0, 3));
    assert_eq!((borrow(&mut bench, 0), borrow(&mut bench, 1)), (None, None));
    assert_eq!(bench.offer(4), Offer::Queued);
    assert!(bench.dispatcher.retire(WorkerId(1)));
    assert_eq!(bench.up(1), next(4));
    assert_eq!(bench.done(1), Handout::default());
    // After its return it is as idle as before.
    assert_eq!(borrow(&mut bench, 0), Some(1));
    assert_eq!(bench.up(1), Handout::default());
    assert_eq!(bench.offer(5), assigned(1, 5));
    assert_eq!(borrow(&mut bench, 9), None);
}

#[test]
fn servers_that_are_not_in_use_are_looked_at_too() {
    for change in [health(Health::Offline), admin(Admin::Draining)] {
        for settings in [LATE, EARLY] {
            let mut bench = Bench::new(settings, &[2, 1]);
            bench.offer(1);
            bench.offer(2);
            assert_eq!(bench.offer(3), assigned(1, 3));
            // One worker is idle when the server goes out of use; others become idle later.
            assert_eq!(bench.done(1), Handout::default());
            bench.apply(set(0, change));
            assert_eq!(bench.done(0), Handout::default());
            assert_eq!(bench.dispatcher.borrow(ServerId(0)), Some(WorkerId(1)));
            assert_eq!(bench.dispatcher.borrow(ServerId(0)), Some(WorkerId(0)));
            assert_eq!(bench.dispatcher.borrow(ServerId(0)), None);
            assert_eq!(bench.up(0), Handout::default());
            // One look found the server dead, and one found it alive.
            assert_eq!(
                bench.next(1, Verdict::None, LinkState::Unreachable),
                Handout::default()
            );
            assert_eq!(bench.offer(4), Offer::Queued);
            let back = ServerChange {
                health: Some(Health::Online),
                admin: Some(Admin::Enabled),
                ..ServerChange::default()
            };
            let handout = bench.apply(set(0, back)).handout;
            match settings.early_binding {
                // The job is bound to the other server.
                true => assert_eq!(handout, Handout::default()),
                false => assert_eq!(handout, woken(0, 4)),
            }
            bench.dispatcher.check(0);
        }
    }
}

#[test]
fn a_borrowed_worker_that_is_dismissed_does_not_come_back() {
    let mut bench = Bench::new(LATE, &[2]);
    assert_eq!(bench.dispatcher.borrow(ServerId(0)), Some(WorkerId(1)));
    let outcome = bench.apply(set(0, capacity(1)));
    assert_eq!(outcome.dismissed, [WorkerId(1)]);
    assert_eq!(bench.up(1), Handout::default());
    assert_eq!(bench.dispatcher.borrow(ServerId(0)), Some(WorkerId(0)));
    assert_eq!(bench.dispatcher.borrow(ServerId(0)), None);
}

#[test]
fn after_the_close_no_worker_is_started() {
    let mut bench = Bench::new(LATE, &[2, 1]);
    bench.offer(1);
    bench.apply(Change::Close);
    assert_eq!(
        bench.dispatcher.gone(WorkerId(0), bench.now),
        Outcome::default()
    );
    assert_eq!(bench.apply(set(0, capacity(4))), Outcome::default());
    let added = bench.apply(server(3, Role::Active));
    assert_eq!((added.started.len(), added.server), (0, Some(ServerId(2))));
    // A worker too many is still dismissed.
    assert_eq!(bench.apply(set(0, capacity(0))).dismissed, [WorkerId(1)]);
    assert_eq!(bench.done(1), Handout::default());
    assert_eq!(
        bench.dispatcher.gone(WorkerId(1), bench.now),
        Outcome::default()
    );
    assert_eq!(bench.dispatcher.counts().workers, 1);
}

#[test]
fn jobs_bound_early_are_open_to_all_when_binding_becomes_late() {
    let mut bench = Bench::new(EARLY, &[1, 1]);
    let vip = bench.bucket(0.5, 10);
    for id in 1..=6 {
        bench.offer(id);
    }
    assert_eq!(bench.offer_to(vip, 7), Offer::Queued);
    // 3, 5 and 7 wait for the first server, 4 and 6 for the second, which has nothing else to do
    // then.
    assert_eq!(bench.done(1), next(4));
    assert_eq!(bench.done(1), next(6));
    assert_eq!(bench.done(1), Handout::default());
    assert_eq!(bench.dispatcher.bucket(vip).claims, 0);
    // The bucket is under its share, so its job is first in the line at once.
    let outcome = bench.apply(Change::SetBinding { early: false });
    assert_eq!(outcome.handout, woken(1, 7));
    assert_eq!(bench.offer_to(vip, 8), Offer::Queued);
    assert_eq!(bench.done(1), next(8));
    assert_eq!(bench.offer_to(vip, 9), Offer::Queued);
    assert_eq!(bench.done(0), next(3));
    assert_eq!(bench.done(1), next(9));
    assert_eq!(bench.done(0), next(5));
    bench.dispatcher.check(0);
    // The same setting again changes nothing.
    let same = bench.apply(Change::SetBinding { early: false });
    assert_eq!(same, Outcome::default());
}

#[test]
fn what_is_open_stays_so_when_binding_becomes_early() {
    let mut bench = Bench::new(LATE, &[1, 1]);
    let vip = bench.bucket(0.5, 10);
    for id in 1..=3 {
        bench.offer(id);
    }
    assert_eq!(bench.offer_to(vip, 4), Offer::Queued);
    assert_eq!(bench.dispatcher.bucket(vip).claims, 1);
    assert_eq!(
        bench.apply(Change::SetBinding { early: true }),
        Outcome::default()
    );
    assert_eq!(bench.dispatcher.bucket(vip).claims, 0);
    // This turn is the first server's, and the next one the second's.
    assert_eq!(bench.offer(5), Offer::Queued);
    assert_eq!(bench.offer(6), Offer::Queued);
    bench.dispatcher.check(0);
    let mut served = std::iter::from_fn(|| bench.done(1).next).collect::<Vec<_>>();
    served.sort_unstable();
    assert_eq!(served, [3, 4, 6]);
    assert_eq!(bench.done(0), next(5));
}
