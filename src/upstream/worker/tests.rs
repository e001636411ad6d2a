//! Attempts and responses on their way, between a server and a client that a test plays.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::balance::{
    Change, Dispatcher, LinkState, NewServer, ServerId, Settings, Verdict, WorkerId,
};
use crate::exchange::played::{PlayedClient, hub};
use crate::exchange::{Exchange, Left};
use crate::fault::Fault;
use crate::health::{Failure, FaultClass, Mode, ProbeId};
use crate::plan::samples::{cluster as plan, server};
use crate::plan::{self, On5xx};
use crate::upstream::cluster::Cluster;
use crate::upstream::connection::{Connection, Upload};
use crate::upstream::overseer::{Overseer, ProbeResult};
use crate::upstream::played::{Coming, Played};
use crate::upstream::server::Server;
use crate::upstream::slot::Slot;

use super::relay::Fate;
use super::state::Worker;

const SECOND: Duration = Duration::from_secs(1);

const GET: &str = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

const POST: &str = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n";

const OK: &str = "HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 4\r\n\r\ngood";

/// Notes what workers report.
#[derive(Default)]
struct Notes {
    seen: Mutex<Vec<Result<(), FaultClass>>>,
}

impl Overseer for Notes {
    fn tried(&self) {}

    fn exchanged(&self, _: &Arc<Server>, result: Result<(), Failure>) {
        self.seen
            .lock()
            .push(result.map_err(|failure| failure.class));
    }

    fn probed(&self, _: &Arc<Server>, _: ProbeId, _: ProbeResult) {}

    fn contact_changed(&self, _: &Server) {}

    fn ended(&self, _: WorkerId, _: ServerId) {}
}

/// A worker, its connection to a played server, and a client.
struct Fixture {
    worker: Worker,
    connection: Connection,
    server: Arc<Played>,
    client: PlayedClient,
    notes: Arc<Notes>,
}

impl Fixture {
    fn new(coming: &[Coming]) -> Self {
        Self::with(coming, |_| {})
    }

    fn with(coming: &[Coming], adapt: impl FnOnce(&mut plan::Cluster)) -> Self {
        let (hub, now) = (hub(), Instant::now());
        let mut plan = plan();
        plan.health.settings.mode = Mode::Paranoid;
        adapt(&mut plan);
        let mut dispatcher = Dispatcher::new(Settings::default());
        let change = Change::AddServer(NewServer::with_capacity(1));
        let started = dispatcher.apply(change, now).unwrap().started;
        let (server_id, worker_id) = started[0];
        let cluster = Arc::new(Cluster::new(&plan, &hub, dispatcher));
        let account = hub.accounts.open();
        let server = Server::new(server_id, &plan, &plan.servers[0], account, 1, now);
        let notes = Arc::new(Notes::default());
        let overseer = Arc::clone(&notes) as Arc<dyn Overseer>;
        let slot = Arc::new(Slot::new().unwrap());
        let worker = Worker::new(&cluster, overseer, worker_id, &Arc::new(server), slot);
        assert!(
            cluster
                .next(worker_id, Verdict::None, LinkState::Up)
                .is_none()
        );
        let played = Played::saying(coming.iter().cloned());
        let connection = Connection::new(
            (&played).into(),
            plan.servers[0].address.clone(),
            &plan.timeout,
            worker.limits,
        );
        Self {
            worker,
            connection: connection.unwrap(),
            server: played,
            client: PlayedClient::new(&hub),
            notes,
        }
    }

    /// The client asks, and the worker serves that.
    fn serve(&mut self, head: &str, body: &str) -> (Verdict<Exchange>, Fate) {
        let exchange = self.client.ask(head, body.as_bytes());
        self.serve_this(exchange)
    }

    fn serve_this(&mut self, exchange: Exchange) -> (Verdict<Exchange>, Fate) {
        let now = Instant::now();
        self.worker
            .serve(&mut self.connection, exchange, Upload::default(), now)
    }

    fn seen(&self) -> Vec<Result<(), FaultClass>> {
        std::mem::take(&mut self.notes.seen.lock())
    }
}

fn says(text: &str) -> Coming {
    Coming::Bytes(text.as_bytes().to_vec())
}

/// Expects that the exchange was not to be tried again.
#[track_caller]
fn expect_done(served: (Verdict<Exchange>, Fate), fate: Fate) {
    assert!(matches!(served.0, Verdict::Done), "{:?}", served.0);
    assert_eq!(served.1, fate);
}

/// Expects another attempt, and returns the exchange for it.
#[track_caller]
fn expect_retry(served: (Verdict<Exchange>, Fate), fate: Fate) -> Exchange {
    assert_eq!(served.1, fate);
    match served.0 {
        Verdict::Retry { job, .. } => job,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_response_goes_to_the_client_in_whatever_pieces_it_comes() {
    for size in [1, 7, OK.len()] {
        let pieces: Vec<_> = OK.as_bytes().chunks(size).collect();
        let coming = pieces.iter().map(|piece| Coming::Bytes(piece.to_vec()));
        let mut fixture = Fixture::new(&coming.collect::<Vec<_>>());
        expect_done(fixture.serve(GET, ""), Fate::Complete);
        assert_eq!(fixture.client.received(), OK, "{size}");
        assert_eq!(fixture.seen(), [Ok(())]);
    }
}

#[test]
fn one_connection_serves_one_exchange_after_the_other() {
    let mut fixture = Fixture::new(&[says(OK)]);
    expect_done(fixture.serve(GET, ""), Fate::Complete);
    assert!(fixture.connection.settle());
    fixture.server.say(says(OK));
    expect_done(fixture.serve(POST, "body"), Fate::Complete);
    assert_eq!(fixture.client.received(), [OK, OK].concat());
    let sent = String::from_utf8(fixture.server.sent()).unwrap();
    assert!(sent.ends_with("\r\n\r\nbody"), "{sent}");
}

#[test]
fn a_connection_that_ends_unused_gets_its_request_sent_again_and_one_that_ends_late_does_not() {
    // Closed by the server at the moment when it was used.
    let mut fixture = Fixture::new(&[Coming::End]);
    fixture.connection.is_used = true;
    let exchange = expect_retry(fixture.serve(GET, ""), Fate::Lost);
    assert_eq!(fixture.seen(), [], "that says nothing of the server");
    exchange.forget();
    // A fresh one: the server has taken the request, and a POST is not repeated.
    let mut fixture = Fixture::new(&[Coming::End]);
    expect_done(fixture.serve(POST, "body"), Fate::Lost);
    let received = fixture.client.received();
    assert!(received.starts_with("HTTP/1.1 502 "), "{received}");
    // A GET is, once.
    let mut fixture = Fixture::new(&[Coming::End]);
    let exchange = expect_retry(fixture.serve(GET, ""), Fate::Lost);
    expect_done(fixture.serve_this(exchange), Fate::Lost);
    let received = fixture.client.received();
    assert!(received.starts_with("HTTP/1.1 502 "), "{received}");
}

#[test]
fn a_response_that_breaks_off_is_cut_and_tried_by_nobody_again() {
    let head = "HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 9\r\n\r\n";
    for end in [Coming::End, Coming::Reset] {
        let mut fixture = Fixture::new(&[says(head), says("four"), end]);
        expect_done(fixture.serve(GET, ""), Fate::Lost);
        assert_eq!(fixture.client.received(), [head, "four"].concat());
        assert!(!fixture.client.is_reset(), "its length shows the cut");
        assert_eq!(fixture.seen(), [Err(FaultClass::Broken)]);
    }
    // Malformed amid its body: what is good of it goes out, and no end behind it.
    let head = "HTTP/1.1 200 OK\r\nDate: today\r\nTransfer-Encoding: chunked\r\n\r\n";
    let coming = [head, "2\r\nab\r\n", "4\r\nfour\r\nno"].map(says);
    let mut fixture = Fixture::new(&coming);
    expect_done(fixture.serve(GET, ""), Fate::Lost);
    let received = fixture.client.received();
    assert!(received.ends_with("4\r\nfour\r\n"), "{received}");
}

#[test]
fn a_body_that_ends_with_the_connection_ends_the_connection_alone() {
    let head = "HTTP/1.1 200 OK\r\nDate: today\r\n\r\n";
    let mut fixture = Fixture::new(&[says(head), says("all"), Coming::End]);
    expect_done(fixture.serve(GET, ""), Fate::Ended);
    let received = fixture.client.received();
    assert!(
        received.ends_with("\r\n\r\n3\r\nall\r\n0\r\n\r\n"),
        "{received}"
    );
    assert_eq!(fixture.seen(), [Ok(())]);
    // Not if the stop of the worker ended it.
    let mut fixture = Fixture::new(&[says(head), says("all"), Coming::End]);
    fixture.worker.slot().stop();
    expect_done(fixture.serve(GET, ""), Fate::Lost);
    assert!(fixture.client.received().ends_with("\r\n\r\n3\r\nall\r\n"));
    assert_eq!(fixture.seen(), []);
}

#[test]
fn a_client_that_goes_amid_its_response_costs_the_server_no_connection() {
    let head = "HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 9\r\n\r\n";
    let mut fixture = Fixture::new(&[says(head), says("four"), says("five!")]);
    fixture.client.break_off();
    expect_done(fixture.serve(GET, ""), Fate::Complete);
    assert_eq!(fixture.client.gone(), Some(Fault::ClientGoneData));
    assert!(fixture.connection.settle());
    // If the rest comes in time.
    let mut fixture = Fixture::with(&[says(head), says("four")], |plan| {
        plan.timeout.abort = Duration::ZERO;
    });
    fixture.client.break_off();
    expect_done(fixture.serve(GET, ""), Fate::Lost);
}

#[test]
fn a_client_that_has_left_before_gets_nothing_and_its_server_neither() {
    let mut fixture = Fixture::new(&[says(OK)]);
    let exchange = fixture.client.ask(GET, b"");
    let grace = crate::upstream::slot::Grace {
        time: Some(SECOND),
        is_told: false,
    };
    let _: Left = fixture.client.leave();
    fixture
        .worker
        .slot()
        .cancel(exchange.id, grace, Instant::now());
    expect_done(fixture.serve_this(exchange), Fate::Untouched);
    assert_eq!(fixture.server.sent(), b"");
    assert_eq!(fixture.client.received(), "");
}

#[test]
fn a_5xx_is_hidden_where_the_plan_says_so_and_another_attempt_is_left() {
    let busy = "HTTP/1.1 503 Busy\r\nDate: today\r\nContent-Length: 4\r\n\r\nbusy";
    let mut fixture = Fixture::with(&[says(busy)], |plan| plan.on_5xx = On5xx::Retry);
    let exchange = expect_retry(fixture.serve(GET, ""), Fate::Complete);
    assert_eq!(fixture.client.received(), "");
    assert_eq!(fixture.seen(), [Err(FaultClass::Status)]);
    assert!(fixture.connection.settle());
    // The last attempt's is passed on.
    fixture.server.say(says(busy));
    expect_done(fixture.serve_this(exchange), Fate::Complete);
    assert_eq!(fixture.client.received(), busy);
}

#[test]
fn a_server_that_answers_amid_an_upload_is_heard_and_its_connection_ended() {
    let refused = "HTTP/1.1 413 Large\r\nDate: today\r\nContent-Length: 0\r\n\r\n";
    let mut fixture = Fixture::new(&[]);
    fixture.server = Played::taking(10, [], [says(refused)]);
    fixture.connection = Connection::new(
        (&fixture.server).into(),
        server().address,
        &plan().timeout,
        fixture.worker.limits,
    )
    .unwrap();
    expect_done(fixture.serve(POST, "body"), Fate::Lost);
    assert_eq!(fixture.client.received(), refused);
    assert_eq!(fixture.server.how_ended(), None::<Shutdown>);
}

#[test]
fn a_silent_server_is_given_up_after_its_time() {
    let mut fixture = Fixture::with(&[], |plan| plan.timeout.first_byte = Duration::ZERO);
    let served = fixture.serve(POST, "body");
    expect_done(served, Fate::Lost);
    let received = fixture.client.received();
    assert!(received.starts_with("HTTP/1.1 504 "), "{received}");
    assert_eq!(fixture.seen(), [Err(FaultClass::Timeout)]);
}
