//! Limits how many servers of a cluster are taken out. What is wrong with most servers at the same
//! time is more likely wrong with the check, or with what they share, and taking all of them out
//! helps no client.

/// Keeps the last servers of a cluster in use.
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
    /// Returns which servers to use, by what is known of each. `None` is a server outside traffic
    /// and probes (one that an operator has disabled, say), which is neither used nor counted.
    ///
    /// If fewer servers are usable than the threshold asks for, those that were taken out last come
    /// back until there are enough. `fallen_for` is how long a server has been out, in any unit; a
    /// recent fall is more likely a common cause's. Held servers (sticky offline), which an
    /// operator has to look at first, come last.
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
    /// It may be used if too few servers are usable. A server that has never been seen to work may
    /// not.
    pub may_return: bool,
    /// It is held until an operator releases it.
    pub held: bool,
    /// How long it has been out.
    pub fallen_for: std::time::Duration,
}
