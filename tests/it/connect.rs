//! When workers connect (`connect`, `keep`): servers that work on one connection at a time, that
//! end connections early or late, and that are not there.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::{Client, Config, Juggler, Origin, OriginConn, PATIENCE, eventually};

const CLOSING: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood";

/// Whose turn it is, of connections in the order in which they came.
#[derive(Clone, Default)]
struct Turns(Arc<(Mutex<usize>, Condvar)>);

impl Turns {
    fn wait_for(&self, number: usize) {
        let (turn, passed) = &*self.0;
        let mut turn = turn.lock().unwrap();
        while *turn != number {
            turn = passed.wait(turn).unwrap();
        }
    }

    fn pass(&self) {
        let (turn, passed) = &*self.0;
        *turn.lock().unwrap() += 1;
        passed.notify_all();
    }
}

/// A server that works on one connection at a time, in the order in which they came, as long as
/// `serve` does.
fn one_at_a_time(serve: impl Fn(&mut OriginConn) + Send + Sync + 'static) -> Origin {
    let turns = Turns::default();
    Origin::start(move |conn, number| {
        turns.wait_for(number);
        serve(conn);
        // So that the next is not begun before this one has ended.
        let turns = turns.clone();
        thread::spawn(move || turns.pass());
    })
}

/// One request is answered, and the connection ended.
fn answer_one(conn: &mut OriginConn) {
    if conn.request().is_some() {
        conn.send(CLOSING);
    }
}

fn server_line(juggler: &Juggler) -> String {
    juggler.line_of("server main/s0")
}

/// Gets a response, and waits until its worker is idle again. The client may have the response
/// before that, and its next request would go to another worker then.
fn get_and_rest(client: &mut Client, juggler: &Juggler) {
    client.get("/").expect(200);
    eventually(PATIENCE, "an idle worker", || {
        server_line(juggler).contains("; 0 served,")
    });
}

fn count(juggler: &Juggler, text: &str) -> usize {
    let log = juggler.log();
    log.iter().filter(|line| line.contains(text)).count()
}

#[test]
fn a_server_that_keeps_connections_and_holds_unused_ones_is_kept_warm() {
    let origin = Origin::answering("good");
    let juggler = Config::new([origin.address()])
        .cluster("connect = \"auto\"\ncapacity = 4")
        .start();
    // It was made sure that there is a server.
    assert!(origin.connections_ever() > 0);
    origin.wait_for_connections(0);
    assert!(server_line(&juggler).contains("0 of 4 connected, others as requests come;"));
    let mut client = Client::connect(juggler.address());
    get_and_rest(&mut client, &juggler);
    // That one stays, and one more comes for a trial.
    origin.wait_for_connections(2);
    for _ in 0..5 {
        get_and_rest(&mut client, &juggler);
    }
    let requests = origin.requests();
    let first = requests[0].connection;
    assert!(requests.iter().all(|request| request.connection == first));
    // The trial takes 25 seconds.
    eventually(PATIENCE * 3, "all are connected", || {
        origin.connections_now() == 4
    });
    assert!(server_line(&juggler).contains("4 of 4 connected;"));
}

#[test]
fn a_server_that_works_on_one_connection_at_a_time_is_served_on_demand() {
    let origin = one_at_a_time(answer_one);
    let config = Config::new([origin.address()]).cluster("connect = \"auto\"\ncapacity = 5");
    let juggler = config.start();
    let other = config.start();
    for _ in 0..5 {
        for one in [&juggler, &other] {
            let mut client = Client::connect(one.address());
            client.set_patience(Duration::from_secs(5));
            client.get("/").expect(200);
        }
        let mut direct = Client::connect(origin.address());
        direct.get("/").expect(200);
    }
    // More than it has workers for, at once.
    let clients = (0..40).map(|number| {
        let address = if number % 2 == 0 { &juggler } else { &other }.address();
        thread::spawn(move || Client::connect(address).get("/").status)
    });
    for client in clients.collect::<Vec<_>>() {
        assert_eq!(client.join().unwrap(), 200);
    }
    origin.wait_for_connections(0);
    assert!(server_line(&juggler).contains("0 of 5 connected, others on demand;"));
    assert_eq!(count(&juggler, "ends each connection after a response"), 1);
    assert_eq!(count(&juggler, "main/s0: cannot"), 0);
}

#[test]
fn a_server_that_ends_unused_connections_is_served_on_demand() {
    // It gives a new connection a moment to come to the point.
    let origin = Origin::start(|conn, _| {
        let moment = Some(Duration::from_millis(150));
        conn.stream().set_read_timeout(moment).unwrap();
        if conn.stream().peek(&mut [0]).is_err() {
            return;
        }
        conn.stream().set_read_timeout(None).unwrap();
        while conn.request().is_some() {
            conn.answer(200, "good");
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("connect = \"auto\"\ncapacity = 3")
        .start();
    let mut client = Client::connect(juggler.address());
    client.get("/").expect(200);
    juggler.wait_for_log("ends connections that no request came over");
    // Even the one that was used, after a second.
    origin.wait_for_connections(0);
    let ever = origin.connections_ever();
    for _ in 0..3 {
        get_and_rest(&mut client, &juggler);
    }
    assert_eq!(origin.connections_ever(), ever + 1, "used again at once");
    origin.wait_for_connections(0);
    assert!(server_line(&juggler).contains("0 of 3 connected, others on demand;"));
    assert_eq!(count(&juggler, "ends connections that no request"), 1);
}

#[test]
fn on_demand_a_connection_is_kept_for_as_long_as_the_operator_says() {
    let origin = Origin::answering("good");
    let juggler = Config::new([origin.address()])
        .cluster("connect = \"on_demand\"\ncapacity = 3")
        .start();
    let mut client = Client::connect(juggler.address());
    for _ in 0..3 {
        client.get("/").expect(200);
        origin.wait_for_connections(0);
    }
    let started = origin.connections_ever() - 3;
    assert_eq!(started, 1, "one to see that it is there");
    let origin = Origin::answering("good");
    let juggler = Config::new([origin.address()])
        .cluster("connect = \"on_demand\"\nkeep = \"1h\"\ncapacity = 3")
        .start();
    let mut client = Client::connect(juggler.address());
    for _ in 0..3 {
        get_and_rest(&mut client, &juggler);
    }
    assert_eq!(origin.connections_ever(), 2);
    assert_eq!(origin.connections_now(), 1);
}

#[test]
fn a_connection_that_cannot_be_made_on_demand_costs_the_request_nothing() {
    let (mut gone, good) = (Origin::answering("gone"), Origin::answering("good"));
    let juggler = Config::new([gone.address(), good.address()])
        .cluster("connect = \"on_demand\"\ncapacity = 2\nretry = { attempts = 1 }")
        .start();
    gone.stop();
    let mut client = Client::connect(juggler.address());
    for _ in 0..6 {
        // A POST too, for nothing of it was sent.
        client.post("/", "body").expect(200);
    }
    assert_eq!(good.requests().len(), 6);
    juggler.wait_for_log("main/s0: cannot connect");
    gone.restart();
    juggler.wait_for_log("main/s0: connected again");
    eventually(PATIENCE, "a request to the server that is back", || {
        client.get("/").expect(200);
        !gone.requests().is_empty()
    });
    assert_eq!(count(&juggler, "cannot connect"), 1, "one line per server");
    assert_eq!(count(&juggler, "connected again"), 1);
}

#[test]
fn what_was_learned_of_a_server_is_forgotten_when_another_takes_its_place() {
    let closes = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_closing = Arc::clone(&closes);
    let mut origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            if is_closing.load(std::sync::atomic::Ordering::SeqCst) {
                conn.send(CLOSING);
                return;
            }
            conn.answer(200, "good");
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("connect = \"auto\"\ncapacity = 3\non_unavailable = \"queue\"")
        .start();
    let mut client = Client::connect(juggler.address());
    client.get("/").expect(200);
    juggler.wait_for_log("ends each connection after a response");
    origin.stop();
    closes.store(false, std::sync::atomic::Ordering::SeqCst);
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    juggler.wait_for_log("cannot connect");
    origin.restart();
    client.read_response().expect(200);
    // This one, and a trial.
    origin.wait_for_connections(2);
}

#[test]
fn an_http_probe_of_a_server_on_demand_leaves_no_connection_behind() {
    let origin = one_at_a_time(answer_one);
    let juggler = Config::new([origin.address()])
        .cluster(
            "connect = \"auto\"\ncapacity = 3\nhealth = { path = \"/probe\", interval = \"20ms\" }",
        )
        .start();
    let mut client = Client::connect(juggler.address());
    for _ in 0..5 {
        client.get("/").expect(200);
    }
    let probes = || {
        let requests = origin.requests();
        requests.iter().filter(|one| one.target == "/probe").count()
    };
    let before = probes();
    eventually(PATIENCE, "probes go on", || probes() > before + 3);
    assert!(origin.connections_most() <= 3);
    assert!(server_line(&juggler).contains("online"));
}

#[test]
fn of_warm_connections_the_one_that_came_first_is_used_first() {
    let origin = Origin::answering("good");
    let juggler = Config::new([origin.address()])
        .cluster("connect = \"warm\"\ncapacity = 4")
        .start();
    origin.wait_for_connections(4);
    Client::connect(juggler.address()).get("/").expect(200);
    assert!(
        origin.request().connection <= 1,
        "the first, or its neighbour"
    );
}

#[test]
fn a_trial_whose_connection_a_probe_uses_makes_room_for_the_next() {
    let origin = Origin::answering("good");
    let juggler = Config::new([origin.address()])
        .cluster(
            "connect = \"auto\"\ncapacity = 4\nhealth = { path = \"/probe\", interval = \"20ms\" }",
        )
        .start();
    Client::connect(juggler.address()).get("/").expect(200);
    // Long before a trial could be over: each connection that a probe went over is kept.
    origin.wait_for_connections(4);
}
