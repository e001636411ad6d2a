//! Servers that come, change and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::{Admin, Change, NewServer, ServerChange};
use crate::health::State;
use crate::plan::{self, ServerAddress};
use crate::upstream::resolver;
use crate::upstream::server::Server;

use super::controller::Controller;
use super::health::health_of;
use super::roster::{Member, Roster, is_watched};

/// How often a reload looks whether new servers work.
const LOOK: Duration = Duration::from_millis(2);

impl Controller {
    /// Adds a server of `plan` and starts its workers.
    pub(super) fn add_server(
        &self,
        roster: &mut Roster,
        plan: &plan::Cluster,
        server: &plan::Server,
        now: Instant,
    ) {
        // The dispatcher tells the number only afterwards, and the workers that it then asks for
        // need it.
        let expected = self.cluster.dispatcher().next_server();
        let running = Arc::new(Server::new(
            expected,
            plan,
            server,
            self.cluster.hub.accounts.open(),
            roster.next_seed(),
            now,
        ));
        let used = running.seen(now).usable;
        roster.members.push(Member {
            server: Arc::clone(&running),
            used,
            warmth: 1000,
            is_to_go: false,
            numbers: Vec::new(),
        });
        if let ServerAddress::Name { host, port } = &server.address
            && let Some(own) = self.own.upgrade()
        {
            let id = running.id;
            let on_change = move || own.wake_workers(id);
            let name = (host.clone(), *port);
            resolver::start(&self.cluster.hub, &running, name, on_change);
        }
        let new = NewServer {
            weight: server.weight,
            capacity: server.capacity,
            role: server.role,
            admin: server.admin,
            health: health_of(used),
            protected: server.protected,
        };
        self.apply(roster, Change::AddServer(new), now);
    }

    /// Brings the servers to what `plan` says. Those that are not in it any more go later, in
    /// [`Self::settle_servers`].
    pub(super) fn adjust_servers(&self, roster: &mut Roster, plan: &plan::Cluster, now: Instant) {
        let mut stay = Vec::new();
        // New servers come before old ones go, so that there always is a server.
        for server in &plan.servers {
            let known = roster
                .named(&server.name)
                .filter(|known| known.plan().address == server.address)
                .cloned();
            match known {
                Some(known) => {
                    stay.push(known.id);
                    self.adjust_server(roster, &known, server, now);
                }
                None => {
                    self.add_server(roster, plan, server, now);
                    stay.extend(roster.members.last().map(|member| member.server.id));
                }
            }
        }
        for member in &mut roster.members {
            if !stay.contains(&member.server.id) && !member.server.is_removed() {
                member.server.remove();
                member.is_to_go = true;
            }
        }
    }

    fn adjust_server(
        &self,
        roster: &mut Roster,
        known: &Server,
        server: &plan::Server,
        now: Instant,
    ) {
        let old = known.plan();
        known.set_plan(server);
        let mut health = None;
        if old.admin == Admin::Disabled && server.admin != Admin::Disabled {
            known.monitor().forget(now);
            let used = known.seen(now).usable;
            health = Some(health_of(used));
            if let Some(member) = roster.member(known.id) {
                member.used = used;
            }
        }
        let change = ServerChange {
            weight: Some(server.weight).filter(|weight| *weight != old.weight),
            capacity: Some(server.capacity).filter(|capacity| *capacity != old.capacity),
            role: Some(server.role).filter(|role| *role != old.role),
            admin: Some(server.admin).filter(|admin| *admin != old.admin),
            protected: Some(server.protected).filter(|protected| *protected != old.protected),
            health,
            ..ServerChange::default()
        };
        if change != ServerChange::default() {
            self.apply(roster, Change::SetServer(known.id, change), now);
        }
    }

    /// Lets servers go that are not in the plan any more, once those that came in their place work
    /// or have had until `until`.
    pub(super) fn settle_servers(&self, until: Instant) {
        loop {
            let roster = self.roster();
            if !roster.members.iter().any(|member| member.is_to_go) {
                return;
            }
            let is_ready = roster.servers().all(|server| is_settled(server));
            if is_ready || Instant::now() >= until || self.is_closed() {
                break;
            }
            drop(roster);
            std::thread::sleep(LOOK);
        }
        let mut roster = self.roster();
        let leaving = roster.members.iter_mut().filter(|member| member.is_to_go);
        let leaving = leaving.map(|member| {
            member.is_to_go = false;
            Arc::clone(&member.server)
        });
        for server in leaving.collect::<Vec<_>>() {
            self.remove_server(&mut roster, &server, Instant::now());
        }
    }

    fn remove_server(&self, roster: &mut Roster, server: &Server, now: Instant) {
        // A protected server comes to this only when one of the same name at another address takes
        // its place.
        if server.plan().protected {
            let unprotected = ServerChange {
                protected: Some(false),
                ..ServerChange::default()
            };
            self.apply(roster, Change::SetServer(server.id, unprotected), now);
        }
        self.apply(roster, Change::RemoveServer(server.id), now);
        self.forget_gone(roster);
    }
}

/// Returns whether a reload need not wait for this server: it works, or is not to be used.
fn is_settled(server: &Server) -> bool {
    let is_off = server.is_removed() || server.plan().admin == Admin::Disabled;
    let is_unknown = || is_watched(server) && server.monitor().state() == State::Unknown;
    is_off || server.is_reached() && !is_unknown()
}
