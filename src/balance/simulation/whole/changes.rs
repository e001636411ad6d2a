//! Changes to the cluster while it works: servers and buckets come, change and go.

use super::*;

impl Simulation {
    pub(super) fn change(&mut self, random: &mut Random) {
        let servers = self.shadow.servers.keys().copied().collect::<Vec<_>>();
        let buckets = self.shadow.buckets.keys().copied().collect::<Vec<_>>();
        match random.below(17) {
            0 if servers.len() < MOST_SERVERS => self.add_server(random),
            1..7 if !servers.is_empty() => self.set_server(random.pick(&servers), random),
            7 if !servers.is_empty() => self.remove_server(random.pick(&servers)),
            8 if buckets.len() < MOST_BUCKETS => self.add_bucket(random),
            9 | 10 => self.set_bucket(random.pick(&buckets), random),
            11 => self.remove_bucket(random.pick(&buckets)),
            12 => self.apply(Change::SetSchedule(schedule(random))),
            13 => {
                let lending = lending(random);
                self.shadow.reserve = lending == Lending::Reserve;
                self.apply(Change::SetLending(lending));
            }
            14 => self.apply(Change::SetQueue {
                limit: random.below(50),
                wait_for_server: random.one_in(2),
            }),
            15 => {
                let early = random.one_in(2);
                self.shadow.early = early;
                self.apply(Change::SetBinding { early });
            }
            16 => self.apply(Change::SetAdmin(random.pick(&[
                Admin::Enabled,
                Admin::Enabled,
                Admin::Draining,
                Admin::Disabled,
            ]))),
            _ => {}
        }
    }

    pub(super) fn apply(&mut self, change: Change) {
        let outcome = self
            .dispatcher
            .apply(change, self.now)
            .expect("a possible change");
        self.follow(&outcome);
    }

    pub(super) fn follow(&mut self, outcome: &Outcome<u64>) {
        self.shadow.staff(outcome);
        self.shadow.begin_turns();
        assert!(outcome.handout.next.is_none());
        self.carry_out(&outcome.handout, None);
    }

    pub(super) fn add_server(&mut self, random: &mut Random) {
        let new = NewServer {
            weight: 1 + random.below(4) as u32,
            capacity: if random.one_in(12) {
                0
            } else {
                1 + random.below(6)
            },
            role: random.pick(&[
                Role::Active,
                Role::Active,
                Role::Active,
                Role::Standby,
                Role::Backup,
            ]),
            admin: random.pick(&[
                Admin::Enabled,
                Admin::Enabled,
                Admin::Enabled,
                Admin::Draining,
                Admin::Disabled,
            ]),
            health: random.pick(&[Health::Online, Health::Online, Health::Offline]),
            protected: random.one_in(4),
        };
        let outcome = self
            .dispatcher
            .apply(Change::AddServer(new), self.now)
            .expect("can be added");
        let id = outcome.server.expect("a number");
        let server = Server {
            capacity: new.capacity,
            role: new.role,
            admin: new.admin,
            health: new.health,
            warmth: 1000,
            protected: new.protected,
        };
        assert!(self.shadow.servers.insert(id.0, server).is_none());
        self.follow(&outcome);
    }

    pub(super) fn set_server(&mut self, id: u32, random: &mut Random) {
        let change = ServerChange {
            weight: random.one_in(4).then(|| 1 + random.below(5) as u32),
            capacity: random.one_in(3).then(|| random.below(7)),
            role: random
                .one_in(5)
                .then(|| random.pick(&[Role::Active, Role::Standby, Role::Backup])),
            admin: random
                .one_in(4)
                .then(|| random.pick(&[Admin::Enabled, Admin::Draining, Admin::Disabled])),
            health: random
                .one_in(3)
                .then(|| random.pick(&[Health::Online, Health::Online, Health::Offline])),
            warmth: random
                .one_in(4)
                .then(|| random.pick(&[1000, 1000, 500, 100])),
            protected: random.one_in(6).then(|| random.one_in(2)),
        };
        let result = self
            .dispatcher
            .apply(Change::SetServer(ServerId(id), change), self.now);
        let server = self.shadow.servers.get_mut(&id).expect("known");
        if server.role == Role::Terminating {
            assert_eq!(result, Err(Rejection::Terminating));
            return;
        }
        server.capacity = change.capacity.unwrap_or(server.capacity);
        server.role = change.role.unwrap_or(server.role);
        server.admin = change.admin.unwrap_or(server.admin);
        server.health = change.health.unwrap_or(server.health);
        server.warmth = change.warmth.unwrap_or(server.warmth);
        server.protected = change.protected.unwrap_or(server.protected);
        self.follow(&result.expect("can be changed"));
    }

    pub(super) fn remove_server(&mut self, id: u32) {
        let result = self
            .dispatcher
            .apply(Change::RemoveServer(ServerId(id)), self.now);
        let server = self.shadow.servers.get_mut(&id).expect("known");
        if server.role == Role::Terminating {
            assert_eq!(result, Err(Rejection::Terminating));
        } else if server.protected {
            assert_eq!(result, Err(Rejection::Protected));
        } else {
            server.role = Role::Terminating;
            self.bury();
            self.follow(&result.expect("can be removed"));
        }
    }

    pub(super) fn gone(&mut self, worker: u32) {
        self.shadow.workers.remove(&worker);
        let outcome = self.dispatcher.gone(WorkerId(worker), self.now);
        self.bury();
        self.follow(&outcome);
    }

    /// Buries servers that are gone and that no job avoids any more.
    pub(super) fn bury(&mut self) {
        let gone = self.shadow.servers.iter().filter(|(id, server)| {
            let own = |worker: &super::super::shadow::Worker| worker.server == **id;
            server.role == Role::Terminating && !self.shadow.workers.values().any(own)
        });
        for id in gone.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.shadow.servers.remove(&id);
            assert_eq!(
                self.dispatcher.server(ServerId(id)),
                None,
                "nothing is left of {id}"
            );
            for job in self
                .shadow
                .jobs
                .values_mut()
                .filter(|job| job.ticket.avoid == Some(ServerId(id)))
            {
                job.ticket.avoid = None;
                job.urgent = job.retried;
            }
        }
    }

    pub(super) fn add_bucket(&mut self, random: &mut Random) {
        let parents = self.shadow.buckets.keys().copied().collect::<Vec<_>>();
        let parent = random.pick(&parents);
        match self.dispatcher.apply(
            Change::AddBucket(BucketId(parent), bucket(random)),
            self.now,
        ) {
            Ok(outcome) => {
                let id = outcome.bucket.expect("a number");
                assert!(self.shadow.buckets.insert(id.0, Some(parent)).is_none());
                self.follow(&outcome);
            }
            Err(rejection) => assert!(matches!(
                rejection,
                Rejection::InvalidShare | Rejection::TooMuchAssured
            )),
        }
    }

    pub(super) fn set_bucket(&mut self, id: u32, random: &mut Random) {
        match self
            .dispatcher
            .apply(Change::SetBucket(BucketId(id), bucket(random)), self.now)
        {
            Ok(outcome) => self.follow(&outcome),
            Err(Rejection::Root) => assert_eq!(id, 0),
            Err(rejection) => assert!(matches!(
                rejection,
                Rejection::InvalidShare | Rejection::TooMuchAssured
            )),
        }
    }

    pub(super) fn remove_bucket(&mut self, id: u32) {
        let result = self
            .dispatcher
            .apply(Change::RemoveBucket(BucketId(id)), self.now);
        if id == 0 {
            assert_eq!(result, Err(Rejection::Root));
        } else if self
            .shadow
            .buckets
            .values()
            .any(|parent| *parent == Some(id))
        {
            assert_eq!(result, Err(Rejection::HasChildren));
        } else {
            let parent = self.shadow.buckets.remove(&id).flatten().expect("a parent");
            let own = |job: &&mut Job| job.ticket.bucket.0 == id;
            self.shadow
                .jobs
                .values_mut()
                .filter(own)
                .for_each(|job| job.ticket.bucket = BucketId(parent));
            self.follow(&result.expect("can be removed"));
        }
    }
}
