//! A probe: what is done to find out how a server is. A worker makes it over its own connection
//! (over a new one if only that is asked for). Only where that cannot be it is made apart: to
//! another port, or while all workers wait for a server that is silent.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::fault::Fault;
use crate::health::{FaultClass, ProbeId};
use crate::http::ResponseFraming;
use crate::net::connect::connect;
use crate::plan::{self, HttpProbe, Probe, ServerAddress};
use crate::proto::h1::{Coming, HeadLimits};
use crate::threads::{self, Kind};

use super::Cluster;
use super::connection::Connection;
use super::life::is_our_own;
use super::link::Link;
use super::server::Server;
use super::speak::{BadHead, Head};
use super::watch::AGAIN;
use super::worker::{AFTER_HEAD, Worker, limits, trailer_limits};

/// So much of a body is looked at, and waited for, in bytes.
const BODY: usize = 64 * 1024;

/// What was wrong, and in words.
type Wrong = (FaultClass, String);

impl Worker {
    /// Makes a probe and tells how it went. Answers whether the connection is still good.
    pub(super) fn probe(&mut self, connection: &mut Connection, id: ProbeId) -> bool {
        let plan = Arc::clone(&self.cluster().plan());
        let until = deadline(&plan);
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
            connection.link().break_off();
        }
        self.cluster().probed(&self.server, id, result);
        is_good
    }

    /// Another connection takes this one's place: never is there one more than the server's
    /// capacity.
    fn connect_anew(&self, connection: &mut Connection) -> Result<(), Wrong> {
        self.slot().forget_connection();
        connection.link().break_off();
        match self.connect(None) {
            Ok(new) => {
                *connection = new;
                Ok(())
            }
            Err(error) => Err((FaultClass::Connect, error.to_string())),
        }
    }

    fn ask(
        &self,
        connection: &mut Connection,
        probe: &HttpProbe,
        until: Instant,
    ) -> Result<bool, Wrong> {
        if !connection.is_quiet() {
            // It was closed while idle, which says nothing.
            self.connect_anew(connection)?;
        }
        Question::new(self.limits, until).ask(connection, probe)
    }
}

impl Cluster {
    /// Makes a probe over a short connection of its own, to this port or the server's own, in a
    /// thread of its own: there is one at most for each server, and it ends with the probe's time.
    pub(super) fn probe_apart(
        self: &Arc<Self>,
        server: &Arc<Server>,
        id: ProbeId,
        now: Instant,
        port: Option<u16>,
    ) {
        if !server.begin_probe_apart() {
            server.monitor().postponed(id, after(now, AGAIN));
            return;
        }
        let (cluster, probed) = (Arc::clone(self), Arc::clone(server));
        let run = move || {
            let made = catch_unwind(AssertUnwindSafe(|| cluster.ask_apart(&probed, port)));
            probed.end_probe_apart();
            match made {
                Ok(Some(result)) => cluster.probed(&probed, id, result),
                Ok(None) => probed.monitor().skipped(id, Instant::now()),
                Err(_) => {
                    cluster.hub.answer_lost();
                    probed.monitor().skipped(id, Instant::now());
                }
            }
        };
        if let Err(error) = threads::spawn(Kind::Probe, format!("probe-{}", server.name), run) {
            log::warn!("health: {} cannot be probed: {error}", server.full_name);
            server.end_probe_apart();
            server.monitor().skipped(id, now);
        }
    }

    /// How the server is; `None` if it is us who lack something.
    fn ask_apart(&self, server: &Server, port: Option<u16>) -> Option<Result<(), Wrong>> {
        let plan = Arc::clone(&self.plan());
        let until = deadline(&plan);
        let mut connection = match connect_apart(server, port, &plan, until) {
            Ok(connection) => connection,
            Err(error) if is_our_own(&error) => return None,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Some(Err(wrong(Fault::ResponseTimeout)));
            }
            Err(error) => return Some(Err((FaultClass::Connect, error.to_string()))),
        };
        let result = match &plan.health.probe {
            Probe::Tcp => Ok(()),
            Probe::Http(probe) => Question::new(limits(&plan), until)
                .ask(&mut connection, probe)
                .map(|_| ()),
        };
        connection.link().break_off();
        Some(result)
    }
}

fn deadline(plan: &plan::Cluster) -> Instant {
    after(Instant::now(), plan.health.settings.timeout)
}

/// Connects to the first address that takes it, all within the probe's time.
fn connect_apart(
    server: &Server,
    port: Option<u16>,
    plan: &plan::Cluster,
    until: Instant,
) -> io::Result<Connection> {
    let left = || {
        until
            .saturating_duration_since(Instant::now())
            .min(plan.timeout.connect)
    };
    let mut outcome = Err(io::Error::new(
        io::ErrorKind::NotFound,
        "its name does not lead to an address",
    ));
    for mut address in server.addresses(left()) {
        if let (ServerAddress::Tcp(address), Some(port)) = (&mut address, port) {
            address.set_port(port);
        }
        let patience = left();
        if patience.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        outcome = connect(&address, patience).map(|stream| (stream, address));
        if outcome.is_ok() {
            break;
        }
    }
    let (stream, address) = outcome?;
    Connection::new(Link::from(stream), address, &plan.timeout, limits(plan))
}

/// A request that is made to find out how a server is.
struct Question {
    until: Instant,
    limits: HeadLimits,
}

impl Question {
    fn new(limits: HeadLimits, until: Instant) -> Self {
        Self { until, limits }
    }

    /// Sends the request and reads the response. Answers whether the connection is at its end then.
    fn ask(&self, connection: &mut Connection, probe: &HttpProbe) -> Result<bool, Wrong> {
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
        Ok(is_whole && !says_more && connection.may_be_reused() && connection.rest())
    }

    /// The body's beginning, and whether that is all.
    fn body(&self, connection: &mut Connection) -> Result<(Vec<u8>, bool), Wrong> {
        let ends_with_connection = connection.response().framing == ResponseFraming::UntilClose;
        let mut coming = Coming::of(connection.response().framing, trailer_limits(self.limits));
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

fn wrong(fault: Fault) -> Wrong {
    (
        fault.evidence().unwrap_or(FaultClass::Broken),
        fault.text().to_owned(),
    )
}
