//! Threads that panic, of each kind and at each point: the exchange in hand is answered with 500 or
//! cut, and nothing else is lost.
//!
//! Needs the feature `panic_points` (`make test` sets it); no other build has such points.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use juggler::base::panic_points::Point;
use nix::sys::signal::Signal;

use crate::support::{Client, Config, Gate, Juggler, Origin, PATIENCE, Start, eventually};

/// The workers of the only server.
const WORKERS: usize = 2;

/// The size of a body that no socket's buffers hold.
const LARGE: usize = 12 << 20;

/// The least number of requests of each client.
const LEAST_TURNS: usize = 20;

/// The panics of each point where it is tried alone.
const EACH: usize = 3;

/// The balancer before a server that echoes requests, and what both sides have seen.
struct Arena {
    juggler: Juggler,
    origin: Origin,
    gate: Gate,
    /// How many large responses the server has sent whole.
    large: Arc<AtomicUsize>,
}

impl Arena {
    /// Starts with these rules for panics.
    fn start(rules: &str) -> Self {
        let (gate, large) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
        let (held, sent) = (gate.clone(), Arc::clone(&large));
        let origin = Origin::start(move |conn, _| {
            while let Some(request) = conn.request() {
                match request.target.as_str() {
                    "/large" => {
                        conn.answer(200, vec![b'x'; LARGE]);
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                    "/held" => {
                        held.wait();
                        conn.answer(200, "held");
                    }
                    "/probe" => conn.answer(200, "well"),
                    target => {
                        // Long enough for other requests to wait in the queue meanwhile.
                        thread::sleep(Duration::from_micros(500));
                        conn.answer(200, [target.as_bytes(), &request.body].concat());
                    }
                }
            }
        });
        let port = origin.address().port();
        // In capitals it is a name to be looked up.
        let config = Config::new([format!("LOCALHOST:{port}")])
            .top("[process]\nresolve = \"100ms\"\n[log]\naccess = \"stdout\"")
            .cluster(&format!(
                "capacity = {WORKERS}\npipeline = 4\non_unavailable = \"queue\"\nhealth = {{ path \
                 = \"/probe\", interval = \"20ms\", panic = \"100%\" }}"
            ));
        let mut juggler = Start::config(&config.text())
            .environment("JUGGLER_PANIC_AT", rules)
            .ready();
        juggler.may_panic();
        Self {
            juggler,
            origin,
            gate,
            large,
        }
    }

    fn panics(&self) -> usize {
        self.juggler
            .log()
            .iter()
            .filter(|line| line.contains("ERROR] thread ") && line.contains(" panicked at "))
            .count()
    }

    fn panics_by_point(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in self.juggler.log() {
            if let Some((_, point)) = line.split_once("JUGGLER_PANIC_AT: ") {
                *counts.entry(point.to_owned()).or_default() += 1;
            }
        }
        counts
    }

    /// A client that reads nothing before the server has sent everything, so that the exchange
    /// needs a courier.
    fn take_slowly(&self) -> Outcome {
        let sent = self.large.load(Ordering::SeqCst);
        let Ok(mut client) = Client::try_connect(self.juggler.address()) else {
            return Outcome::Cut;
        };
        client.receive_buffer(256 * 1024);
        if client.try_send(get("/large")).is_err() {
            return Outcome::Cut;
        }
        let end = Instant::now() + Duration::from_secs(3);
        while self.large.load(Ordering::SeqCst) == sent && Instant::now() < end {
            thread::sleep(Duration::from_millis(2));
        }
        outcome(&client.try_read_response(false), |body| body.len() == LARGE)
    }

    /// Expects all workers: as many requests at the server at once as there are workers.
    fn expect_whole(&self) {
        let address = self.juggler.address();
        let came = self.gate.came();
        let clients: Vec<_> = (0..WORKERS)
            .map(|_| {
                let mut client = Client::connect(&address);
                client.send(get("/held"));
                client
            })
            .collect();
        self.gate.wait_for(came + WORKERS);
        self.gate.open();
        for mut client in clients {
            assert_eq!(client.read_response().expect(200).text(), "held");
        }
        assert!(self.origin.connections_now() <= WORKERS);
        self.origin.assert_no_failures();
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Good,
    /// Status 500.
    Failed,
    /// The connection ended instead.
    Cut,
    /// The response of another request, or another status.
    Wrong,
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn outcome(
    response: &std::io::Result<crate::support::Response>,
    is_right: impl FnOnce(&[u8]) -> bool,
) -> Outcome {
    match response {
        Ok(response) if response.status == 200 && is_right(&response.body) => Outcome::Good,
        Ok(response) if response.status == 500 => Outcome::Failed,
        Ok(response) => {
            eprintln!("{} {:.100?}", response.status, response.text());
            Outcome::Wrong
        }
        Err(_) => Outcome::Cut,
    }
}

/// Clients that each request paths of their own, one after the other, with and without a body.
struct Crowd {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<BTreeMap<String, Outcome>>>,
}

impl Crowd {
    fn start(address: &str, round: usize, size: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |client| {
            let (stop, address) = (Arc::clone(&stop), address.to_owned());
            thread::spawn(move || ask_on(&stop, &address, &format!("{round}-{client}")))
        };
        let clients = (0..size).map(start).collect();
        Self { stop, clients }
    }

    fn end(self) -> BTreeMap<String, Outcome> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    }
}

fn ask_on(stop: &AtomicBool, address: &str, name: &str) -> BTreeMap<String, Outcome> {
    let mut outcomes = BTreeMap::new();
    let mut client = None;
    for turn in 0.. {
        if turn >= LEAST_TURNS && stop.load(Ordering::SeqCst) {
            break;
        }
        let path = format!("/{name}-{turn}");
        let body = if turn % 4 == 3 {
            "b".repeat(100)
        } else {
            String::new()
        };
        let request = match body.as_str() {
            "" => get(&path),
            body => format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        };
        let connected = client
            .take()
            .map_or_else(|| Client::try_connect(address), Ok);
        let Ok(mut open) = connected else {
            outcomes.insert(path, Outcome::Cut);
            continue;
        };
        let response = open
            .try_send(request)
            .and_then(|()| open.try_read_response(false));
        let came = outcome(&response, |found| {
            found == [path.as_bytes(), body.as_bytes()].concat()
        });
        if response.is_ok_and(|response| !response.closes()) {
            client = Some(open);
        }
        outcomes.insert(path, came);
    }
    outcomes
}

/// The kind of the threads that pass this point alone; the name is the totals'.
fn kind(point: Point) -> Option<&'static str> {
    Some(match point {
        Point::SessionAccept | Point::SessionHead | Point::SessionBody => "session",
        Point::CourierDeliver | Point::CourierPace => "courier",
        Point::ReaperTick | Point::ClusterTick => "reaper",
        Point::ProberLook | Point::ClusterLook => "prober",
        Point::ResolverLook => "resolver",
        Point::Tick => "tick",
        Point::LogWrite => "log",
        Point::ProbeApart => "probe",
        Point::Signal => "signals",
        Point::Command => "main",
        Point::WorkerConnect
        | Point::WorkerIdle
        | Point::WorkerTaken
        | Point::WorkerSent
        | Point::WorkerHead
        | Point::WorkerRelay
        | Point::WorkerEnd
        | Point::WorkerProbe
        | Point::WorkerBatch => "worker",
        // Several kinds pass these.
        Point::Refuse | Point::SlotSend | Point::AnswerLost | Point::WireSend | Point::WireWait => {
            return None;
        }
    })
}

/// Expects that the totals count these panics, and that all are of this kind of thread.
fn expect_panics_of(log: &[String], kind: &str, panics: usize) {
    let told = format!(" {panics} panics ({kind}: {panics}),");
    assert!(
        log.iter()
            .any(|line| line.contains("in all: ") && line.contains(&told)),
        "{kind}, {panics}: {log:#?}"
    );
}

/// A number in the last line of a run.
fn total(log: &[String], what: &str) -> usize {
    let line = log
        .iter()
        .find(|line| line.contains("in all: "))
        .expect("a line with totals");
    let before = line.split(&format!(" {what}")).next().unwrap();
    before.rsplit([' ', '(']).next().unwrap().parse().unwrap()
}

/// Runs clients until there were `panics` panics, and checks what they cost. Returns the log.
fn storm(rules: &str, panics: usize, with_courier: bool) -> Vec<String> {
    let mut arena = Arena::start(rules);
    let (mut outcomes, mut large) = (BTreeMap::new(), Vec::new());
    let end = Instant::now() + PATIENCE;
    for round in 0.. {
        // Many clients leave no worker idle. One client leaves no request waiting.
        let crowd = Crowd::start(
            &arena.juggler.address(),
            round,
            if round % 2 == 0 { 12 } else { 1 },
        );
        let until = Instant::now() + Duration::from_millis(300);
        while arena.panics() < panics && Instant::now() < until {
            if with_courier {
                large.push(arena.take_slowly());
            }
            thread::sleep(Duration::from_millis(5));
        }
        outcomes.extend(crowd.end());
        if round > 0 && (arena.panics() >= panics || Instant::now() > end) {
            break;
        }
    }
    assert_eq!(
        arena.panics(),
        panics,
        "{rules}: {:?}",
        arena.panics_by_point()
    );
    arena.expect_whole();
    let count = |wanted| {
        let small = outcomes
            .values()
            .filter(|outcome| **outcome == wanted)
            .count();
        small + large.iter().filter(|outcome| **outcome == wanted).count()
    };
    let lost = count(Outcome::Failed) + count(Outcome::Cut);
    assert_eq!(count(Outcome::Wrong), 0, "{rules}");
    assert!(
        lost <= panics,
        "{rules}: {lost} requests were lost by {panics} panics"
    );
    assert!(count(Outcome::Good) > 0);
    // Each request is logged once, whatever its outcome. A request that the balancer never read is
    // not logged.
    assert_eq!(arena.juggler.stop(), Some(0), "{rules}");
    arena.juggler.wait_for_log("in all: ");
    let log = arena.juggler.log();
    assert_eq!(total(&log, "panics"), panics, "{rules}");
    assert_eq!(total(&log, "log lines dropped"), 0, "{rules}");
    let requests = total(&log, "requests");
    eventually(PATIENCE, "all lines", || {
        arena.juggler.output().len() >= requests
    });
    let lines = arena.juggler.output();
    assert_eq!(lines.len(), requests, "{rules}");
    for (path, outcome) in &outcomes {
        let logged = lines
            .iter()
            .filter(|line| line.contains(&format!(" {path} HTTP/1.1\"")))
            .count();
        match outcome {
            Outcome::Cut => assert!(logged <= 1, "{rules}: {path} is logged {logged} times"),
            _ => assert_eq!(logged, 1, "{rules}: {path}, {outcome:?}"),
        }
    }
    log
}

fn alone(point: Point) {
    let every = match point {
        // Before the first round is over, and after it.
        Point::Tick | Point::ReaperTick | Point::ClusterTick => 2,
        Point::ResolverLook | Point::ProberLook | Point::ClusterLook => 2,
        Point::CourierDeliver | Point::WorkerConnect | Point::WorkerBatch => 1,
        Point::CourierPace => 1,
        // Once for every new client.
        Point::SessionAccept => 3,
        _ => 5,
    };
    let log = storm(
        &format!("{}={every}x{EACH}", point.name()),
        EACH,
        matches!(
            point,
            Point::CourierDeliver | Point::CourierPace | Point::WorkerRelay
        ),
    );
    if let Some(kind) = kind(point) {
        expect_panics_of(&log, kind, EACH);
    }
}

#[test]
fn a_worker_that_panics_costs_the_exchange_in_its_hand() {
    for point in [
        Point::WorkerConnect,
        Point::WorkerIdle,
        Point::WorkerTaken,
        Point::WorkerSent,
        Point::WorkerHead,
        Point::WorkerRelay,
        Point::WorkerEnd,
        Point::WorkerProbe,
        Point::SlotSend,
        Point::WireSend,
    ] {
        alone(point);
    }
}

#[test]
fn a_worker_that_panics_amid_a_batch_goes_on_with_the_rest() {
    alone(Point::WorkerBatch);
}

#[test]
fn a_session_that_panics_ends_its_client_alone() {
    for point in [Point::SessionAccept, Point::SessionHead, Point::SessionBody] {
        alone(point);
    }
}

#[test]
fn a_courier_that_panics_ends_its_client_alone() {
    alone(Point::CourierDeliver);
}

#[test]
fn couriers_that_panic_between_clients_are_all_still_there() {
    alone(Point::CourierPace);
}

#[test]
fn threads_that_look_after_things_begin_anew() {
    for point in [
        Point::ReaperTick,
        Point::ClusterTick,
        Point::ProberLook,
        Point::ClusterLook,
        Point::ResolverLook,
        Point::Tick,
        Point::LogWrite,
    ] {
        alone(point);
    }
}

#[test]
fn a_panic_while_a_request_is_refused_is_a_500_for_that_one() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            held.wait();
            conn.answer(200, "good");
        }
    });
    let config = Config::new([origin.address()]).cluster("capacity = 1\nqueue = { limit = 1 }");
    let mut juggler = Start::config(&config.text())
        .environment("JUGGLER_PANIC_AT", "refuse=2x1")
        .ready();
    juggler.may_panic();
    let ask = || {
        let mut client = Client::connect(juggler.address());
        client.send(get("/"));
        client
    };
    let mut served = ask();
    gate.wait_for(1);
    let mut queued = ask();
    queued.expect_silence(Duration::from_millis(50));
    for status in [503, 500, 503] {
        ask().read_response().expect(status);
    }
    gate.open();
    served.read_response().expect(200);
    queued.read_response().expect(200);
    assert_eq!(juggler.stop(), Some(0));
    assert_eq!(total(&juggler.log(), "panics"), 1);
}

#[test]
fn a_storm_of_panics_loses_nothing_but_what_was_in_those_hands() {
    // Each point that all this work leads to. The numbers share no factor, so that the
    // panics fall on all kinds of work.
    let mut rules = Vec::new();
    let mut panics = 0;
    for (index, point) in Point::ALL.into_iter().enumerate() {
        let (every, most) = match point {
            // Nothing that a client does leads there.
            Point::Refuse
            | Point::ProbeApart
            | Point::Signal
            | Point::Command
            | Point::WireWait => continue,
            Point::CourierPace => (1, 2),
            Point::Tick | Point::WorkerConnect | Point::CourierDeliver => (1, 2),
            Point::ReaperTick | Point::ProberLook | Point::ResolverLook => (2, 3),
            Point::ClusterTick | Point::ClusterLook => (3, 2),
            // Each passage is another point's panic.
            Point::AnswerLost => (3, 2),
            Point::SessionAccept | Point::WorkerBatch | Point::LogWrite => (3, 3),
            _ => (17 + 2 * index, 4),
        };
        rules.push(format!("{}={every}x{most}", point.name()));
        panics += most;
    }
    storm(&rules.join(","), panics, true);
}

#[test]
fn a_probe_apart_that_panics_counts_as_skipped_and_others_follow() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/held" {
                held.wait();
            }
            conn.answer(200, "good");
        }
    });
    // The only worker is busy and its server silent, so probes have connections of their own.
    let config = Config::new([origin.address()])
        .cluster("capacity = 1\nhealth = { path = \"/probe\", interval = \"20ms\", fall = 1 }");
    let mut juggler = Start::config(&config.text())
        .environment("JUGGLER_PANIC_AT", &format!("probe.apart=1x{EACH}"))
        .ready();
    juggler.may_panic();
    let mut client = Client::connect(juggler.address());
    client.send(get("/held"));
    gate.wait_for(1);
    let probes = || origin.requests().len();
    let before = probes();
    eventually(PATIENCE, "probes after those that panicked", || {
        probes() > before + 1
    });
    gate.open();
    assert_eq!(client.read_response().expect(200).text(), "good");
    assert_eq!(juggler.stop(), Some(0));
    let log = juggler.log();
    expect_panics_of(&log, "probe", EACH);
    assert!(!log.iter().any(|line| line.contains("is offline")));
}

#[test]
fn a_signal_or_command_that_panics_is_lost_and_the_next_one_is_carried_out() {
    for point in [Point::Signal, Point::Command] {
        let origin = Origin::answering("good");
        let config = Config::new([origin.address()]);
        let mut juggler = Start::config(&config.text())
            .environment("JUGGLER_PANIC_AT", &format!("{}=1x1", point.name()))
            .ready();
        juggler.may_panic();
        juggler.signal(Signal::SIGUSR1);
        juggler.wait_for_log(&format!("JUGGLER_PANIC_AT: {}", point.name()));
        juggler.signal(Signal::SIGUSR1);
        juggler.wait_for_log("cluster main: enabled");
        // The report has counted it already.
        expect_panics_of(&juggler.log(), kind(point).unwrap(), 1);
        let mut client = Client::connect(juggler.address());
        client.get("/").expect(200);
        assert_eq!(juggler.stop(), Some(0));
    }
}
