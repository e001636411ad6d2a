//! Servers and workers that come, go and change, and what that changes in use and capacity.

use super::{NONE, Server, Servers, State, Tier, WARM, Worker, effective_weight};
use crate::balance::scheduler::{Candidates, Load, scheduler};
use crate::balance::{
    Admin, Health, LinkState, NewServer, Role, Schedule, ServerChange, ServerId, WorkerId,
};

impl Servers {
    /// Returns the number of the server that is added next.
    pub(in crate::balance) fn next_server(&self) -> ServerId {
        let free = self.servers.iter().position(|server| !server.exists);
        ServerId(free.unwrap_or(self.servers.len()) as u32)
    }

    /// Adds a server. Its workers are started by [`Self::staff`].
    pub(in crate::balance) fn add(&mut self, new: NewServer) -> ServerId {
        let server = Server {
            exists: true,
            weight: new.weight,
            capacity: new.capacity,
            role: new.role,
            admin: new.admin,
            health: new.health,
            warmth: WARM,
            protected: new.protected,
            live: 0,
            staying: 0,
            reachable: 0,
            busy: 0,
            next_idle: NONE,
            final_idle: NONE,
            tier: None,
            in_use: false,
            part: 0,
        };
        let load = Load {
            weight: effective_weight(new.weight, WARM),
            ..Load::default()
        };
        let id = self.next_server();
        let place = id.0 as usize;
        if place < self.servers.len() {
            self.servers[place] = server;
            self.loads[place] = load;
            for tier in &mut self.tiers {
                tier.scheduler.forget(id.0);
            }
        } else {
            self.servers.push(server);
            self.loads.push(load);
        }
        id
    }

    pub(in crate::balance) fn exists(&self, server: ServerId) -> bool {
        self.servers
            .get(server.0 as usize)
            .is_some_and(|server| server.exists)
    }

    pub(in crate::balance) fn role(&self, server: ServerId) -> Role {
        self.servers[server.0 as usize].role
    }

    pub(in crate::balance) fn is_protected(&self, server: ServerId) -> bool {
        self.servers[server.0 as usize].protected
    }

    pub(in crate::balance) fn change(&mut self, id: ServerId, change: ServerChange) {
        let server = &mut self.servers[id.0 as usize];
        server.weight = change.weight.unwrap_or(server.weight);
        server.capacity = change.capacity.unwrap_or(server.capacity);
        server.role = change.role.unwrap_or(server.role);
        server.admin = change.admin.unwrap_or(server.admin);
        server.health = change.health.unwrap_or(server.health);
        server.warmth = change.warmth.unwrap_or(server.warmth).clamp(1, WARM);
        server.protected = change.protected.unwrap_or(server.protected);
    }

    /// Starts (if `may_start`) and dismisses workers until their number is the wanted one. A worker
    /// that is leaving counts until it ends: a server never has more connections than its capacity
    /// allows or once allowed. Returns whether the server is gone with that.
    pub(in crate::balance) fn staff(
        &mut self,
        id: ServerId,
        may_start: bool,
        started: &mut Vec<(ServerId, WorkerId)>,
        dismissed: &mut Vec<WorkerId>,
    ) -> bool {
        let server = &self.servers[id.0 as usize];
        let wanted = if server.role == Role::Terminating || server.admin == Admin::Disabled {
            0
        } else {
            server.capacity
        };
        while self.servers[id.0 as usize].staying > wanted {
            let Some(worker) = self.least_useful(id) else {
                break;
            };
            self.dismiss(worker);
            dismissed.push(worker);
        }
        while may_start && self.servers[id.0 as usize].live < wanted {
            started.push((id, self.start_worker(id)));
        }
        self.refresh(id);
        let server = &mut self.servers[id.0 as usize];
        if server.role == Role::Terminating && server.live == 0 {
            server.exists = false;
            return true;
        }
        false
    }

    /// Removes a dismissed worker that has ended. Returns its server.
    pub(in crate::balance) fn remove_worker(&mut self, worker: WorkerId) -> Option<ServerId> {
        let id = self.server_of(worker)?;
        if !self.workers[worker.0 as usize].leaving {
            self.dismiss(worker);
        }
        let entry = &mut self.workers[worker.0 as usize];
        self.up -= usize::from(entry.link == LinkState::Up);
        entry.state = State::Gone;
        self.free_workers.push(worker.0);
        self.worker_count -= 1;
        self.servers[id.0 as usize].live -= 1;
        Some(id)
    }

    pub(in crate::balance) fn set_schedule(&mut self, schedule: Schedule) {
        if schedule == self.schedule {
            return;
        }
        self.schedule = schedule;
        self.measures = schedule == Schedule::PeakEwma;
        self.follows_loads = schedule == Schedule::LeastLoad;
        for tier in &mut self.tiers {
            tier.scheduler = scheduler(schedule);
        }
        self.fill_schedulers();
    }

    /// From now on the choosable servers are those in use (early binding), or the idle ones of
    /// these.
    pub(in crate::balance) fn set_binding(&mut self, early: bool) {
        self.early_binding = early;
        for tier in &mut self.tiers {
            // With early binding, a busy server has its turns as well.
            tier.in_use
                .iter()
                .for_each(|server| tier.scheduler.forgive(server));
        }
        self.fill_schedulers();
    }

    fn start_worker(&mut self, id: ServerId) -> WorkerId {
        let worker = Worker {
            server: id,
            link: LinkState::Connecting,
            state: State::Away,
            leaving: false,
            is_fresh: true,
            before: NONE,
            behind: NONE,
            first: NONE,
            taken: 0,
        };
        let place = match self.free_workers.pop() {
            Some(place) => {
                self.workers[place as usize] = worker;
                place
            }
            None => {
                self.workers.push(worker);
                (self.workers.len() - 1) as u32
            }
        };
        let server = &mut self.servers[id.0 as usize];
        server.live += 1;
        server.staying += 1;
        server.reachable += 1;
        self.worker_count += 1;
        WorkerId(place)
    }

    /// Returns the worker that is missed least: first one that cannot work anyway, then one that
    /// has nothing to do.
    fn least_useful(&self, id: ServerId) -> Option<WorkerId> {
        let use_of = |worker: &Worker| match (worker.state, worker.link) {
            (State::Serving, _) => 3,
            (_, LinkState::Unreachable) => 0,
            (State::Away, _) => 1,
            _ => 2,
        };
        let own = |worker: &&(usize, &Worker)| {
            worker.1.server == id && !worker.1.leaving && worker.1.state != State::Gone
        };
        self.workers
            .iter()
            .enumerate()
            .filter(|worker| own(&worker))
            .min_by_key(|(place, worker)| (use_of(worker), std::cmp::Reverse(*place)))
            .map(|(place, _)| WorkerId(place as u32))
    }

    fn dismiss(&mut self, worker: WorkerId) {
        if self.is_idle(worker) {
            self.leave_idle(worker, State::Away);
        }
        let entry = &mut self.workers[worker.0 as usize];
        entry.leaving = true;
        let (id, reachable) = (entry.server, entry.link != LinkState::Unreachable);
        let busy = usize::from(entry.state == State::Serving);
        let server = &mut self.servers[id.0 as usize];
        server.staying -= 1;
        server.reachable -= usize::from(reachable);
        server.busy -= busy;
        if server.in_use {
            self.busy -= busy;
        }
        self.touch(id);
    }

    /// Determines again whether a server is usable, and updates what depends on it.
    pub(in crate::balance) fn refresh(&mut self, id: ServerId) {
        let server = &mut self.servers[id.0 as usize];
        let usable = server.exists
            && server.admin == Admin::Enabled
            && server.health == Health::Online
            && server.reachable > 0;
        let tier = match server.role {
            Role::Active => Some(0),
            Role::Standby => Some(1),
            Role::Backup => Some(2),
            Role::Terminating => None,
        };
        let tier = tier.filter(|_| usable);
        let old = std::mem::replace(&mut server.tier, tier);
        if let Some(old) = old {
            self.tiers[old].usable -= 1;
        }
        if let Some(new) = tier {
            self.tiers[new].usable += 1;
        }
        let changed = self.count_in(id, old);
        // Backups go into use when the last other server goes out of use, and back.
        let backups = self.tiers[0].usable + self.tiers[1].usable == 0;
        let mut others = false;
        for other in 0..self.servers.len() as u32 {
            let server = &self.servers[other as usize];
            if server.tier == Some(2) && server.in_use != backups {
                others |= self.count_in(ServerId(other), Some(2));
            }
        }
        if changed || others {
            self.tell_schedulers();
        }
    }

    /// Updates all sums for a server. Returns whether choosing is affected.
    fn count_in(&mut self, id: ServerId, old_tier: Option<usize>) -> bool {
        let backups = self.tiers[0].usable + self.tiers[1].usable == 0;
        let server = &mut self.servers[id.0 as usize];
        let load = &mut self.loads[id.0 as usize];
        let was = (server.in_use, load.weight, old_tier);
        if server.in_use {
            self.capacity -= server.part;
            self.busy -= server.busy;
            self.loaded -= u64::from(load.jobs());
            self.weights -= u64::from(load.weight);
        }
        load.weight = effective_weight(server.weight, server.warmth);
        server.in_use = server.tier.is_some_and(|tier| tier != 2 || backups);
        server.part = server.reachable.min(server.limit());
        if server.in_use {
            self.capacity += server.part;
            self.busy += server.busy;
            self.loaded += u64::from(load.jobs());
            self.weights += u64::from(load.weight);
        }
        if was.0 && !server.in_use {
            self.lost.push(id.0);
        }
        let (in_use, tier) = (server.in_use, server.tier);
        let now = (in_use, load.weight, tier);
        self.in_use.set(id.0, in_use);
        for (index, other) in self.tiers.iter_mut().enumerate() {
            other.in_use.set(id.0, in_use && tier == Some(index));
        }
        if let Some(old) = old_tier.filter(|old| tier != Some(*old)) {
            let Tier {
                scheduler,
                idle,
                in_use,
                ..
            } = &mut self.tiers[old];
            idle.remove(id.0);
            scheduler.leave(id.0);
            scheduler.weigh(
                id.0,
                Candidates {
                    among: idle,
                    in_use,
                    loads: &self.loads,
                    sums: (self.loaded, self.weights),
                },
            );
        }
        self.place(id, was != now);
        was != now
    }

    /// Fills every scheduler again with the choosable servers. What they know of turns stays.
    fn fill_schedulers(&mut self) {
        for server in 0..self.servers.len() as u32 {
            for tier in &mut self.tiers {
                tier.scheduler.leave(server);
            }
            self.place(ServerId(server), true);
        }
        self.tell_schedulers();
    }

    /// Tells the schedulers that the servers in use, or a weight, have changed.
    fn tell_schedulers(&mut self) {
        for tier in &mut self.tiers {
            let Tier {
                scheduler,
                idle,
                in_use,
                ..
            } = tier;
            let among = if self.early_binding { &*in_use } else { &*idle };
            scheduler.changed(Candidates {
                among,
                in_use,
                loads: &self.loads,
                sums: (self.loaded, self.weights),
            });
        }
    }
}
