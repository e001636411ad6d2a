//! A worker's life: it connects, waits, serves one exchange after the other, and connects anew. And
//! what is left of it after a panic: nothing but the exchange in its hand is lost by one.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::{Link, Verdict};
use crate::base::descriptors;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::health::{Failure, FaultClass, ProbeId};
use crate::net::Stream;
use crate::net::connect::connect;
use crate::plan::ServerAddress;

use super::cluster::answer_by;
use super::connection::{Connection, Upload};
use super::relay::Rest;
use super::slot::Woken;
use super::worker::{Worker, limits};

/// An idle worker looks at its connection so often.
const LOOK: Duration = Duration::from_millis(500);

/// It never looks more often than this.
const SHORTEST_LOOK: Duration = Duration::from_millis(20);

/// After a failed attempt to connect, the next comes after so long; then twice that, up to the
/// most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a worker is in the middle of. Kept apart from the stack, so that it survives a panic.
#[derive(Debug)]
pub(super) struct Hands {
    /// The exchange that the dispatcher has given to it and that it has taken.
    job: Option<u64>,
    /// The probe that it makes.
    pub(super) probe: Option<ProbeId>,
    /// It is counted among those connected.
    is_connected: bool,
    /// It has run before.
    has_begun: bool,
    /// It has not tried to connect yet.
    is_first_try: bool,
    /// The exchange to go on with after a panic: the next of its batch.
    left_over: Option<Exchange>,
}

impl Default for Hands {
    fn default() -> Self {
        Self {
            job: None,
            probe: None,
            is_connected: false,
            has_begun: false,
            is_first_try: true,
            left_over: None,
        }
    }
}

/// Whether it is us who lack something: that says nothing of a server.
pub(super) fn is_our_own(error: &io::Error) -> bool {
    const LACKS: [i32; 5] = [
        libc::EMFILE,
        libc::ENFILE,
        libc::EADDRNOTAVAIL,
        libc::ENOBUFS,
        libc::ENOMEM,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| LACKS.contains(&code))
}

/// No address could be reached.
#[derive(Debug)]
struct Unreached {
    /// What the last attempt met.
    last: io::Error,
    /// The time for one of them was too short, or for looking them up.
    has_timed_out: bool,
}

/// Connects to the first of these addresses that can be reached, until then in all.
fn first_of<S>(
    addresses: Vec<ServerAddress>,
    until: Instant,
    mut connect: impl FnMut(&ServerAddress, Duration) -> io::Result<S>,
) -> Result<(S, ServerAddress), Unreached> {
    let left = || until.saturating_duration_since(Instant::now());
    let mut untried = addresses.len() as u32;
    let mut unreached = Unreached {
        last: io::Error::new(
            io::ErrorKind::NotFound,
            "its name does not lead to an address",
        ),
        has_timed_out: addresses.is_empty() && left().is_zero(),
    };
    for address in addresses {
        // Each that is still to be tried has its part of the time that is left.
        let patience = left() / untried.max(1);
        untried -= 1;
        let connected = if patience.is_zero() {
            Err(io::Error::from(io::ErrorKind::TimedOut))
        } else {
            connect(&address, patience)
        };
        match connected {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => {
                unreached.has_timed_out |= error.kind() == io::ErrorKind::TimedOut;
                unreached.last = error;
            }
        }
    }
    Err(unreached)
}

impl Worker {
    /// Its life. A panic costs the exchange in its hand; called again, the worker begins anew.
    pub(super) fn run(&mut self) {
        if std::mem::replace(&mut self.hands.has_begun, true) {
            self.recover();
        } else if self.cluster().hub.batch_scheduling() {
            let _ = crate::sys::schedule_as_batch(); // Not a must.
        }
        self.live();
        self.leave();
        self.overseer().ended(self.id, self.server.id);
        if let Some(probe) = self.slot().take_probe() {
            self.server.monitor().skipped(probe, Instant::now());
        }
    }

    /// Puts right what a panic has left undone.
    fn recover(&mut self) {
        log::warn!("{}: a worker begins anew after a panic", self.name());
        // First of all its client learns of it.
        self.cluster().hub.answer_lost();
        if std::mem::take(&mut self.hands.is_connected) {
            self.server.note_connected(false);
        }
        if std::mem::take(&mut self.hands.is_first_try) {
            self.overseer().tried();
        }
        let probe = self.hands.probe.take();
        if let Some(probe) = probe {
            self.server.monitor().skipped(probe, Instant::now());
        }
        self.reset();
        let half_sent = self.slot().reset();
        let had_job = self.hands.job;
        let now = Instant::now();
        self.note_broken_batch(now);
        if self.hands.left_over.is_none() {
            self.hands.left_over = self.next_behind();
        }
        self.hands.job = self.hands.left_over.as_ref().map(|exchange| exchange.id);
        match (had_job, &self.hands.left_over) {
            (Some(id), Some(next)) if next.id != id => {
                self.cluster().part(self.id, id, Verdict::Done);
            }
            (_, Some(_)) => {}
            (had_job, None) if had_job.is_some() || half_sent.is_some() => {
                self.cluster()
                    .next(self.id, Verdict::Done, Link::Connecting);
            }
            (None, None) if probe.is_some() => {
                self.cluster()
                    .next(self.id, Verdict::None, Link::Connecting);
            }
            // A job that lies in the slot is served over the next connection.
            (_, None) => {
                self.cluster().retire(self.id);
            }
        }
        // The exchange in hand is over, and the one whose request this worker's connection has
        // taken half of.
        drop(half_sent);
        self.cluster().hub.answer_lost();
    }

    fn live(&mut self) {
        let mut back_off = BACK_OFF.0;
        // Not all at the same moment: so one of them finds out sooner that the server is back, and
        // tells the others.
        let most_back_off = BACK_OFF.1 * (50 + self.id.0 * 37 % 50) / 100;
        let mut job = self.hands.left_over.take();
        while job.is_some() || !self.slot().is_stopped() {
            self.look_at_settings(None);
            let connected = self.connect(job.as_mut());
            match connected {
                Ok(mut connection) => {
                    self.note_connected(true);
                    if job.is_none() {
                        job = self.next(Verdict::None, Link::Up);
                    }
                    if back_off > BACK_OFF.0 {
                        log::info!("{}: connected again", self.name());
                        self.overseer().reconnected(&self.server);
                    }
                    back_off = BACK_OFF.0;
                    if std::mem::take(&mut self.hands.is_first_try) {
                        self.overseer().tried();
                    }
                    job = self.serve_all(&mut connection, job);
                    self.slot().forget_connection();
                    self.note_connected(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    // The job has no more time. Whether the server can be reached is seen without
                    // it.
                    self.give_back_behind();
                    let verdict = job.take().map_or(Verdict::None, |exchange| {
                        self.put_off(exchange, Fault::DeadlinePassed)
                    });
                    self.next(verdict, Link::Connecting);
                }
                Err(error) => {
                    if back_off == BACK_OFF.0 {
                        log::warn!("{}: cannot connect: {error}", self.name());
                    }
                    if !is_our_own(&error) {
                        self.server.note_unreachable();
                    }
                    self.give_back_behind();
                    let verdict = job.take().map_or(Verdict::None, |exchange| {
                        self.put_off(exchange, Fault::ConnectFailed)
                    });
                    self.next(verdict, Link::Unreachable);
                    if self.server.is_monitored() && !is_our_own(&error) {
                        let failure = Failure {
                            class: FaultClass::Connect,
                            witness: None,
                        };
                        self.overseer().exchanged(&self.server, Err(failure));
                    }
                    if std::mem::take(&mut self.hands.is_first_try) {
                        self.overseer().tried();
                    }
                    // The dispatcher gives nothing to an unreachable worker: a stop, or another
                    // worker that is connected again, ends this wait. So does a job that was
                    // assigned before a panic, and that lies in the slot since.
                    match self.slot().wait(None, back_off) {
                        Woken::Job(exchange, _) => {
                            self.hands.job = Some(exchange.id);
                            job = Some(exchange);
                        }
                        // The failure to connect, which says more, is told.
                        Woken::Probe(probe) => self.server.monitor().skipped(probe, Instant::now()),
                        Woken::Nothing | Woken::Stop => {}
                    }
                    back_off = (back_off * 2).min(most_back_off);
                }
            }
        }
    }

    /// Ends its part in the dispatcher's work. A job that was assigned before is tried elsewhere:
    /// the dispatcher counts it as served until the worker says otherwise.
    fn leave(&mut self) {
        while !self.cluster().retire(self.id) {
            match self.slot().wait(None, SHORTEST_LOOK) {
                Woken::Job(exchange, upload) => {
                    self.hands.job = Some(exchange.id);
                    let verdict = if upload.has_begun {
                        self.cluster().respond(exchange, Fault::Draining);
                        Verdict::Done
                    } else {
                        self.put_off(exchange, Fault::Draining)
                    };
                    self.next(verdict, Link::Connecting);
                }
                Woken::Probe(probe) => self.server.monitor().skipped(probe, Instant::now()),
                // A stopped slot does not wait, and the job is on its way.
                Woken::Stop => std::thread::sleep(Duration::from_millis(1)),
                Woken::Nothing => {}
            }
        }
    }

    fn note_connected(&mut self, is_connected: bool) {
        self.hands.is_connected = is_connected;
        self.server.note_connected(is_connected);
    }

    /// Tells the dispatcher how the last job ended and how the connection is, and takes the next
    /// job.
    fn next(&mut self, verdict: Verdict<Exchange>, link: Link) -> Option<Exchange> {
        let next = self.cluster().next(self.id, verdict, link);
        self.hands.job = next.as_ref().map(|exchange| exchange.id);
        next
    }

    /// Connects, to the first address that can be reached, within `timeout.connect` in all. A job
    /// that waits for that is told how long it took, and limits it to its own time.
    /// [`io::ErrorKind::Interrupted`] if that is up, which says nothing of the server.
    pub(super) fn connect(&self, waiting: Option<&mut Exchange>) -> io::Result<Connection> {
        Point::WorkerConnect.pass();
        let began = Instant::now();
        let regular = after(began, self.timeout.connect);
        let until = match waiting.as_ref().and_then(|exchange| answer_by(exchange)) {
            Some(answer_by) => answer_by.min(regular),
            None => regular,
        };
        let connected = self.connect_until(until, regular);
        if let Some(exchange) = waiting {
            let connect = exchange.times.connect.get_or_insert_default();
            *connect = connect.saturating_add(began.elapsed());
        }
        match connected {
            Ok((stream, address)) => {
                Connection::new(stream.into(), address, &self.timeout, self.limits)
            }
            Err(error) => Err(error),
        }
    }

    fn connect_until(
        &self,
        until: Instant,
        regular: Instant,
    ) -> io::Result<(Stream, ServerAddress)> {
        let addresses = self
            .server
            .addresses(until.saturating_duration_since(Instant::now()));
        let connected = first_of(addresses, until, |address, patience| {
            descriptors::SERVERS.open(|| connect(address, patience))
        });
        match connected {
            Ok((stream, address)) => {
                self.server.prefer(&address);
                Ok((stream, address))
            }
            // With the regular time that address might have been reached, whatever became of the
            // others.
            Err(failed) if failed.has_timed_out && until < regular => {
                Err(io::Error::from(io::ErrorKind::Interrupted))
            }
            Err(failed) => Err(failed.last),
        }
    }

    /// Serves over this connection until it is not good any more. Answers the job that found it so,
    /// if one did.
    fn serve_all(
        &mut self,
        connection: &mut Connection,
        job: Option<Exchange>,
    ) -> Option<Exchange> {
        let mut next = job;
        let mut is_batch = false;
        loop {
            let (exchange, upload) = match next.take() {
                // It follows at once on what came before, which is as good as a look.
                Some(exchange) if !connection.has_pipelined || connection.is_silent() => {
                    (exchange, Upload::default())
                }
                Some(exchange) => {
                    self.note_batch(false);
                    return Some(exchange);
                }
                None => {
                    let (exchange, upload) = self.wait(connection)?;
                    // Who has sent something has looked before.
                    if !upload.has_begun && !connection.is_quiet() {
                        log::debug!(
                            "{}: the idle connection was closed, connecting anew",
                            self.name()
                        );
                        return Some(exchange);
                    }
                    (exchange, upload)
                }
            };
            self.look_at_settings(Some(connection));
            let id = exchange.id;
            Point::WorkerTaken.pass();
            let now = upload.began_at().unwrap_or_else(Instant::now);
            let (verdict, rest) = if is_batch {
                self.serve_batch(connection, exchange, now)
            } else {
                self.serve(connection, exchange, upload, now)
            };
            Point::WorkerEnd.pass();
            let is_clean = match rest {
                Rest::Complete => connection.rest(),
                Rest::Lost => false,
                Rest::Untouched => true,
            };
            if is_batch {
                self.note_batch(is_clean);
            }
            let is_good = is_clean && !self.slot().is_stopped() && self.is_at_home(connection);
            if !is_good {
                self.slot().forget_connection();
            }
            next = self.next_behind();
            is_batch = false;
            if let Some(next) = &next {
                self.hands.job = Some(next.id);
                self.part(id, verdict);
            } else {
                let link = if is_good { Link::Up } else { Link::Connecting };
                let cluster = Arc::clone(self.cluster());
                let batch = (self.batching.most(now), &mut self.behind);
                next = cluster.next_batch(self.id, verdict, link, batch);
                self.hands.job = next.as_ref().map(|exchange| exchange.id);
                is_batch = !self.behind.is_empty();
            }
            if !is_good {
                return next;
            }
        }
    }

    /// Waits for a job, and looks after the connection meanwhile. `None` if it is lost, or at the
    /// end.
    fn wait(&mut self, connection: &mut Connection) -> Option<(Exchange, Upload)> {
        // What another thread has sent meanwhile is picked up before its response is late.
        let look = LOOK.min(self.timeout.first_byte.max(SHORTEST_LOOK));
        loop {
            Point::WorkerIdle.pass();
            let is_lost = match self.slot().wait(Some(connection), look) {
                Woken::Job(exchange, upload) => {
                    self.hands.job = Some(exchange.id);
                    return Some((exchange, upload));
                }
                Woken::Probe(probe) => {
                    self.look_at_settings(Some(connection));
                    self.hands.probe = Some(probe);
                    let is_good = self.probe(connection, probe);
                    self.hands.probe = None;
                    let link = if is_good { Link::Up } else { Link::Connecting };
                    if let Some(exchange) = self.next(Verdict::None, link) {
                        return Some((exchange, Upload::default()));
                    }
                    !is_good
                }
                Woken::Stop => {
                    // A job that was assigned just now is on its way.
                    std::thread::yield_now();
                    true
                }
                Woken::Nothing => !connection.is_quiet() || !self.is_at_home(connection),
            };
            // If a job was assigned just now it is in the slot, and is served over a new
            // connection.
            if is_lost && self.cluster().retire(self.id) {
                return None;
            }
        }
    }

    /// What has changed since the last look is heeded from now on.
    fn look_at_settings(&mut self, connection: Option<&mut Connection>) {
        let version = self.server.version();
        if version == self.version {
            return;
        }
        self.version = version;
        let plan = Arc::clone(&self.cluster().plan());
        self.limits = limits(&plan);
        self.timeout = plan.timeout;
        self.on_client_abort = plan.on_client_abort;
        self.retry = plan.retry_settings();
        self.batching.set_most(plan.pipeline);
        if let Some(connection) = connection {
            connection.adapt(&plan.timeout, self.limits);
        }
        self.plan = plan;
    }

    /// Whether the connection leads to where the server is now.
    fn is_at_home(&mut self, connection: &Connection) -> bool {
        // Not by the settings' version: a request that came just then has looked at these, and not
        // at the address.
        let version = self.server.version();
        if self.at_home != version && self.server.is_at(&connection.address) {
            self.at_home = version;
        }
        self.at_home == version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Vec<ServerAddress> {
        let port = |port: u16| ServerAddress::Tcp(([127, 0, 0, 1], port).into());
        vec![port(1), port(2)]
    }

    fn failing(kinds: [io::ErrorKind; 2]) -> (io::ErrorKind, bool) {
        let mut kinds = kinds.into_iter();
        let until = after(Instant::now(), Duration::from_secs(60));
        let failed = first_of(addresses(), until, |_, _| {
            Err::<(), _>(kinds.next().unwrap().into())
        })
        .unwrap_err();
        (failed.last.kind(), failed.has_timed_out)
    }

    #[test]
    fn an_address_whose_time_was_too_short_is_remembered_whatever_the_others_say() {
        use io::ErrorKind::{ConnectionRefused, TimedOut};
        assert_eq!(
            failing([TimedOut, ConnectionRefused]),
            (ConnectionRefused, true)
        );
        assert_eq!(failing([ConnectionRefused, TimedOut]), (TimedOut, true));
        assert_eq!(failing([ConnectionRefused; 2]), (ConnectionRefused, false));
    }

    #[test]
    fn without_time_no_address_is_tried_and_no_name_is_missed() {
        let now = Instant::now();
        let failed = first_of(addresses(), now, |_, _| Ok(())).unwrap_err();
        assert!(failed.has_timed_out);
        assert!(
            first_of(Vec::new(), now, |_, _| Ok(()))
                .unwrap_err()
                .has_timed_out
        );
        let until = after(now, Duration::from_secs(60));
        let failed = first_of(Vec::new(), until, |_, _| Ok(())).unwrap_err();
        assert_eq!(
            (failed.last.kind(), failed.has_timed_out),
            (io::ErrorKind::NotFound, false)
        );
        assert!(first_of(addresses(), until, |_, _| Ok(())).is_ok());
    }
}
