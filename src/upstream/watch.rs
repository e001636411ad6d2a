//! How servers are: what probes and traffic show is put into effect here, and told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::balance::{Admin, Change, Role};
use crate::base::time::after;
use crate::health::{self, Failure, FaultClass, Held, ProbeId, State};
use crate::observe::held::HeldServer;

use super::Cluster;
use super::control::{Control, Entry, health_change, is_watched};
use super::server::Server;

/// A server that starts slowly becomes warmer in so many steps.
const STEPS: u32 = 50;

/// Steps are not shorter than this.
const SHORTEST_STEP: Duration = Duration::from_millis(20);

/// The step that a server has reached which is so warm, in thousandths: each of them is a change
/// for the dispatcher.
fn step(warmth: u16) -> u16 {
    let size = (1000 / STEPS) as u16;
    (warmth / size * size).max(1)
}

/// A probe that no worker can make yet is tried again so soon.
pub(super) const AGAIN: Duration = Duration::from_millis(10);

impl Cluster {
    /// How an exchange with a server went, or the attempt to connect to it.
    pub(super) fn exchanged(self: &Arc<Self>, server: &Arc<Server>, result: Result<(), Failure>) {
        let has_failed = result.is_err();
        if let Some(change) = server.exchanged(result, Instant::now()) {
            self.health_changed(server, &change);
        }
        if has_failed {
            self.hurry_prober();
        }
    }

    /// The next probe may be due earlier than whoever makes it due expects.
    pub(super) fn hurry_prober(&self) {
        self.hub.prober.ring();
    }

    /// How a probe went; `what` says what was wrong with it.
    pub(super) fn probed(
        self: &Arc<Self>,
        server: &Arc<Server>,
        id: ProbeId,
        result: Result<(), (FaultClass, String)>,
    ) {
        if let Err((_, what)) = &result {
            // While it is offline that is no news.
            let level = match server.monitor().state() {
                State::Offline => log::Level::Debug,
                State::Online | State::Unknown => log::Level::Info,
            };
            log::log!(
                level,
                "health: {}: a probe failed: {what}",
                server.full_name
            );
        }
        if let Some(change) = server.probed(id, result.map_err(|(class, _)| class), Instant::now())
        {
            self.health_changed(server, &change);
        }
        self.hurry_prober();
    }

    fn health_changed(self: &Arc<Self>, server: &Arc<Server>, change: &health::Change) {
        let mut control = self.control.lock();
        self.settle_health(&mut control, Instant::now());
        drop(control);
        // Whoever reads it finds it so.
        self.tell(server, change);
    }

    /// The event, in the log.
    pub(super) fn tell(&self, server: &Server, change: &health::Change) {
        let state = match change.to {
            State::Unknown => "unknown",
            State::Online => "online",
            State::Offline => "offline",
        };
        let level = match change.to {
            State::Offline => log::Level::Warn,
            State::Online | State::Unknown => log::Level::Info,
        };
        log::log!(
            level,
            "health: {} is {state}: {}",
            server.full_name,
            change.cause
        );
        if let Some(held) = server.held().filter(|_| change.to == State::Online) {
            log::warn!(
                "health: {} is kept out of use (sticky_offline) until somebody releases it; it \
                 had gone offline: {}",
                server.full_name,
                held.cause
            );
        }
    }

    /// Puts into use what is well, and, if that is too little, what fell last.
    pub(super) fn settle_health(self: &Arc<Self>, control: &mut Control, now: Instant) {
        let panic = self.plan().health.panic;
        let seen = control
            .servers()
            .map(|server| {
                let counts = !server.is_removed() && server.plan().admin == Admin::Enabled;
                counts.then(|| server.seen(now))
            })
            .collect::<Vec<_>>();
        let used = panic.decide(&seen);
        let panics = used
            .iter()
            .zip(&seen)
            .any(|(used, seen)| *used && seen.is_some_and(|seen| !seen.usable));
        if panics != control.panics {
            control.panics = panics;
            if panics {
                log::warn!(
                    "health: {}: too few servers are well: those that fell last stay in use \
                     (health.panic)",
                    self.name
                );
            } else {
                log::info!("health: {}: enough servers are well again", self.name);
            }
        }
        let mut changes = Vec::new();
        for ((entry, used), seen) in control.entries().iter_mut().zip(used).zip(seen) {
            // Who does not count for now keeps what is known of it.
            let used = seen.map_or(entry.used, |_| used);
            let warmth = step(entry.server.monitor().warmth(now));
            if entry.server.is_removed() || entry.used == used && entry.warmth == warmth {
                continue;
            }
            (entry.used, entry.warmth) = (used, warmth);
            changes.push((entry.server.id, health_change(used, warmth)));
        }
        for (server, change) in changes {
            self.apply(control, Change::SetServer(server, change), now);
        }
    }

    /// Starts the probes that are due. Answers when to look again.
    pub(super) fn look_after_health(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let servers = {
            let control = self.control.lock();
            let watched = control
                .servers()
                .filter(|server| is_watched(server))
                .cloned();
            watched.collect::<Vec<_>>()
        };
        let mut next: Option<Instant> = None;
        let mut sooner = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        let slow_start = self.plan().health.settings.slow_start;
        let mut is_warming = false;
        for server in &servers {
            self.silent_for(server, now);
            let (due, change) = server.monitor().poll(now);
            if let Some(change) = change {
                self.health_changed(server, &change);
            }
            if let Some(id) = due {
                self.begin_probe(server, id, now);
            }
            let monitor = server.monitor();
            if let Some(at) = monitor.next_event() {
                sooner(at);
            }
            is_warming |= monitor.state() == State::Online && monitor.warmth(now) < 1000;
        }
        // The last step of all has to be made too.
        let mut control = self.control.lock();
        if is_warming
            || control
                .entries()
                .iter()
                .any(|entry| entry.used && entry.warmth < 1000)
        {
            self.settle_health(&mut control, now);
            sooner(after(now, (slow_start / STEPS).max(SHORTEST_STEP)));
        }
        next
    }

    /// For how long nothing has come from a server. As exact as this is asked often.
    fn silent_for(&self, server: &Server, now: Instant) -> Duration {
        let slots = self.slots.load();
        let workers = self.workers_of(server);
        let of_server = workers
            .iter()
            .filter_map(|worker| slots.get(worker.0 as usize)?.as_ref());
        // Of a server that has not enough to do nothing is to be expected.
        let counts = self.dispatcher.lock().server(server.id);
        let (mut sum, mut listens) = (
            0_u64,
            counts.is_none_or(|counts| counts.serving >= counts.workers),
        );
        for slot in of_server {
            // In this order: a worker that stops giving notes first that it hears again.
            listens &= !slot.is_giving();
            sum = sum.wrapping_add(slot.heard());
        }
        server.note_heard(sum, listens, now)
    }

    fn begin_probe(self: &Arc<Self>, server: &Arc<Server>, id: ProbeId, now: Instant) {
        let plan = Arc::clone(&self.plan());
        if let Some(port) = plan.health.port
            && server.plan().address.port() != Some(port)
        {
            return self.probe_apart(server, id, now, Some(port));
        }
        let is_doubted = server.monitor().is_doubted();
        let borrowed = self.dispatcher.lock().borrow(server.id);
        match borrowed.and_then(|worker| self.slot(worker)) {
            Some(slot) => slot.put_probe(id),
            None if server.is_unreachable() => {
                self.probed(
                    server,
                    id,
                    Err((FaultClass::Connect, "no connection can be made".to_owned())),
                );
            }
            // It is new, or has closed all its connections: they are being made.
            None if server.connected() == 0 => server.monitor().postponed(id, after(now, AGAIN)),
            // All are at work: what they do shows how it is.
            None if !plan.health.when_busy => server.monitor().skipped(id, now),
            // A server that fails is asked, however much it talks: what it says may be the failures
            // themselves.
            None if is_doubted => self.probe_apart(server, id, now, None),
            // And what they do not, shows that too.
            None => {
                let interval = plan.health.settings.interval;
                match interval.checked_sub(self.silent_for(server, now)) {
                    None | Some(Duration::ZERO) => self.probe_apart(server, id, now, None),
                    Some(left) => server.monitor().postponed(id, after(now, left.max(AGAIN))),
                }
            }
        }
    }

    /// Whether servers wait for their first probe, or for being used after it.
    pub(super) fn has_unknown_servers(&self) -> bool {
        let mut control = self.control.lock();
        control.entries().iter().any(|entry| {
            let monitor = entry.server.monitor();
            let is_unsettled =
                monitor.state() == State::Unknown || monitor.is_usable() && !entry.used;
            is_unsettled && is_watched(&entry.server)
        })
    }

    /// Its servers, one line each: what they are for, how they are, and what they have to do.
    pub fn describe_servers(&self) -> Vec<String> {
        let (plan, now) = (self.plan(), Instant::now());
        let control = self.control.lock();
        let describe = |entry: &Entry| {
            let server = &entry.server;
            let settings = server.plan();
            let counts = self.dispatcher.lock().server(server.id)?;
            let role = if server.is_removed() {
                "terminating"
            } else {
                word(settings.role)
            };
            let health = if server.is_monitored() {
                describe_health(server, now)
            } else {
                "not checked".to_owned()
            };
            let use_ = match (counts.in_use, entry.warmth) {
                (false, _) => "not in use".to_owned(),
                (true, 1000) => "in use".to_owned(),
                (true, warmth) => format!("in use, {} % warm", warmth / 10),
            };
            Some(format!(
                "server {} ({}): {role}, {}, {use_}; {} served, {} bound; {} of {} connected; \
                 {health}",
                server.full_name,
                settings.address,
                admin_word(settings.admin),
                counts.serving,
                counts.bound,
                server.connected(),
                counts.workers,
            ))
        };
        let summary = {
            let counts = self.dispatcher.lock().counts();
            format!(
                "cluster {}: {}, {} slots; {} served, {} queued, {} resting",
                self.name,
                admin_word(plan.admin),
                counts.capacity,
                counts.serving,
                counts.queued,
                counts.resting
            )
        };
        let servers = control.entries_to_see().iter().filter_map(describe);
        std::iter::once(summary).chain(servers).collect()
    }

    // === Who is kept out of use

    /// Servers that are kept out of use until somebody releases them.
    pub fn held(&self) -> Vec<HeldServer> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let control = self.control.lock();
        let in_plan = control.servers().filter(|server| !server.is_removed());
        in_plan
            .filter_map(|server| {
                let Held { cause, since } = server.held()?;
                // As the file has it, and not earlier each time that it comes from there.
                let ago = now.saturating_duration_since(since);
                let since = wall
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
                    .saturating_sub(ago);
                let rounded = since.saturating_add(Duration::from_millis(500)).as_secs();
                let since = UNIX_EPOCH
                    .checked_add(Duration::from_secs(rounded))
                    .unwrap_or(wall);
                Some(HeldServer {
                    cluster: self.name.to_string(),
                    server: server.name.to_string(),
                    address: server.plan().address.to_string(),
                    cause: cause.to_string(),
                    since,
                })
            })
            .collect()
    }

    /// Has it written down who is kept out of use, whether that has changed or not.
    pub fn remember(&self) {
        self.is_to_remember.store(true, Ordering::Release);
        self.hurry_prober();
    }

    /// Whether somebody asked for that since this was last asked.
    pub(super) fn take_remember(&self) -> bool {
        self.is_to_remember.swap(false, Ordering::AcqRel)
    }

    /// Keeps a server out of use that was so before a restart.
    pub fn hold(self: &Arc<Self>, held: &HeldServer) {
        if !self.plan().health.settings.sticky_offline {
            return;
        }
        let mut control = self.control.lock();
        let Some(server) = control.named(&held.server).cloned() else {
            return;
        };
        if server.plan().address.to_string() != held.address {
            return;
        }
        let (now, ago) = (Instant::now(), held.since.elapsed().unwrap_or_default());
        server.monitor().hold(Held {
            cause: health::Cause::Remembered(held.cause.clone()),
            since: now.checked_sub(ago).unwrap_or(now),
        });
        log::warn!(
            "health: {} is kept out of use (sticky_offline), as it was before: {}",
            server.full_name,
            held.cause
        );
        self.settle_health(&mut control, now);
    }

    /// Somebody has decided that a server may be used again. `false` if it was not kept out of use.
    pub fn release(self: &Arc<Self>, server: &str, who: &str) -> bool {
        let Some(server) = self.control.lock().named(server).cloned() else {
            return false;
        };
        let released = server.monitor().release(who, Instant::now());
        released.is_some_and(|change| {
            self.health_changed(&server, &change);
            true
        })
    }
}

fn describe_health(server: &Server, now: Instant) -> String {
    let monitor = server.monitor();
    let state = match monitor.state() {
        State::Unknown => "not probed yet",
        State::Online => "online",
        State::Offline => "offline",
    };
    let held = if monitor.held().is_some() {
        ", held back (sticky_offline)"
    } else {
        ""
    };
    match monitor.last_change() {
        Some(change) => format!(
            "{state} for {} s{held}: {}",
            now.saturating_duration_since(change.at).as_secs(),
            change.cause
        ),
        None => format!("{state}{held}"),
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Active => "active",
        Role::Standby => "standby",
        Role::Backup => "backup",
        Role::Terminating => "terminating",
    }
}

fn admin_word(admin: Admin) -> &'static str {
    match admin {
        Admin::Enabled => "enabled",
        Admin::Draining => "draining",
        Admin::Disabled => "disabled",
    }
}
