//! What is known of a server's health, and what follows from it. Pure: it says when a probe is due and is told how it went, and is told how
//! exchanges went; it never connects to anything and has no clock.
//!
//! Three things are kept apart: the *operational* state (what checks and traffic show), the *administrative* one (what somebody has
//! decided, [`crate::health::Monitor`] knows nothing of it but for being kept offline), and *use*, which follows from both in the
//! dispatcher.

mod cluster;
#[cfg(test)]
mod tests;
mod window;

pub use cluster::{Panic, Seen};

use std::time::{Duration, Instant};

use window::Window;

/// When a server is probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Taken for online at first; probed only while it is offline.
    Lazy,
    /// Like lazy, and probed while it is online and has had nothing to do for an interval.
    Opportunistic,
    /// Probed always, and offline until a probe has shown the contrary.
    #[default]
    Paranoid,
    /// Never probed, always online.
    Disabled,
}

/// What went wrong with an exchange or a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// No connection could be made.
    Connect,
    /// The connection broke.
    Broken,
    /// There was no answer in time.
    Timeout,
    /// What came was no HTTP.
    Protocol,
    /// The server said that something is wrong with it (5xx).
    Status,
}

const CLASSES: usize = 5;

/// When traffic takes a server out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passive {
    /// So many failures of one class one after the other, at least 2: a single slow request never takes a server out. 0: never.
    pub consecutive: [u32; CLASSES],
    /// This part of all exchanges within the window.
    pub ratio: f64,
    /// But only if there were so many.
    pub least: usize,
    /// How far back that looks.
    pub window: Duration,
    /// Which classes count for it.
    pub counts: [bool; CLASSES],
}

impl Default for Passive {
    fn default() -> Self {
        Self {
            // A server that cannot be connected to is known for certain; an answer that is late may be the request's fault.
            consecutive: [3, 5, 5, 5, 0],
            ratio: 0.5,
            least: 20,
            window: Duration::from_secs(10),
            counts: [true, true, true, true, false],
        }
    }
}

/// What a monitor goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// When it is probed.
    pub mode: Mode,
    /// From one probe's end to the next one's start.
    pub interval: Duration,
    /// That is made longer or shorter by up to this part, so that servers are not all probed at the same time.
    pub jitter: f64,
    /// After a failure that has not yet taken the server out the next probe comes so soon.
    pub recheck: Duration,
    /// A probe without a result after so long has failed.
    pub timeout: Duration,
    /// So many successes one after the other bring a server online.
    pub rise: u32,
    /// So many failures one after the other take it offline.
    pub fall: u32,
    /// What traffic does.
    pub passive: Passive,
    /// After coming online it is warmed up for so long. 0: it is warm at once.
    pub slow_start: Duration,
    /// A server that comes back stays out of use until somebody enables it.
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
    /// Nothing is known yet, and the mode does not trust in that.
    Unknown,
    /// It works.
    Online,
    /// It does not.
    Offline,
}

/// Why a state has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is new, and the mode trusts it.
    Trusted,
    /// Enough probes succeeded.
    ProbesSucceeded(u32),
    /// Enough probes failed, the last like this.
    ProbesFailed(u32, FaultClass),
    /// Exchanges failed one after the other.
    ExchangesFailed(u32, FaultClass),
    /// Of so many exchanges within the window so many failed.
    FailureRatio {
        /// Those that failed.
        failed: usize,
        /// All.
        of: usize,
    },
    /// Health checking was changed.
    Reconfigured,
    /// Somebody cleared it, and who.
    Released(String),
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Instant,
}

/// A server that came back and is kept out of use until somebody decides otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What had taken it out.
    pub cause: Cause,
    /// When it had been taken out.
    pub since: Instant,
}

/// Number of a probe, so that a late result is not taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeId(u64);

/// One server's health.
#[derive(Debug)]
pub struct Monitor {
    settings: Settings,
    state: State,
    last: Option<Change>,
    /// When it was online for the first time: sticky offline is for those that had been.
    was_online: bool,
    held: Option<Held>,
    /// What took it offline last.
    fell: Option<Held>,
    /// Results of probes one after the other, all alike.
    successes: u32,
    failures: u32,
    /// Failures of exchanges one after the other, by class.
    streaks: [u32; CLASSES],
    window: Window,
    /// The probe that is under way, and when it will have failed.
    probing: Option<(ProbeId, Instant)>,
    next_probe: Instant,
    probes: u64,
    /// When there was the last exchange.
    last_used: Instant,
    online_since: Instant,
    random: u64,
}

/// Exchanges that a window remembers.
const WINDOW: usize = 4096;

impl Monitor {
    /// A new server. The first probe, if its mode wants one, is due at once.
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        let mut monitor = Self {
            settings,
            state: State::Unknown,
            last: None,
            was_online: false,
            held: None,
            fell: None,
            successes: 0,
            failures: 0,
            streaks: [0; CLASSES],
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
            // It is not new to itself: what is trusted from the start is warm.
            monitor.online_since = now.checked_sub(settings.slow_start).unwrap_or(now);
        }
        monitor
    }

    /// The operational state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it may be used: online, and not held back.
    pub fn is_usable(&self) -> bool {
        self.state == State::Online && self.held.is_none()
    }

    /// Why it is kept out of use though it is online.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// The last change of state.
    pub fn last_change(&self) -> Option<&Change> {
        self.last.as_ref()
    }

    /// How warm it is, in thousandths: rising evenly while it starts slowly, never nothing.
    pub fn warmth(&self, now: Instant) -> u16 {
        let up = now.saturating_duration_since(self.online_since);
        if up >= self.settings.slow_start {
            return 1000;
        }
        let part = up.as_secs_f64() / self.settings.slow_start.as_secs_f64();
        ((part * 1000.0) as u16).clamp(1, 1000)
    }

    /// When something is to be done next: [`Self::poll`] has to be called then.
    pub fn next_event(&self) -> Option<Instant> {
        match self.probing {
            Some((_, until)) => Some(until),
            None => self.due(),
        }
    }

    /// Starts a probe if one is due; a probe that is out of time has failed.
    pub fn poll(&mut self, now: Instant) -> (Option<ProbeId>, Option<Change>) {
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
        self.probing = Some((id, now + self.settings.timeout));
        (Some(id), change)
    }

    /// How a probe went. One that is not under way (any more) is of no interest.
    pub fn probed(&mut self, id: ProbeId, result: Result<(), FaultClass>, now: Instant) -> Option<Change> {
        self.probing.take_if(|(probing, _)| *probing == id)?;
        let change = match result {
            Ok(()) => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                let enough = self.state != State::Online && self.successes >= self.settings.rise.max(1);
                enough.then(|| self.become_state(State::Online, Cause::ProbesSucceeded(self.successes), now))
            }
            Err(class) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                let enough = self.state != State::Offline && self.failures >= self.settings.fall.max(1);
                enough.then(|| self.become_state(State::Offline, Cause::ProbesFailed(self.failures, class), now))
            }
        };
        let doubtful = self.state != State::Offline && self.failures > 0;
        self.next_probe = now
            + match doubtful {
                true => self.settings.recheck.min(self.settings.interval),
                false => self.interval(),
            };
        change
    }

    /// How an exchange with the server went. Those that end while it is offline were begun before: they change nothing.
    pub fn exchanged(&mut self, result: Result<(), FaultClass>, now: Instant) -> Option<Change> {
        self.last_used = now;
        if self.state != State::Online || self.settings.mode == Mode::Disabled {
            return None;
        }
        let passive = self.settings.passive;
        let Err(class) = result else {
            self.streaks = [0; CLASSES];
            self.window.push(false, now);
            return None;
        };
        let index = class as usize;
        self.streaks[index] = self.streaks[index].saturating_add(1);
        self.window.push(passive.counts[index], now);
        let streak = self.streaks[index];
        if passive.consecutive[index] > 0 && streak >= passive.consecutive[index].max(2) {
            return Some(self.become_state(State::Offline, Cause::ExchangesFailed(streak, class), now));
        }
        let (of, failed) = self.window.counts(now);
        if passive.counts[index] && of >= passive.least.max(2) && failed as f64 >= passive.ratio * of as f64 {
            return Some(self.become_state(State::Offline, Cause::FailureRatio { failed, of }, now));
        }
        // Not enough to be sure: ask it soon, if it is asked at all.
        if self.settings.mode != Mode::Lazy {
            self.next_probe = self.next_probe.min(now + self.settings.recheck);
        }
        None
    }

    /// Somebody has decided that it may be used again.
    pub fn release(&mut self, who: &str, now: Instant) -> Option<Change> {
        self.held.take()?;
        self.online_since = now;
        Some(self.note(self.state, Cause::Released(who.to_owned()), now))
    }

    /// Goes by other settings from now on. What is known stays known, except that who is not probed is online.
    pub fn set(&mut self, settings: Settings, now: Instant) -> Option<Change> {
        if settings.passive.window != self.settings.passive.window {
            self.window = Window::new(settings.passive.window, WINDOW);
        }
        self.settings = settings;
        self.next_probe = self.next_probe.min(now + settings.interval);
        let trusts = match settings.mode {
            Mode::Disabled => self.state != State::Online,
            Mode::Lazy | Mode::Opportunistic => self.state == State::Unknown,
            Mode::Paranoid => false,
        };
        if settings.mode == Mode::Disabled {
            self.probing = None;
        }
        trusts.then(|| self.become_state(State::Online, Cause::Reconfigured, now))
    }

    /// When the next probe may start, if its mode wants one in this state.
    fn due(&self) -> Option<Instant> {
        match (self.settings.mode, self.state) {
            (Mode::Disabled, _) | (Mode::Lazy, State::Online) => None,
            (Mode::Opportunistic, State::Online) if self.failures == 0 => {
                Some(self.next_probe.max(self.last_used + self.settings.interval))
            }
            _ => Some(self.next_probe),
        }
    }

    fn become_state(&mut self, to: State, cause: Cause, now: Instant) -> Change {
        let from = self.state;
        self.state = to;
        self.streaks = [0; CLASSES];
        self.window.clear();
        (self.successes, self.failures) = (0, 0);
        match to {
            State::Online => {
                if self.settings.sticky_offline && self.was_online && from == State::Offline {
                    self.held = self.fell.take();
                }
                self.was_online = true;
                self.online_since = now;
                // The next look is an interval away.
                self.next_probe = now + self.interval();
            }
            State::Offline => {
                self.fell = Some(Held {
                    cause: cause.clone(),
                    since: now,
                });
                self.next_probe = now + self.interval();
            }
            State::Unknown => {}
        }
        self.note_from(from, to, cause, now)
    }

    fn note(&mut self, state: State, cause: Cause, now: Instant) -> Change {
        self.note_from(state, state, cause, now)
    }

    fn note_from(&mut self, from: State, to: State, cause: Cause, now: Instant) -> Change {
        let change = Change {
            from,
            to,
            cause,
            at: now,
        };
        self.last = Some(change.clone());
        change
    }

    /// The interval with its jitter.
    fn interval(&mut self) -> Duration {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let even = (mixed >> 11) as f64 / (1u64 << 53) as f64;
        let jitter = self.settings.jitter.clamp(0.0, 1.0);
        self.settings.interval.mul_f64(1.0 + jitter * (2.0 * even - 1.0))
    }
}
