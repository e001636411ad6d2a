//! A probe: what a worker does to find out how its server is. It is made over the worker's own connection (over a new one if only that
//! is asked for); nothing else ever connects to a server.

use std::net::Shutdown;
use std::time::Instant;

use crate::fault::Fault;
use crate::health::{FaultClass, ProbeId};
use crate::http::ResponseFraming;
use crate::plan::{HttpProbe, Probe};
use crate::proto::h1::{Coming, parse_response};

use super::connection::Connection;
use super::worker::{AFTER_HEAD, Worker, class_of};

/// So much of a body is looked at, and waited for, in bytes.
const BODY: usize = 64 * 1024;

/// What was wrong, and in words.
type Wrong = (FaultClass, String);

impl Worker {
    /// Makes a probe and tells how it went. Answers whether the connection is still good.
    pub(super) fn probe(&mut self, connection: &mut Connection, id: ProbeId) -> bool {
        let plan = std::sync::Arc::clone(&self.cluster().plan());
        let until = Instant::now() + plan.health.settings.timeout;
        let (result, is_good) = match &plan.health.probe {
            Probe::Tcp => match self.connect_anew(connection) {
                Ok(()) => (Ok(()), true),
                Err(wrong) => (Err(wrong), false),
            },
            Probe::Http(probe) => match self.ask(connection, probe, until) {
                Ok(is_whole) => (Ok(()), is_whole),
                // Of what was wrong with it the connection may still carry the rest.
                Err(wrong) => (Err(wrong), false),
            },
        };
        if !is_good {
            // What may still come over it is the answer to nobody's request.
            connection.stream.shutdown(Shutdown::Both);
        }
        self.cluster().probed(&self.server, id, result);
        is_good
    }

    /// Another connection takes this one's place: never is there one more than the server's capacity.
    fn connect_anew(&self, connection: &mut Connection) -> Result<(), Wrong> {
        self.slot().forget_connection();
        connection.stream.shutdown(Shutdown::Both);
        match self.connect(None) {
            Ok(new) => {
                *connection = new;
                Ok(())
            }
            Err(error) => Err((FaultClass::Connect, error.to_string())),
        }
    }

    /// Sends the request and reads the response. Answers whether the connection is at its end then.
    fn ask(&mut self, connection: &mut Connection, probe: &HttpProbe, until: Instant) -> Result<bool, Wrong> {
        if !connection.is_quiet() {
            // It was closed while idle, which says nothing.
            self.connect_anew(connection)?;
        }
        if !connection.send_small(&probe.head) {
            return Err(wrong(Fault::SendFailed));
        }
        let length = loop {
            self.scanner.reset();
            let length = loop {
                match self.scanner.scan(connection.data(), &self.limits) {
                    Ok(Some(length)) => break length,
                    Ok(None) if connection.is_full() => return Err(wrong(Fault::ResponseTooLarge)),
                    Ok(None) => fill(connection, until)?,
                    Err(_) => return Err(wrong(Fault::ResponseMalformed)),
                }
            };
            let bytes = connection.data().get(..length).unwrap_or_default();
            if parse_response(bytes, probe.method, &self.limits, &mut self.head).is_err() {
                return Err(wrong(Fault::ResponseMalformed));
            }
            if self.head.status >= 200 {
                break length;
            }
            // An interim response.
            connection.consume(length);
        };
        connection.consume(length);
        let status = self.head.status;
        if !probe.expect.iter().any(|good| good.contains(&status)) {
            return Err((FaultClass::Status, format!("the status was {status}")));
        }
        let (body, is_whole) = self.body(connection, until)?;
        if let Some(wanted) = &probe.body
            && !body.windows(wanted.len()).any(|part| part == wanted)
        {
            return Err((FaultClass::Status, "the body is not as expected".to_owned()));
        }
        self.heed_keep_alive(connection);
        // A body where none may be would be read as the next response, a client's.
        let says_more = self.head.framing == ResponseFraming::None && connection.says_more(AFTER_HEAD);
        Ok(is_whole && self.head.keep_alive && !says_more && connection.rest())
    }

    /// The body's beginning, and whether that is all.
    fn body(&self, connection: &mut Connection, until: Instant) -> Result<(Vec<u8>, bool), Wrong> {
        let ends_with_connection = self.head.framing == ResponseFraming::UntilClose;
        let mut coming = Coming::of(self.head.framing, self.trailer_limits());
        let mut body = Vec::new();
        loop {
            let Ok((used, is_last)) = coming.collect(connection.data(), &mut body) else {
                return Err(wrong(Fault::ResponseMalformed));
            };
            connection.consume(used);
            if is_last {
                return Ok((body, !ends_with_connection));
            }
            if body.len() > BODY {
                return Ok((body, false));
            }
            match fill(connection, until) {
                Err(_) if ends_with_connection => return Ok((body, false)),
                filled => filled?,
            }
        }
    }
}

fn fill(connection: &mut Connection, until: Instant) -> Result<(), Wrong> {
    let left = until.saturating_duration_since(Instant::now());
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

fn wrong(fault: Fault) -> Wrong {
    (class_of(fault).unwrap_or(FaultClass::Broken), fault.text().to_owned())
}
