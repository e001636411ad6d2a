//! A question that a probe asks of a server: one request, sent over a connection that is free, and
//! its response.

use std::time::Instant;

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::fault::Fault;
use crate::health::FaultClass;
use crate::http::ResponseFraming;
use crate::plan::{self, HttpProbe};

use super::connection::{AFTER_HEAD, Connection};
use super::speak::{BadHead, Head};

/// Bytes of a body that are waited for and looked at.
const BODY: usize = 64 * 1024;

/// What is wrong with a server, and a description of it for the log.
pub(super) type Wrong = (FaultClass, String);

/// The moment at which a probe that begins now has to be over.
pub(super) fn deadline(plan: &plan::Cluster) -> Instant {
    after(Instant::now(), plan.health.settings.timeout)
}

/// A question.
pub(super) struct Question {
    until: Instant,
}

impl Question {
    /// A question that is to be answered before `until`.
    pub(super) fn new(until: Instant) -> Self {
        Self { until }
    }

    /// Sends the request and reads the response. Returns whether the connection can serve another
    /// request then.
    pub(super) fn ask(
        &self,
        connection: &mut Connection,
        probe: &HttpProbe,
    ) -> Result<bool, Wrong> {
        if !connection.send_small(&probe.request) {
            return Err(wrong(Fault::SendFailed));
        }
        Point::WorkerProbe.pass();
        connection.begin_response(probe.method);
        loop {
            match connection.head() {
                Ok(Head::More) if connection.is_full() => {
                    return Err(wrong(Fault::ResponseTooLarge));
                }
                Ok(Head::More) => self.fill(connection)?,
                Ok(Head::Interim(length) | Head::Upgraded(length)) => connection.consume(length),
                Ok(Head::Final(length)) => break connection.consume(length),
                Err(BadHead::TooLarge) => return Err(wrong(Fault::ResponseTooLarge)),
                Err(BadHead::Malformed) => return Err(wrong(Fault::ResponseMalformed)),
            }
        }
        let status = connection.response().status;
        if !probe.expect.iter().any(|good| good.contains(&status)) {
            return Err((FaultClass::Status, format!("the status was {status}")));
        }
        let (body, is_whole) = self.body(connection)?;
        if let Some(wanted) = &probe.body
            && !body.windows(wanted.len()).any(|part| part == wanted)
        {
            return Err((FaultClass::Status, "the body is not as expected".to_owned()));
        }
        // A body where none may be would be read as the next response, a client's.
        let says_more = connection.response().framing == ResponseFraming::None
            && connection.says_more(AFTER_HEAD);
        Ok(is_whole && !says_more && connection.may_be_reused() && connection.settle())
    }

    /// Reads the beginning of the body. Returns it, and whether that is all and the connection goes
    /// on.
    fn body(&self, connection: &mut Connection) -> Result<(Vec<u8>, bool), Wrong> {
        let ends_with_connection = connection.response().framing == ResponseFraming::UntilClose;
        let mut body = Vec::new();
        loop {
            let Ok(is_last) = connection.collect(&mut body) else {
                return Err(wrong(Fault::ResponseMalformed));
            };
            if is_last {
                return Ok((body, !ends_with_connection));
            }
            if body.len() > BODY {
                return Ok((body, false));
            }
            match self.fill(connection) {
                Err(_) if ends_with_connection => return Ok((body, false)),
                filled => filled?,
            }
        }
    }

    fn fill(&self, connection: &mut Connection) -> Result<(), Wrong> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(wrong(Fault::ResponseTimeout));
        }
        match connection.fill(left) {
            Ok(0) => Err(wrong(Fault::ResponseMissing)),
            Ok(_) => Ok(()),
            Err(Fault::ReadTimeout) => Err(wrong(Fault::ResponseTimeout)),
            Err(fault) => Err(wrong(fault)),
        }
    }
}

/// What a fault says of the server.
pub(super) fn wrong(fault: Fault) -> Wrong {
    (
        fault.evidence().unwrap_or(FaultClass::Broken),
        fault.text().to_owned(),
    )
}
