//! SIGHUP: the configuration is read anew. It is built and checked whole first; any problem keeps
//! the old one. Then it is put into effect: listeners, sessions and healthy connections to servers
//! stay.

use std::sync::Arc;
use std::time::Instant;

use crate::base::time::after;
use crate::config::{self, Severity};
use crate::exchange::OpenListener;
use crate::net::tls::ServerTls;
use crate::observe::account::Account;
use crate::pipeline::Table;
use crate::plan::{Listener, Plan};
use crate::session::Door;
use crate::state::held::{self, Released};
use crate::upstream::Controller;

use super::commands::{Effect, Outcome, Reason};
use super::doors::{bind, is_dispensable};
use super::limits::Limits;
use super::running::{FIRST_CONNECTS, Running};

/// A door, and what it is to be like.
type Opening = (Arc<Door>, Arc<OpenListener>, Option<Arc<ServerTls>>);

/// Brings the files of sockets that stay to what their listeners say now. If one cannot be, all are
/// as before.
fn set_files(doors: &[Opening]) -> Result<(), String> {
    for (place, (door, listener, _)) in doors.iter().enumerate() {
        if door.listener().socket == listener.socket {
            continue;
        }
        if let Err(error) = door.acceptor().set_file(&listener.socket) {
            for (changed, ..) in &doors[..=place] {
                // As far as that can be done: the first problem is the one that is told.
                let _ = changed.acceptor().set_file(&changed.listener().socket);
            }
            let name = door.acceptor().local_name();
            return Err(format!("listener {}: {name}: {error}", listener.name));
        }
    }
    Ok(())
}

impl Running {
    /// Reads everything anew. What cannot be done leaves all as it was.
    pub(super) fn reload(&mut self) -> Outcome {
        if let Some(access) = &self.hub.access {
            access.reopen();
        }
        match self.try_reload() {
            Ok(()) => {
                log::info!("reloaded");
                Ok(Effect::Reloaded)
            }
            Err(problems) => {
                for problem in &problems {
                    log::error!("reload: {problem}");
                }
                log::error!(
                    "reload: nothing is changed: {} found",
                    count(problems.len())
                );
                Err(problems.into_iter().map(Reason::from).collect())
            }
        }
    }

    fn try_reload(&mut self) -> Result<(), Vec<String>> {
        let told = |problems: Vec<config::Problem>| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (plan, warnings) = (self.source)().map_err(told)?;
        for warning in warnings
            .iter()
            .filter(|problem| problem.severity != Severity::Error)
        {
            log::warn!("reload: {warning}");
        }
        let objections = self.objections(&plan);
        if !objections.is_empty() {
            return Err(objections);
        }
        let mut doors = Vec::new();
        if let Err(problems) = self.doors_for(&plan, &mut doors) {
            // What was handed over is kept for another try.
            let new = doors
                .into_iter()
                .map(|(door, ..)| door)
                .filter(|door| !self.has(door));
            let handed_over = new
                .filter(|door| door.acceptor().is_inherited())
                .collect::<Vec<_>>();
            self.parked.extend(handed_over);
            return Err(problems);
        }
        set_files(&doors).map_err(|problem| vec![problem])?;

        // Nothing can fail from here on.
        let now = Instant::now();
        self.warn_of_the_rest(&plan);
        self.limits = Limits::find(&plan, Some(self.limits));
        let plan = Arc::new(plan);
        self.set_clusters(&plan, now);
        let doors = doors
            .into_iter()
            .map(|(door, listener, tls): Opening| {
                // Those that are as they were, or could not be read, are the old ones.
                let is_kept =
                    |old: &Arc<ServerTls>| tls.as_ref().is_some_and(|new| Arc::ptr_eq(old, new));
                let is_new = tls.is_some() && !door.tls().as_ref().is_some_and(is_kept);
                door.set(Arc::clone(&listener), tls);
                if is_new {
                    log::info!("listener {}: certificates reloaded", listener.name);
                }
                door
            })
            .collect::<Vec<_>>();
        self.set_doors(doors);
        self.hub
            .adjust(plan.process.max_requests, plan.process.resolve);
        self.release_as_filed();
        self.plan.store(plan);
        Ok(())
    }

    /// Why what runs cannot become that.
    fn objections(&self, plan: &Plan) -> Vec<String> {
        let mut objections = Vec::new();
        for (_, cluster) in &self.current {
            match plan
                .clusters
                .iter()
                .find(|other| other.name == cluster.name())
            {
                Some(other) => objections.extend(cluster.objections(other)),
                None => objections.extend(cluster.objections_to_removal()),
            }
        }
        objections
    }

    /// The doors that there shall be, each with its settings: those that are there, and new ones,
    /// bound but shut as yet.
    fn doors_for(&mut self, plan: &Plan, doors: &mut Vec<Opening>) -> Result<(), Vec<String>> {
        let old = self.front.doors();
        let mut problems = Vec::new();
        for listener in &plan.listeners {
            let read = |settings| ServerTls::read(settings, self.tls_of(&listener.name).as_ref());
            let tls = match listener.tls.as_ref().map(read).transpose() {
                Ok(tls) => tls,
                // Root can read what the user that it became cannot.
                Err(error) => match self.certificates_of(listener) {
                    Some(old) => {
                        log::error!(
                            "listener {}: the old certificates stay: {error}",
                            listener.name
                        );
                        Some(old)
                    }
                    None => {
                        problems.push(format!("listener {}: {error}", listener.name));
                        continue;
                    }
                },
            };
            let open = OpenListener::new(listener, self.account_of(&listener.name));
            for address in &listener.bind {
                let is_free =
                    |door: &&Arc<Door>| !doors.iter().any(|(other, ..)| Arc::ptr_eq(door, other));
                let same_name = |door: &&Arc<Door>| door.listener().name == listener.name;
                let asks = |door: &&Arc<Door>| door.address() == address;
                let serves = |door: &&Arc<Door>| door.acceptor().serves(address);
                // One socket that was handed over may be for both families.
                if doors.iter().any(|(door, of, _)| {
                    of.name == listener.name && door.acceptor().serves(address)
                }) {
                    continue;
                }
                let known = old
                    .iter()
                    .find(|door| is_free(door) && same_name(door) && asks(door))
                    .or_else(|| {
                        old.iter()
                            .chain(&self.parked)
                            .find(|door| is_free(door) && serves(door))
                    })
                    .cloned();
                let unused = self
                    .unused
                    .iter()
                    .position(|acceptor| acceptor.serves(address));
                let mut acceptor = || match unused {
                    Some(place) => Ok(self.unused.swap_remove(place)),
                    None => bind(listener, address),
                };
                let door = match known {
                    Some(door) => door,
                    None => match acceptor() {
                        Ok(acceptor) => {
                            let (open, tls) = (Arc::clone(&open), tls.clone());
                            Arc::new(Door::new(acceptor, address.clone(), open, tls))
                        }
                        Err((error, _)) if is_dispensable(address, listener, &error) => continue,
                        Err((_, problem)) => {
                            problems.push(problem);
                            continue;
                        }
                    },
                };
                doors.push((door, Arc::clone(&open), tls.clone()));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn has(&self, door: &Arc<Door>) -> bool {
        let known = |other: &Arc<Door>| Arc::ptr_eq(door, other);
        self.front.doors().iter().any(known) || self.parked.iter().any(known)
    }

    /// Opens and shuts doors until there are these. Sockets that were handed over stay ours.
    fn set_doors(&mut self, doors: Vec<Arc<Door>>) {
        let is_among = |door: &Arc<Door>| doors.iter().any(|other| Arc::ptr_eq(door, other));
        let old = self.front.doors();
        let gone = old
            .iter()
            .filter(|door| !is_among(door) && door.acceptor().is_inherited());
        let gone = gone.cloned().collect::<Vec<_>>();
        self.parked.retain(|door| !is_among(door));
        self.parked.extend(gone);
        doors.iter().for_each(|door| door.unlock());
        self.front.set_doors(doors, self.limits.sessions);
    }

    /// The account of the listener of this name, or a new one.
    fn account_of(&self, name: &str) -> Arc<Account> {
        let doors = self.front.doors();
        let known = doors.iter().map(|door| door.listener());
        let mut known = known.filter(|listener| listener.name == name);
        known
            .next()
            .map_or_else(Arc::default, |listener| Arc::clone(listener.account()))
    }

    /// What the listener of this name uses now.
    fn tls_of(&self, name: &str) -> Option<Arc<ServerTls>> {
        let doors = self.front.doors();
        doors
            .iter()
            .find(|door| door.listener().name == name)?
            .tls()
    }

    /// What a listener uses that has the same certificates in its settings.
    fn certificates_of(&self, listener: &Listener) -> Option<Arc<ServerTls>> {
        let wanted = listener.tls.as_ref()?;
        let doors = self.front.doors();
        let known = doors.iter().find(|door| {
            let running = door.listener();
            running.name == listener.name
                && running.tls.as_ref().is_some_and(|tls| {
                    tls.certificates == wanted.certificates && tls.only_tls13 == wanted.only_tls13
                })
        });
        known?.tls()
    }

    /// Brings the clusters to what the plan says, and then the requests to them.
    fn set_clusters(&mut self, plan: &Arc<Plan>, now: Instant) {
        let mut running: Vec<(usize, Arc<Controller>)> = Vec::new();
        let mut new = Vec::new();
        for wanted in &plan.clusters {
            let known = self
                .current
                .iter()
                .find(|(_, cluster)| cluster.name() == wanted.name);
            running.push(match known {
                Some((number, cluster)) => {
                    cluster.reload(wanted, now);
                    (*number, Arc::clone(cluster))
                }
                None => {
                    let cluster = Controller::start(wanted, &self.hub, now);
                    new.push(Arc::clone(&cluster));
                    (self.clusters.add(Arc::clone(&cluster)), cluster)
                }
            });
        }
        // Before a request is sent there.
        for cluster in new {
            cluster.wait_tried(after(now, FIRST_CONNECTS));
        }
        let old = self
            .pipeline
            .set_table(Table::new(Arc::clone(plan), &running));
        self.tables.retain(|table| table.strong_count() > 0);
        self.tables.push(Arc::downgrade(&old));
        drop(old);
        for (number, cluster) in &self.current {
            if !running.iter().any(|(other, _)| other == number) {
                self.retired.add(*number, cluster, &self.tables);
            }
        }
        for (_, cluster) in &running {
            cluster.settle_reload(after(now, FIRST_CONNECTS));
        }
        self.current = running;
    }

    /// Uses the servers again that an operator has released in the state file.
    fn release_as_filed(&self) {
        let Some(path) = &self.state else { return };
        match held::load(path) {
            Ok(file) => {
                for Released {
                    cluster,
                    server,
                    by,
                    ..
                } in file
                    .released
                    .iter()
                    .filter(|released| !self.release_if_of(released))
                {
                    log::info!(
                        "{cluster}/{server} was released by {by}, and is not kept out of use"
                    );
                }
            }
            Err(error) => log::error!("{error}"),
        }
        // The entries of the file are dealt with, and not to be read again.
        self.current
            .iter()
            .for_each(|(_, cluster)| cluster.remember());
    }

    /// Releases a server that is held for what this release was meant to end. Returns `false` if it
    /// is not held, or for something newer.
    fn release_if_of(&self, released: &Released) -> bool {
        let cluster = self.cluster(&released.cluster);
        let is_held = cluster.is_some_and(|it| it.held().iter().any(|held| released.is_of(held)));
        is_held
            && self
                .release(&released.cluster, &released.server, &released.by)
                .is_ok()
    }

    /// Uses a server again that is kept out of use.
    pub(super) fn release(&self, cluster: &str, server: &str, by: &str) -> Outcome {
        let is_released = self
            .cluster(cluster)
            .is_some_and(|running| running.release(server, by));
        if is_released {
            Ok(Effect::Released)
        } else {
            let objection = format!("{cluster}/{server} is not kept out of use");
            Err(vec![Reason::from(objection)])
        }
    }

    /// The cluster of this name in the plan.
    fn cluster(&self, name: &str) -> Option<&Arc<Controller>> {
        let known = self.current.iter().find(|(_, it)| it.name() == name);
        known.map(|(_, cluster)| cluster)
    }

    /// What is only looked at when the program starts.
    fn warn_of_the_rest(&self, plan: &Plan) {
        let (old, new) = (&self.plan.load().process, &plan.process);
        let differences = [
            (
                "process.user",
                old.user != new.user || old.group != new.group,
            ),
            ("process.idle_threads", old.min_idle != new.min_idle),
            (
                "process.scheduling",
                old.batch_scheduling != new.batch_scheduling,
            ),
            ("process.state", old.state != new.state),
            ("buffers", old.buffers != new.buffers),
            ("spool", old.spool != new.spool),
            ("log.level", old.log.level != new.log.level),
            ("log.queue", old.log.queue != new.log.queue),
            ("log.access, log.format", old.log.access != new.log.access),
        ];
        for (name, _) in differences.iter().filter(|(_, is_different)| *is_different) {
            log::warn!("reload: {name} takes effect at the next start");
        }
    }
}

fn count(problems: usize) -> String {
    match problems {
        1 => "1 problem".to_owned(),
        more => format!("{more} problems"),
    }
}
