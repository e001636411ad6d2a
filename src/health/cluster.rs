//! Not everybody at once: what is wrong with most servers at the same time is more likely wrong
//! with the check, or with what they share, and using none helps nobody.

/// Ejection never takes the last servers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Panic {
    /// At least this part of the servers stays in use.
    pub threshold: f64,
}

impl Default for Panic {
    fn default() -> Self {
        Self { threshold: 0.5 }
    }
}

impl Panic {
    /// Which servers are to be used, by what is known of each; `None` is one that traffic or probes
    /// have nothing to do with (disabled by somebody, say), which is neither used nor counted.
    ///
    /// If fewer than the threshold asks for are usable, those that were taken out last come back
    /// until there are enough: `fallen_for` is how long a server has been out, in any unit, and
    /// they are those that may have fallen for no fault of theirs. Those that somebody is to look
    /// at first (sticky offline) come last.
    pub fn decide(self, servers: &[Option<Seen>]) -> Vec<bool> {
        let counted = servers.iter().flatten().count();
        let least =
            ((self.threshold.clamp(0.0, 1.0) * counted as f64).ceil() as usize).min(counted);
        let mut used = servers
            .iter()
            .map(|server| server.is_some_and(|seen| seen.usable))
            .collect::<Vec<_>>();
        let mut missing = least.saturating_sub(used.iter().filter(|used| **used).count());
        if missing == 0 {
            return used;
        }
        let mut fallen = servers
            .iter()
            .enumerate()
            .filter_map(|(index, server)| {
                server
                    .filter(|seen| !seen.usable && seen.may_return)
                    .map(|seen| (seen.held, seen.fallen_for, index))
            })
            .collect::<Vec<_>>();
        fallen.sort_unstable();
        for (.., index) in fallen {
            if missing == 0 {
                break;
            }
            used[index] = true;
            missing -= 1;
        }
        used
    }
}

/// What is known of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// See [`super::Monitor::is_usable`].
    pub usable: bool,
    /// It may be used all the same if there are too few: not one that has never been seen to work.
    pub may_return: bool,
    /// It is held back until somebody releases it.
    pub held: bool,
    /// How long it has been out.
    pub fallen_for: std::time::Duration,
}
