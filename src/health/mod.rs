//! What is known of a server's health, and what follows from it. Pure: a monitor tells when a probe
//! is due, and is told how probes and exchanges went. It connects to nothing and has no clock.
//!
//! Three things are separate: the *operational* state (what checks and traffic show), the
//! *administrative* one (what an operator has decided; [`crate::health::Monitor`] knows only of
//! holds), and *use*, which follows from both in the dispatcher.

mod cause;
mod cluster;
#[cfg(test)]
mod tests;
mod window;
mod witness;

pub use crate::fault::FaultClass;
pub use cause::Cause;
pub use cluster::{Panic, Seen};
pub use witness::{Failure, Witness};

use std::time::{Duration, Instant};

use crate::base::time::after;
use crate::base::words::words;

use window::{Event, Window};
use witness::Streak;

/// When a server is probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Online at first. Probed only while offline.
    Lazy,
    /// Like lazy, and also probed while online after an interval without exchanges.
    Opportunistic,
    /// Always probed, and offline until a probe has succeeded.
    #[default]
    Paranoid,
    /// Never probed, always online.
    Disabled,
}

words!(Mode {
    Paranoid => "paranoid",
    Opportunistic => "opportunistic",
    Lazy => "lazy",
    Disabled => "disabled",
});

/// When traffic takes a server out.
///
/// Where a request may be the cause (everything but connects), the failures of one client count for
/// no more than those of all others together, and likewise for one path while others work. What one
/// client can provoke, or what is wrong with one path, is only a reason to probe (also with
/// [`Mode::Lazy`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passive {
    /// The number of failures of one class in a row that take a server out, at least 2: a single
    /// slow request never does. 0: never.
    pub consecutive: [u32; FaultClass::COUNT],
    /// The failed part of all exchanges within the window that takes a server out.
    pub ratio: f64,
    /// The least number of exchanges for that.
    pub least: usize,
    /// The length of the window.
    pub window: Duration,
    /// Which classes count in the window.
    pub counts: [bool; FaultClass::COUNT],
}

impl Default for Passive {
    fn default() -> Self {
        Self {
            // A failed connect is certain. A late response may be the request's fault.
            consecutive: [3, 5, 5, 5, 0],
            ratio: 0.5,
            least: 20,
            window: Duration::from_secs(10),
            counts: [true, true, true, true, false],
        }
    }
}

/// The settings of a monitor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// When the server is probed.
    pub mode: Mode,
    /// The time from one probe's end to the next one's start.
    pub interval: Duration,
    /// The interval is longer or shorter by up to this part, so that servers are not all probed at
    /// the same time.
    pub jitter: f64,
    /// The time to the next probe after a failure that has not yet taken the server out.
    pub recheck: Duration,
    /// A probe without a result has failed after this time.
    pub timeout: Duration,
    /// How many successes in a row bring an offline server online.
    pub rise: u32,
    /// How many failures in a row take an online server offline. While nothing is known of a
    /// server, its first probe decides: both numbers are only for changes of state.
    pub fall: u32,
    /// When traffic takes the server out.
    pub passive: Passive,
    /// How long a server is warmed up after coming online. 0: it is warm at once.
    pub slow_start: Duration,
    /// A server that was taken out stays out of use even if it comes back, until an operator
    /// releases it.
    pub sticky_offline: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            interval: Duration::from_secs(2),
            jitter: 0.1,
            recheck: Duration::from_millis(500),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 2,
            passive: Passive::default(),
            slow_start: Duration::ZERO,
            sticky_offline: false,
        }
    }
}

/// The operational state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet, and the mode does not trust the server.
    Unknown,
    /// The server works.
    Online,
    /// The server does not work.
    Offline,
}

words!(State { Unknown => "unknown", Online => "online", Offline => "offline" });

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The old state.
    pub from: State,
    /// The new state.
    pub to: State,
    /// Why it changed.
    pub cause: Cause,
    /// When it changed.
    pub at: Instant,
}

/// A server that was taken out, and stays out of use even if it comes back, until an operator
/// releases it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What took it out.
    pub cause: Cause,
    /// When it was taken out. A writer of this converts it to wall-clock time, because there is no
    /// clock here.
    pub since: Instant,
}

/// What probes have shown lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Probes that succeeded in a row since the last change of state or failure.
    pub successes: u32,
    /// Probes that failed in a row since the last change of state or success.
    pub failures: u32,
    /// When the last probe ended, and its result.
    pub last_probe: Option<(Instant, Result<(), FaultClass>)>,
}

/// The number of a probe, so that a late result is not taken for another probe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeId(pub(crate) u64);

/// One server's health.
#[derive(Debug)]
pub struct Monitor {
    settings: Settings,
    state: State,
    last: Option<Transition>,
    /// The server has been seen to work. Only such a server is held, not one that is started after
    /// the balancer.
    was_online: bool,
    held: Option<Held>,
    /// When it last went offline.
    fell: Instant,
    /// Results of probes in a row, all alike.
    counts: Counts,
    /// Failures of exchanges in a row, by class.
    streaks: [Streak; FaultClass::COUNT],
    /// When an exchange last went well.
    worked: Option<Instant>,
    /// Traffic shows enough failures, but not of enough clients and paths, so a probe has to
    /// decide.
    is_suspected: bool,
    window: Window,
    /// The current probe, and when it will have failed.
    probing: Option<(ProbeId, Instant)>,
    next_probe: Instant,
    probes: u64,
    /// When the last exchange was.
    last_used: Instant,
    online_since: Instant,
    random: u64,
}

/// The number of exchanges that a window remembers.
const WINDOW: usize = 4096;

impl Monitor {
    /// Makes the monitor of a new server. The first probe, if its mode wants one, is due at once.
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        let mut monitor = Self {
            settings,
            state: State::Unknown,
            last: None,
            was_online: false,
            held: None,
            fell: now,
            counts: Counts::default(),
            streaks: [Streak::default(); FaultClass::COUNT],
            worked: None,
            is_suspected: false,
            window: Window::new(settings.passive.window, WINDOW),
            probing: None,
            next_probe: now,
            probes: 0,
            last_used: now,
            online_since: now,
            random: seed,
        };
        if settings.mode != Mode::Paranoid {
            monitor.become_state(State::Online, Cause::Trusted, now);
        }
        monitor
    }

    /// Returns the operational state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns whether the server may be used: online, and not held.
    pub fn is_usable(&self) -> bool {
        self.state == State::Online && self.held.is_none()
    }

    /// Returns the hold that keeps the server out of use until an operator releases it, even if the
    /// server is or comes back. A hold has to survive a restart: see [`Self::hold`].
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Returns whether the server has ever been seen to work: online by a probe, or with an
    /// exchange that went well. Being trusted is not enough.
    pub fn was_online(&self) -> bool {
        self.was_online
    }

    /// Returns how long the server has been out of use, for [`Seen::fallen_for`]. Zero while it is
    /// in use or nothing is known of it yet.
    pub fn fallen_for(&self, now: Instant) -> Duration {
        let since = match (&self.held, self.state) {
            (Some(held), _) => held.since,
            (None, State::Offline) => self.fell,
            (None, _) => return Duration::ZERO,
        };
        now.saturating_duration_since(since)
    }

    /// Returns whether probes have failed lately, or so many exchanges that the server is probed.
    pub fn is_doubted(&self) -> bool {
        self.is_suspected || self.counts.failures > 0
    }

    /// Returns what probes have shown lately.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the last change of state.
    pub fn last_change(&self) -> Option<&Transition> {
        self.last.as_ref()
    }

    /// Returns how warm the server is, in thousandths: rising evenly during slow start, never 0.
    pub fn warmth(&self, now: Instant) -> u16 {
        let up = now.saturating_duration_since(self.online_since);
        if up >= self.settings.slow_start {
            return 1000;
        }
        let part = up.as_secs_f64() / self.settings.slow_start.as_secs_f64();
        ((part * 1000.0) as u16).clamp(1, 1000)
    }

    /// Returns when [`Self::poll`] has to be called next.
    pub fn next_event(&self) -> Option<Instant> {
        match self.probing {
            Some((_, until)) => Some(until),
            None => self.due(),
        }
    }

    /// Starts a probe if one is due. A probe that is out of time has failed.
    pub fn poll(&mut self, now: Instant) -> (Option<ProbeId>, Option<Transition>) {
        let mut change = None;
        if let Some((id, until)) = self.probing
            && until <= now
        {
            change = self.probed(id, Err(FaultClass::Timeout), now);
        }
        if self.probing.is_some() || self.due().is_none_or(|due| due > now) {
            return (None, change);
        }
        self.probes += 1;
        let id = ProbeId(self.probes);
        self.probing = Some((id, after(now, self.settings.timeout)));
        (Some(id), change)
    }

    /// Takes over the result of a probe. A probe that is not the current one is ignored.
    pub fn probed(
        &mut self,
        id: ProbeId,
        result: Result<(), FaultClass>,
        now: Instant,
    ) -> Option<Transition> {
        self.probing.take_if(|(probing, _)| *probing == id)?;
        self.counts.last_probe = Some((now, result));
        let needed = |times: u32| {
            if self.state == State::Unknown {
                1
            } else {
                times.max(1)
            }
        };
        self.is_suspected &= result.is_err();
        let change = match result {
            Ok(()) => {
                let successes = self.counts.successes.saturating_add(1);
                (self.counts.successes, self.counts.failures) = (successes, 0);
                let enough = self.state != State::Online && successes >= needed(self.settings.rise);
                let change = enough.then(|| {
                    self.become_state(State::Online, Cause::ProbesSucceeded(successes), now)
                });
                self.was_online |= self.state == State::Online;
                change
            }
            Err(class) => {
                let failures = self.counts.failures.saturating_add(1);
                (self.counts.successes, self.counts.failures) = (0, failures);
                let enough = self.state != State::Offline && failures >= needed(self.settings.fall);
                enough.then(|| {
                    self.become_state(State::Offline, Cause::ProbesFailed(failures, class), now)
                })
            }
        };
        let doubtful = self.state != State::Offline && self.counts.failures > 0;
        let pause = match doubtful {
            true => self.settings.recheck.min(self.settings.interval),
            false => self.interval(),
        };
        self.next_probe = after(now, pause);
        change
    }

    /// Ends a probe that could not be made because all of the server's workers are busy. Traffic
    /// then shows more than a probe could. Nothing is counted, and the next probe is due an
    /// interval later.
    pub fn skipped(&mut self, id: ProbeId, now: Instant) {
        if self
            .probing
            .take_if(|(probing, _)| *probing == id)
            .is_some()
        {
            self.next_probe = after(now, self.interval());
        }
    }

    /// Ends a probe that could not be begun yet. Nothing is counted, and a probe is due again at
    /// `until`.
    pub fn postponed(&mut self, id: ProbeId, until: Instant) {
        if self
            .probing
            .take_if(|(probing, _)| *probing == id)
            .is_some()
        {
            self.next_probe = until;
        }
    }

    /// Takes over the result of an exchange with the server. Exchanges that end while the server is
    /// offline were begun before, and change nothing.
    pub fn exchanged(&mut self, result: Result<(), Failure>, now: Instant) -> Option<Transition> {
        self.last_used = now;
        if result.is_ok() {
            self.was_online = true;
            self.worked = Some(now);
        }
        if self.state != State::Online || self.settings.mode == Mode::Disabled {
            return None;
        }
        let passive = self.settings.passive;
        let Err(Failure { class, witness }) = result else {
            self.streaks = [Streak::default(); FaultClass::COUNT];
            self.window.push(Event::Good, now);
            return None;
        };
        let index = class as usize;
        let streak = &mut self.streaks[index];
        streak.add(witness);
        self.window.push(
            match passive.counts[index] {
                true => Event::Failed(witness),
                false => Event::Good,
            },
            now,
        );
        // If nothing has worked for a while, the cause is not a single path.
        let works = self
            .worked
            .is_some_and(|then| now.saturating_duration_since(then) < passive.window);
        let needed = passive.consecutive[index];
        let is_enough = |failures: u32| needed > 0 && failures >= needed.max(2);
        let (all, telling) = (streak.length(), streak.telling(works));
        if is_enough(telling) {
            return Some(self.become_state(
                State::Offline,
                Cause::ExchangesFailed(all, class),
                now,
            ));
        }
        let (of, failed) = self.window.counts(now);
        let is_too_much = |failed: usize, of: usize| {
            let is_many = failed >= 2 && failed as f64 >= passive.ratio * of as f64;
            passive.counts[index] && of >= passive.least.max(2) && is_many
        };
        if is_too_much(failed, of) {
            let excess = self.window.excess(works);
            if is_too_much(failed - excess, of - excess) {
                return Some(self.become_state(
                    State::Offline,
                    Cause::FailureRatio { failed, of },
                    now,
                ));
            }
        }
        let was_suspected = self.is_suspected;
        self.is_suspected |= is_enough(all) || is_too_much(failed, of);
        // Not enough to be sure, so a probe is due soon if the server is probed at all.
        if self.settings.mode != Mode::Lazy || self.is_suspected && !was_suspected {
            let soon = after(now, self.settings.recheck);
            self.next_probe = match self.settings.mode {
                Mode::Lazy => soon,
                _ => self.next_probe.min(soon),
            };
        }
        None
    }

    /// Holds the server, as a process before this one did. Without sticky offline nothing is held.
    pub fn hold(&mut self, held: Held) {
        if self.settings.sticky_offline {
            self.was_online = true;
            self.held = Some(held);
        }
    }

    /// Releases the server on an operator's behalf. It may be used at once if it is online, else as
    /// soon as it is.
    pub fn release(&mut self, who: &str, now: Instant) -> Option<Transition> {
        self.let_go(Cause::Released(who.to_owned()), now)
    }

    /// Changes the settings. What is known stays known, except that a server that is not probed is
    /// online. A held server stays held as long as sticky offline is on.
    pub fn set(&mut self, settings: Settings, now: Instant) -> Option<Transition> {
        if settings.passive.window != self.settings.passive.window {
            self.window = Window::new(settings.passive.window, WINDOW);
        }
        self.settings = settings;
        self.next_probe = self.next_probe.min(after(now, settings.interval));
        if settings.mode == Mode::Disabled {
            self.probing = None;
        }
        let released = match settings.sticky_offline {
            true => None,
            false => self.let_go(Cause::Reconfigured, now),
        };
        let trusts = match settings.mode {
            Mode::Disabled => self.state != State::Online,
            Mode::Lazy | Mode::Opportunistic => self.state == State::Unknown,
            Mode::Paranoid => false,
        };
        match trusts {
            true => Some(self.become_state(State::Online, Cause::Reconfigured, now)),
            false => released,
        }
    }

    /// Forgets a server that is not probed for a while, because an operator has switched it off.
    /// Where the mode trusts nothing, nothing is known any more. The first probe is due at once.
    pub fn forget(&mut self, now: Instant) {
        self.probing = None;
        self.next_probe = now;
        self.streaks = [Streak::default(); FaultClass::COUNT];
        self.is_suspected = false;
        self.window.clear();
        (self.counts.successes, self.counts.failures) = (0, 0);
        if self.settings.mode == Mode::Paranoid {
            self.state = State::Unknown;
            self.last = None;
        }
    }

    fn let_go(&mut self, cause: Cause, now: Instant) -> Option<Transition> {
        self.held.take()?;
        let change = Transition {
            from: self.state,
            to: self.state,
            cause,
            at: now,
        };
        // For an offline server, the cause of its fall is still what matters.
        if self.state != State::Offline {
            self.online_since = now;
            self.last = Some(change.clone());
        }
        Some(change)
    }

    /// Returns when the next probe may start, if the mode wants one in this state.
    fn due(&self) -> Option<Instant> {
        match (self.settings.mode, self.state) {
            (Mode::Disabled, _) => None,
            (Mode::Lazy, State::Online) if !self.is_suspected => None,
            (Mode::Opportunistic, State::Online)
                if self.counts.failures == 0 && !self.is_suspected =>
            {
                Some(
                    self.next_probe
                        .max(after(self.last_used, self.settings.interval)),
                )
            }
            _ => Some(self.next_probe),
        }
    }

    fn become_state(&mut self, to: State, cause: Cause, now: Instant) -> Transition {
        let from = self.state;
        self.state = to;
        self.streaks = [Streak::default(); FaultClass::COUNT];
        self.is_suspected = false;
        self.window.clear();
        (self.counts.successes, self.counts.failures) = (0, 0);
        match to {
            // A server that works at the first probe was already at work, so there is no reason for
            // a slow start.
            State::Online if from == State::Unknown => {
                self.online_since = now.checked_sub(self.settings.slow_start).unwrap_or(now);
            }
            State::Online => self.online_since = now,
            State::Offline => {
                // A server that falls while it is held has been out since before.
                if self.settings.sticky_offline && self.was_online && self.held.is_none() {
                    self.held = Some(Held {
                        cause: cause.clone(),
                        since: now,
                    });
                }
                self.fell = now;
            }
            State::Unknown => {}
        }
        // The next probe is an interval away.
        self.next_probe = after(now, self.interval());
        let change = Transition {
            from,
            to,
            cause,
            at: now,
        };
        self.last = Some(change.clone());
        change
    }

    /// Returns the interval with its jitter.
    fn interval(&mut self) -> Duration {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let even = (mixed >> 11) as f64 / (1u64 << 53) as f64;
        let jitter = self.settings.jitter.clamp(0.0, 1.0);
        self.settings
            .interval
            .mul_f64(1.0 + jitter * (2.0 * even - 1.0))
    }
}
