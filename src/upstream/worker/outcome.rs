//! How an attempt ended, and what follows: from a failure whatever [`crate::retry`] judges.

use std::time::{Duration, Instant};

use crate::balance::Verdict;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::filter::client_key::{address_key, hash};
use crate::health::{self, FaultClass, Witness};
use crate::plan::ClientKey;
use crate::retry::{Failure, Judgement, Meanwhile, judge};
use crate::route::path::{self, PathRoom};
use crate::upstream::cluster::ticket;

use super::relay::Fate;
use super::state::Worker;

/// How an attempt ended.
pub(super) enum Outcome {
    /// Nothing of it can be tried again; the exchange is over.
    Over(Fate),
    /// No final head went to the client. What has become of the connection.
    Failed(Failure, Fate),
}

impl Worker {
    /// What follows from how an attempt ended.
    pub(super) fn conclude(
        &mut self,
        id: u64,
        attempt: std::thread::Result<Outcome>,
        held: Option<Exchange>,
    ) -> (Verdict<Exchange>, Fate) {
        let has_left = self.slot().end(id, self.behind.is_empty());
        if has_left {
            // If it is in the lane by now, that was not told yet.
            self.cluster().lane().cancel(id);
        }
        let concluded = self.conclude_attempt(attempt, held, has_left);
        self.tell_evidence();
        concluded
    }

    fn conclude_attempt(
        &mut self,
        attempt: std::thread::Result<Outcome>,
        held: Option<Exchange>,
        has_left: bool,
    ) -> (Verdict<Exchange>, Fate) {
        let (failure, fate) = match attempt {
            Ok(Outcome::Over(_)) if has_left && self.slot().is_notified() => {
                return (Verdict::Done, Fate::Lost);
            }
            Ok(Outcome::Over(fate)) => return (Verdict::Done, fate),
            Ok(Outcome::Failed(failure, fate)) => {
                self.evidence = match &held {
                    Some(exchange) if !has_left => failure
                        .evidence()
                        .map(|class| Err(self.seen_by(exchange, class))),
                    _ => None,
                };
                if has_left && self.slot().is_notified() {
                    (failure, Fate::Lost)
                } else {
                    (failure, fate)
                }
            }
            Err(_) => {
                self.cluster().hub.answer_lost();
                (Failure::of(Fault::Internal), Fate::Lost)
            }
        };
        let verdict = match held {
            Some(exchange) => self.carry_out(failure, exchange, has_left),
            None => Verdict::Done,
        };
        (verdict, fate)
    }

    /// Judges an exchange whose attempt failed, and does what follows.
    fn carry_out(
        &self,
        failure: Failure,
        mut exchange: Exchange,
        client_has_left: bool,
    ) -> Verdict<Exchange> {
        let meanwhile = Meanwhile {
            client_has_left,
            // Only a panic ends an attempt with the head out.
            head_is_out: exchange.status >= 200,
            is_stopped: self.slot().is_stopped(),
        };
        let method = exchange.request.head.method;
        match judge(failure, method, &exchange.attempts, &self.retry, meanwhile) {
            Judgement::Retry { is_free, back_off } => {
                log::debug!(
                    "{}: attempt={} why=\"{}\"",
                    self.name(),
                    exchange.attempts.begun() + 1,
                    failure.fault().text()
                );
                exchange.attempts.fail(failure, &self.retry);
                return self.retry(exchange, is_free, back_off);
            }
            Judgement::Respond(fault) => {
                if !meanwhile.is_stopped {
                    log::info!("{}: {}", self.name(), fault.text());
                }
                self.cluster().respond(exchange, fault);
            }
            Judgement::Cut(fault) => {
                exchange.fault = Some(fault);
                exchange.cut();
            }
            Judgement::Drop(fault) => exchange.call_off(fault),
        }
        Verdict::Done
    }

    /// One of several exchanges was served: if it shall be tried again, it goes back.
    pub(super) fn return_one(&self, id: u64, verdict: Verdict<Exchange>) {
        if matches!(verdict, Verdict::Retry { .. }) {
            self.cluster().end_one(self.id, id, verdict);
        }
    }

    /// No attempt can be begun here, for this reason: the exchange goes on elsewhere.
    pub(super) fn put_off(&self, mut exchange: Exchange, why: Fault) -> Verdict<Exchange> {
        exchange.attempts.put_off(why);
        let back_off = exchange.attempts.back_off(&self.retry);
        self.retry(exchange, true, back_off)
    }

    /// The exchange waits for its next attempt from now on.
    fn retry(
        &self,
        mut exchange: Exchange,
        is_free: bool,
        back_off: Duration,
    ) -> Verdict<Exchange> {
        exchange.times.waiting_since = Instant::now();
        let ticket = ticket(&exchange, Some(self.server.id));
        Verdict::Retry {
            job: exchange,
            ticket,
            free: is_free,
            back_off,
        }
    }

    /// Returns a failure of this exchange for health checks. Its witness counts, so that no client
    /// alone can take a server out of use.
    pub(super) fn seen_by(&self, exchange: &Exchange, class: FaultClass) -> health::Failure {
        // A cookie is the client's to choose; a field counts, and an address is named, by a trusted
        // peer alone.
        let named = match self.plan.client_key {
            ClientKey::Address | ClientKey::Field(_) => exchange.destination.key,
            ClientKey::None | ClientKey::Cookie(_) => None,
        };
        let address = || exchange.peer().map(|peer| address_key(peer.ip()));
        health::Failure {
            class,
            witness: Some(Witness {
                client: named.or_else(address).unwrap_or_default(),
                // As routes see it: to spell one path in many ways makes no more witnesses.
                path: hash(path::see(exchange.request.path(), &mut PathRoom::new()).path),
            }),
        }
    }

    /// Health checks learn what the last exchange shows of the server.
    fn tell_evidence(&mut self) {
        // What a stop breaks off is not the server's fault.
        if let Some(result) = self.evidence.take()
            && self.server.is_monitored()
            && !self.slot().is_stopped()
        {
            self.overseer().exchanged(&self.server, result);
        }
    }
}
