//! What follows from an attempt that failed: the attempts so far, and the verdict. Pure: neither
//! time nor connections are known here.
//!
//! A failed attempt leads to another one, to a response made here, or to an end that the client
//! sees. [`judge`] decides by what happened ([`Failure`]), the method, the attempts so far
//! ([`Attempts`]), the settings, and by what has happened round the attempt ([`Meanwhile`]).

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::base::words::words;
use crate::fault::{Fault, FaultClass, Repeat};
use crate::http::Method;

/// The wait between two attempts does not grow beyond this, unless the operator asks for more.
const MOST_BACK_OFF: Duration = Duration::from_secs(1);

/// The number of attempts that may meet the end of a used connection and do not count.
const FREE_ENDS: u32 = 3;

/// What to do with a 5xx of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum On5xx {
    /// The client gets a 502 in its place.
    BadGateway,
    /// The client gets it untouched.
    #[default]
    Pass,
    /// The request is sent to another server where that is safe, else the client gets it.
    Retry,
}

words!(On5xx { Pass => "pass", Retry => "retry", BadGateway => "bad_gateway" });

/// What a cluster's operator wants of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// A request may be sent so often in all, the first time included.
    pub attempts: u32,
    /// The second and later retries wait for so long, twice as long each time; may be zero.
    pub back_off: Duration,
    /// What to do with a 5xx.
    pub on_5xx: On5xx,
    /// A request is served to its end though its client has left.
    pub serves_absent: bool,
}

/// How much of a request its server may have seen when the attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not one byte was sent.
    Unsent,
    /// The request met the end of a connection that had served others before. Not a byte of a
    /// response came. Servers end idle connections as they like: this says nothing of how the
    /// server is, and a server that stops may do so several times to the same request.
    MetEnd,
    /// The server may have acted on it.
    Sent,
}

/// How an attempt failed before a final head went to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    fault: Fault,
    reach: Reach,
}

impl Failure {
    /// A failure with what the table says of its fault.
    pub fn of(fault: Fault) -> Self {
        let reach = match fault.repeat() {
            Repeat::Always => Reach::Unsent,
            Repeat::Never | Repeat::IfIdempotent => Reach::Sent,
        };
        Self { fault, reach }
    }

    /// A failure before the first byte of the request was sent.
    pub fn unsent(fault: Fault) -> Self {
        Self {
            fault,
            reach: Reach::Unsent,
        }
    }

    /// The end of a connection that had served others before, without a byte of a response.
    pub fn met_end() -> Self {
        Self {
            fault: Fault::ResponseMissing,
            reach: Reach::MetEnd,
        }
    }

    /// Returns the same failure, of a request that was not sent whole: a server that closes the
    /// connection then has left out more than the response.
    pub fn while_sending(self) -> Self {
        match self.fault {
            Fault::ResponseMissing => Self {
                fault: Fault::SendFailed,
                ..self
            },
            _ => self,
        }
    }

    /// What went wrong.
    pub fn fault(self) -> Fault {
        self.fault
    }

    /// Whether the request may be sent again, as far as the failure goes.
    fn repeat(self) -> Repeat {
        match self.reach {
            Reach::Unsent => Repeat::Always,
            Reach::MetEnd | Reach::Sent => self.fault.repeat(),
        }
    }

    /// Returns whether no server has seen anything of the request.
    pub fn is_unsent(self) -> bool {
        self.reach == Reach::Unsent
    }

    /// What the failure shows of the server; `None` if nothing.
    pub fn evidence(self) -> Option<FaultClass> {
        let class = self.fault.evidence();
        match self.reach {
            // Without a byte sent, the connection ended while it was idle.
            Reach::Unsent => class.filter(|&class| class == FaultClass::Connect),
            Reach::MetEnd => None,
            Reach::Sent => class,
        }
    }

    /// Of several requests sent together, whether this failure of a later one may be the fault of
    /// what came before it: there is nothing of its response (`has_begun` is `false`), or what
    /// there is may be the rest of another.
    pub fn may_be_a_neighbours(self, has_begun: bool) -> bool {
        match self.fault {
            Fault::ResponseMissing => !has_begun,
            Fault::ResponseMalformed => true,
            _ => false,
        }
    }
}

/// The attempts at one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts that a server may have seen, the one under way included.
    seen: u32,
    /// Attempts that were begun, those too of which nothing was sent.
    begun: u32,
    /// Attempts that met the end of a used connection ([`Reach::MetEnd`]).
    met_ends: u32,
    /// One attempt was part of a batch that broke before its turn: that is no reason to give the
    /// request up earlier than others.
    is_of_broken_batch: bool,
    /// Why the last attempt failed. It is known while the exchange waits for the next one.
    failed: Option<Fault>,
    /// Why the attempt failed that came before the one under way (or before the last).
    why: Option<Fault>,
}

impl Attempts {
    /// A worker begins an attempt.
    pub fn begin(&mut self) {
        self.why = self.failed.take().or(self.why);
        self.begun += 1;
        self.seen += 1;
    }

    /// The attempt under way failed, and another is to follow.
    pub fn fail(&mut self, failure: Failure, settings: &RetrySettings) {
        *self = self.after(failure, settings);
        self.failed = Some(failure.fault);
    }

    /// No attempt could be begun, for this reason, where the exchange was. It goes on elsewhere.
    pub fn put_off(&mut self, why: Fault) {
        self.failed = Some(why);
    }

    /// The batch that the exchange was in broke before its turn. Without an attempt under way the
    /// request did not go out with the batch.
    pub fn note_broken_batch(&mut self) {
        self.is_of_broken_batch |= self.seen > 0;
    }

    /// Returns what is counted once the attempt under way has failed like this.
    fn after(mut self, failure: Failure, settings: &RetrySettings) -> Self {
        match failure.reach {
            Reach::Unsent => self.seen = self.seen.saturating_sub(1),
            // With one attempt nothing is sent twice, whatever was met.
            Reach::MetEnd if settings.attempts > 1 => self.met_ends += 1,
            Reach::MetEnd | Reach::Sent => {}
        }
        self
    }

    /// Returns how many attempts count towards the most there may be.
    fn counted(&self) -> u32 {
        let free = u32::from(self.is_of_broken_batch) + self.met_ends.min(FREE_ENDS);
        self.seen.saturating_sub(free)
    }

    /// How many attempts were begun, those too of which nothing was sent.
    pub fn begun(&self) -> u32 {
        self.begun
    }

    /// How many attempts a server may have seen.
    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// How many attempts after the first a server may have seen.
    pub fn retries(&self) -> u32 {
        self.seen.saturating_sub(1)
    }

    /// Why the last attempt failed, or could not be begun, if another is to follow.
    pub fn failed(&self) -> Option<Fault> {
        self.failed
    }

    /// Why the attempt failed that came before the one under way, or before the last.
    pub fn why(&self) -> Option<Fault> {
        self.why
    }

    /// How long the exchange waits before its next attempt.
    pub fn back_off(&self, settings: &RetrySettings) -> Duration {
        let least = settings.back_off;
        match self.begun {
            // The first retry goes at once: it mostly goes elsewhere, and to find a connection
            // closed is no failure.
            0 | 1 => Duration::ZERO,
            begun => least
                .saturating_mul(2_u32.pow((begun - 2).min(10)))
                .min(MOST_BACK_OFF.max(least)),
        }
    }
}

/// What has happened round a failed attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meanwhile {
    /// The client has left.
    pub client_has_left: bool,
    /// The final head has gone to the client.
    pub head_is_out: bool,
    /// The time of a stop is up for the worker.
    pub is_stopped: bool,
}

/// What becomes of an exchange whose attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a judgement is to be carried out"]
pub enum Judgement {
    /// Another attempt is made.
    Retry {
        /// It does not count for the retry budget: no server has seen anything of the last one.
        is_free: bool,
        /// After this wait; zero is at once.
        back_off: Duration,
    },
    /// The client gets a response made here.
    Respond(Fault),
    /// The response has begun, and the client must see that it has no end.
    Cut(Fault),
    /// The client has left, and nothing is to be done any more.
    Drop(Fault),
}

/// Decides what becomes of an exchange whose attempt, the last one of `attempts`, failed like this.
///
/// A request is sent again if no server has seen anything of it, or if its method is idempotent and
/// not more than [`RetrySettings::attempts`] count. A stop leads to 503 before any retry, and with
/// a client that has left nothing is done.
pub fn judge(
    failure: Failure,
    method: Method,
    attempts: &Attempts,
    settings: &RetrySettings,
    meanwhile: Meanwhile,
) -> Judgement {
    // Of a request that was not sent everything is still to be done, if clients that leave are
    // ignored.
    let is_still_wanted = settings.serves_absent && failure.is_unsent();
    if meanwhile.client_has_left && !is_still_wanted {
        return Judgement::Drop(Fault::ClientGoneHead);
    }
    if meanwhile.head_is_out {
        return Judgement::Cut(failure.fault);
    }
    if meanwhile.is_stopped {
        return Judgement::Respond(Fault::Draining);
    }
    if may_retry(failure, method, attempts, settings) {
        return Judgement::Retry {
            is_free: failure.is_unsent(),
            back_off: attempts.back_off(settings),
        };
    }
    Judgement::Respond(failure.fault)
}

/// Returns whether the request may be sent again after this failure.
pub fn may_retry(
    failure: Failure,
    method: Method,
    attempts: &Attempts,
    settings: &RetrySettings,
) -> bool {
    match failure.repeat() {
        Repeat::Always => true,
        Repeat::Never => false,
        Repeat::IfIdempotent => {
            let is_wanted = failure.fault != Fault::ServerError || settings.on_5xx == On5xx::Retry;
            is_wanted
                && method.is_idempotent()
                && attempts.after(failure, settings).counted() < settings.attempts
        }
    }
}

/// Returns whether a 5xx of the server is kept from the client: it counts as a failed attempt
/// ([`Fault::ServerError`]) then.
pub fn hides_5xx(method: Method, attempts: &Attempts, settings: &RetrySettings) -> bool {
    match settings.on_5xx {
        On5xx::Pass => false,
        On5xx::BadGateway => true,
        On5xx::Retry => {
            let failure = Failure::of(Fault::ServerError);
            may_retry(failure, method, attempts, settings)
        }
    }
}
