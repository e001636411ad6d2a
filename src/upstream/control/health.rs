//! Health is put into effect: the dispatcher learns which servers are in use and how warm they are,
//! the log learns what has changed, and servers are kept out of use until an operator releases
//! them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::balance::{Admin, Change, Health, ServerChange};
use crate::base::time::after;
use crate::health::{self, Held, State};
use crate::state::held::HeldServer;
use crate::upstream::server::Server;

use super::controller::Controller;
use super::roster::{Roster, is_watched};

/// A server that starts slowly becomes warmer in so many steps.
const STEPS: u32 = 50;

/// A step takes at least this long.
const SHORTEST_STEP: Duration = Duration::from_millis(20);

/// The step that a server of this warmth has reached, in thousandths: each step is a change for the
/// dispatcher.
fn step(warmth: u16) -> u16 {
    let size = (1000 / STEPS) as u16;
    (warmth / size * size).max(1)
}

/// What the dispatcher is told of a server that is to be used or not.
pub(super) fn health_of(used: bool) -> Health {
    if used {
        Health::Online
    } else {
        Health::Offline
    }
}

impl Controller {
    /// A server has gone online or offline.
    pub(in crate::upstream) fn health_changed(&self, server: &Server, change: &health::Transition) {
        let mut roster = self.roster();
        self.settle_health(&mut roster, Instant::now());
        drop(roster);
        // After the effect, so that a reader of the log finds it so.
        tell(server, change);
    }

    /// Puts into use what is well, and, if that is too little, what fell last (`health.panic`).
    pub(super) fn settle_health(&self, roster: &mut Roster, now: Instant) {
        let seen = roster
            .servers()
            .map(|server| {
                let counts = !server.is_removed() && server.plan().admin == Admin::Enabled;
                counts.then(|| server.seen(now))
            })
            .collect::<Vec<_>>();
        let used = self.plan().health.panic.decide(&seen);
        let panics = used
            .iter()
            .zip(&seen)
            .any(|(used, seen)| *used && seen.is_some_and(|seen| !seen.usable));
        if std::mem::replace(&mut roster.panics, panics) != panics {
            self.tell_panic_mode(panics);
        }
        let mut changes = Vec::new();
        for ((member, used), seen) in roster.members.iter_mut().zip(used).zip(seen) {
            // A server that does not count for now keeps what is known of it.
            let used = seen.map_or(member.used, |_| used);
            let warmth = step(member.server.monitor().warmth(now));
            if member.server.is_removed() || member.used == used && member.warmth == warmth {
                continue;
            }
            (member.used, member.warmth) = (used, warmth);
            let change = ServerChange {
                health: Some(health_of(used)),
                warmth: Some(warmth),
                ..ServerChange::default()
            };
            changes.push(Change::SetServer(member.server.id, change));
        }
        for change in changes {
            self.apply(roster, change, now);
        }
    }

    fn tell_panic_mode(&self, panics: bool) {
        if panics {
            log::warn!(
                "health: {}: too few servers are well: those that fell last stay in use \
                 (health.panic)",
                self.name()
            );
        } else {
            log::info!("health: {}: enough servers are well again", self.name());
        }
    }

    /// Goes on with the slow start of servers. `is_warming` tells that one of them is not warm.
    /// Returns when to go on with it.
    pub(in crate::upstream) fn warm_up(&self, is_warming: bool, now: Instant) -> Option<Instant> {
        let slow_start = self.plan().health.settings.slow_start;
        let mut roster = self.roster();
        // The last step of all has to be made too.
        let has_steps = is_warming
            || roster
                .members
                .iter()
                .any(|member| member.used && member.warmth < 1000);
        if !has_steps {
            return None;
        }
        self.settle_health(&mut roster, now);
        Some(after(now, (slow_start / STEPS).max(SHORTEST_STEP)))
    }

    /// Returns whether servers wait for their first probe, or for being used after it.
    pub(super) fn has_unknown_servers(&self) -> bool {
        let roster = self.roster();
        roster.members.iter().any(|member| {
            let monitor = member.server.monitor();
            let is_unsettled =
                monitor.state() == State::Unknown || monitor.is_usable() && !member.used;
            is_unsettled && is_watched(&member.server)
        })
    }

    // === Servers that are kept out of use

    /// The servers that are kept out of use until an operator releases them.
    pub fn held(&self) -> Vec<HeldServer> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let roster = self.roster();
        roster
            .planned()
            .filter_map(|server| {
                let Held { cause, since } = server.held()?;
                let ago = now.saturating_duration_since(since);
                let since = wall
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
                    .saturating_sub(ago);
                // Rounded, as the file has it: cut off, it would be a second earlier each time that
                // it comes from there.
                let rounded = since.saturating_add(Duration::from_millis(500)).as_secs();
                let since = UNIX_EPOCH
                    .checked_add(Duration::from_secs(rounded))
                    .unwrap_or(wall);
                Some(HeldServer {
                    cluster: self.name().to_owned(),
                    server: server.name.to_string(),
                    address: server.plan().address.to_string(),
                    cause: cause.to_string(),
                    since,
                })
            })
            .collect()
    }

    /// Keeps a server out of use that was kept so before a restart.
    pub fn keep_out(&self, held: &HeldServer) {
        if !self.plan().health.settings.sticky_offline {
            return;
        }
        let mut roster = self.roster();
        let Some(server) = roster.named(&held.server).cloned() else {
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
        self.settle_health(&mut roster, now);
    }

    /// `who` has decided that a server may be used again. Returns `false` if the server was not
    /// kept out of use.
    pub fn release(&self, server: &str, who: &str) -> bool {
        let Some(server) = self.roster().named(server).cloned() else {
            return false;
        };
        let released = server.monitor().release(who, Instant::now());
        released.is_some_and(|change| {
            self.health_changed(&server, &change);
            true
        })
    }
}

/// Writes a change of a server's health to the log.
pub(super) fn tell(server: &Server, change: &health::Transition) {
    let level = match change.to {
        State::Offline => log::Level::Warn,
        State::Online | State::Unknown => log::Level::Info,
    };
    log::log!(
        level,
        "health: {} is {}: {}",
        server.full_name,
        change.to.word(),
        change.cause
    );
    if let Some(held) = server.held().filter(|_| change.to == State::Online) {
        log::warn!(
            "health: {} is kept out of use (sticky_offline) until somebody releases it; it had \
             gone offline: {}",
            server.full_name,
            held.cause
        );
    }
}
