//! More load than the servers can serve: what is served all the same, which clients are served, and
//! how soon the others get their answer.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::station::{Load, Replies, Station, get, offer, span};
use crate::support::{Client, Config, Juggler, Response, eventually_eq};

/// Starts the balancer before this server, with a summary every second.
fn start(station: &Station, connections: usize, cluster: &str, rest: &str) -> Juggler {
    let juggler = Config::new([station.address()])
        .top("[process]\nsummary = \"1s\"\n[log]\naccess = \"stdout\"\nformat = \"json\"")
        .listener("forwarded = { style = \"off\", trusted = [\"127.0.0.1\"] }")
        .cluster(&format!("capacity = {connections}\n{cluster}"))
        .rest(rest)
        .start();
    station.wait_for_connections(connections);
    juggler
}

fn send(juggler: &Juggler, path: &str, fields: &str) -> Client {
    let mut client = Client::connect(juggler.address());
    client.send(get(path, fields));
    client
}

fn ask(juggler: &Juggler, path: &str, fields: &str) -> Response {
    send(juggler, path, fields).read_response()
}

/// Sends a request that waits at the server's gate.
fn hold(juggler: &Juggler, station: &Station) -> Client {
    let before = station.total().now;
    let client = send(juggler, "/held", "");
    eventually_eq("at work", before + 1, || station.total().now);
    client
}

fn wait_for_queued(juggler: &Juggler, count: usize) {
    juggler.wait_for_log_behind(juggler.log_length(), &format!(", {count} queued"));
}

// === Clients take turns

#[test]
fn a_client_with_one_request_goes_before_the_second_of_one_with_many() {
    let station = Station::start("s0", Duration::ZERO);
    let juggler = start(&station, 1, "client_key = \"field:X-Client\"", "");
    let mut busy = hold(&juggler, &station);
    let mut waiting: Vec<_> = (0..50)
        .map(|_| send(&juggler, "/noisy", "X-Client: a\r\n"))
        .collect();
    wait_for_queued(&juggler, 50);
    waiting.push(send(&juggler, "/single", "X-Client: b\r\n"));
    wait_for_queued(&juggler, 51);
    station.gate().open();
    busy.read_response().expect(200);
    for mut client in waiting {
        client.read_response().expect(200);
    }
    let place = station
        .targets()
        .iter()
        .position(|target| target == "/single");
    // Behind the request at the gate, and at most one of the other client's.
    assert!(place.is_some_and(|place| place <= 2), "{place:?}");
}

#[test]
fn a_client_with_many_leaves_room_in_the_queue_for_others() {
    let station = Station::start("s0", Duration::ZERO);
    let cluster = "client_key = \"field:X-Client\"\nqueue = { limit = 20 }";
    let juggler = start(&station, 1, cluster, "");
    let mut busy = hold(&juggler, &station);
    let many: Vec<_> = (0..50)
        .map(|_| send(&juggler, "/noisy", "X-Client: a\r\n"))
        .collect();
    // They have just more than half of the queue.
    wait_for_queued(&juggler, 11);
    let mut single = send(&juggler, "/single", "X-Client: b\r\n");
    wait_for_queued(&juggler, 12);
    station.gate().open();
    busy.read_response().expect(200);
    single.read_response().expect(200);
    let told: Vec<_> = many
        .into_iter()
        .map(|mut client| client.read_response())
        .collect();
    let refused: Vec<_> = told
        .iter()
        .filter(|response| response.status == 503)
        .collect();
    assert_eq!(
        (
            told.iter()
                .filter(|response| response.status == 200)
                .count(),
            refused.len()
        ),
        (11, 39)
    );
    for response in refused {
        assert!(
            response.text().contains("too many requests of this client"),
            "{}",
            response.text()
        );
        assert!(response.field("retry-after").is_some());
    }
}

// === Deadlines

/// Serves some requests of this path, so that the balancer learns how long they take.
fn teach(juggler: &Juggler, path: &str, count: usize) {
    let mut client = Client::connect(juggler.address());
    (0..count).for_each(|_| drop(client.get(path).expect(200)));
}

#[test]
fn a_request_that_cannot_be_answered_in_time_is_refused_at_once() {
    let station = Station::start("s0", Duration::from_millis(300));
    let juggler = start(&station, 1, "deadline_field = \"grpc-timeout\"", "");
    teach(&juggler, "/", 2);
    // No request is before it, and this one may be quicker than others.
    juggler.wait_for_log_behind(juggler.log_length(), " 0 served, 0 queued");
    ask(&juggler, "/quick", "grpc-timeout: 100m\r\n").expect(200);
    let mut busy = hold(&juggler, &station);
    let began = Instant::now();
    let refused = ask(&juggler, "/hopeless", "grpc-timeout: 100m\r\n").expect(503);
    println!("refused after {:?}", began.elapsed());
    assert!(
        refused.text().contains("deadline cannot be met"),
        "{}",
        refused.text()
    );
    assert_eq!(refused.field("retry-after"), Some("1"));
    let line: serde_json::Value =
        serde_json::from_str(&juggler.wait_for_output("/hopeless")).unwrap();
    assert_eq!(
        (line["end"].as_str(), line["status"].as_u64()),
        (Some("PQ"), Some(503))
    );
    assert!(
        line.to_string().contains("deadline cannot be met"),
        "{line}"
    );
    // The more requests wait before it, the later `Retry-After` is.
    let waiting: Vec<_> = (0..12).map(|_| send(&juggler, "/waits", "")).collect();
    wait_for_queued(&juggler, 12);
    let refused = ask(&juggler, "/", "grpc-timeout: 1S\r\n").expect(503);
    let seconds: u32 = refused.field("retry-after").unwrap().parse().unwrap();
    // 13 requests of 0.3 s; more if the machine was slow.
    assert!((3..30).contains(&seconds), "{seconds}");
    // A request with enough time waits in the queue.
    let mut patient = send(&juggler, "/patient", "grpc-timeout: 2H\r\n");
    wait_for_queued(&juggler, 13);
    station.set_service(Duration::ZERO);
    station.gate().open();
    busy.read_response().expect(200);
    patient.read_response().expect(200);
    waiting
        .into_iter()
        .for_each(|mut client| drop(client.read_response().expect(200)));
}

#[test]
fn a_request_that_waits_is_answered_when_its_deadline_has_passed() {
    let station = Station::start("s0", Duration::from_millis(1));
    let cluster = "deadline_field = \"X-Timeout\"\ntimeout = { abort = \"1m\" }\nbucket = [{ name \
                   = \"short\", queue = { timeout = \"60ms\" } }]";
    let route = "[[route]]\npath = \"/short\"\ncluster = \"main\"\nbucket = \"short\"";
    let juggler = start(&station, 1, cluster, route);
    teach(&juggler, "/", 20);
    let mut busy = hold(&juggler, &station);
    let began = Instant::now();
    for (path, fields, reason) in [
        ("/passed", "x-timeout: 60\r\n", "deadline has passed"),
        ("/short", "", "waited too long"),
    ] {
        for _ in 0..10 {
            let asked = Instant::now();
            let late = ask(&juggler, path, fields).expect(504);
            assert!(late.text().contains(reason), "{}", late.text());
            assert!(
                asked.elapsed() >= Duration::from_millis(59),
                "{:?}",
                asked.elapsed()
            );
        }
    }
    println!(
        "20 requests that gave up after 60 ms each took {:?}",
        began.elapsed()
    );
    // Deadlines are not only checked once a second, for that would have taken ten seconds.
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    let line: serde_json::Value =
        serde_json::from_str(&juggler.wait_for_output("/passed")).unwrap();
    assert_eq!(
        (line["end"].as_str(), line["status"].as_u64()),
        (Some("sQ"), Some(504))
    );
    // A field without a meaning sets no deadline. A deadline that is met refuses nothing.
    let mut patient = [
        send(&juggler, "/", "x-timeout: soon\r\n"),
        send(&juggler, "/", "x-timeout: 60000\r\n"),
    ];
    wait_for_queued(&juggler, 2);
    station.gate().open();
    busy.read_response().expect(200);
    patient
        .iter_mut()
        .for_each(|client| drop(client.read_response().expect(200)));
}

// === Goodput

/// The time that the server takes for a request. `CAPACITY` is how many it serves at once.
const SERVICE: Duration = Duration::from_millis(20);
const CAPACITY: usize = 4;

/// The most requests that the server can serve in a second.
fn full_rate() -> f64 {
    CAPACITY as f64 / SERVICE.as_secs_f64()
}

/// Good responses in time, per second of that span.
fn goodput(replies: &Replies, deadline: Duration, (from, to): (Instant, Instant)) -> f64 {
    let good = replies.ended_between(from, to).with(200);
    let in_time = good.0.iter().filter(|reply| reply.took <= deadline).count();
    in_time as f64 / (to - from).as_secs_f64()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[test]
fn too_much_load_costs_no_client_that_can_be_served() {
    let deadline = Duration::from_millis(200);
    let station = Station::start("s0", SERVICE);
    let juggler = start(&station, CAPACITY, "deadline_field = \"grpc-timeout\"", "");
    let request = get("/", "grpc-timeout: 200m\r\n");
    let mut table = format!(
        "\na server that serves {:.0} requests/s, deadline 200 ms\n",
        full_rate()
    );
    table +=
        "offered/s   good/s   of 100 %    200: p50  p99 ms    503: count  p50  p99 ms   other\n";
    // The rate with as many clients as the server can serve is the full rate.
    let (warm, long) = (span(200), span(900));
    let base = || {
        let began = Instant::now();
        let load = Load::start(juggler.address(), CAPACITY, &request);
        thread::sleep(long);
        goodput(&load.end(), deadline, (began + warm, began + long))
    };
    for part in [1.2, 2.0] {
        // A busy machine is given another chance.
        let is_good = (0..6).any(|_| {
            let base = base();
            writeln!(table, "   (100%)   {base:6.1}     100.0%").unwrap();
            station.begin();
            let rate = full_rate() * part;
            let began = Instant::now();
            let replies = offer(juggler.address(), 64, rate, long, &request);
            let (good, refused) = (replies.with(200), replies.with(503));
            let found = goodput(&replies, deadline, (began + warm, began + long));
            writeln!(
                table,
                "{rate:9.0}   {found:6.1}   {:7.1}%   {:8.1}  {:6.1}   {:8}  {:6.2}  {:6.2}   {:5}",
                found * 100.0 / base,
                ms(good.quantile(0.5)),
                ms(good.quantile(0.99)),
                refused.len(),
                ms(refused.quantile(0.5)),
                ms(refused.quantile(0.99)),
                replies.len() - good.len() - refused.len()
            )
            .unwrap();
            assert!(station.total().most <= CAPACITY);
            // At a fifth too much all requests may find a place in the queue for that short time.
            let is_told = part < 2.0
                || refused.len() > 0 && refused.quantile(0.5) < Duration::from_millis(10);
            found >= 0.95 * base && is_told
        });
        assert!(is_good, "{table}");
    }
    println!("{table}");
}

#[test]
fn what_is_assured_holds_beside_too_much_load() {
    let station = Station::start("s0", SERVICE);
    let cluster = "queue = { limit = 200 }\nclient_key = \"none\"\nbucket = [\n{ name = \"vip\", \
                   assured = \"50%\", ceiling = \"50%\" },\n{ name = \"main\", assured = \"50%\" \
                   },\n]";
    let route = "[[route]]\npath = \"/vip\"\ncluster = \"main\"\nbucket = \"vip\"";
    let mut juggler = start(&station, CAPACITY, cluster, route);
    let mut table = format!(
        "\nvip at its share of 2 of {CAPACITY} at once, 20 ms each; main offers the rest\n"
    );
    table += "main offers/s   vip: served/s   p50    p99 ms   main: served/s   p50     p99 ms   \
              503: p50   p99 ms\n";
    let (warm, long) = (span(400), span(900));
    let mut worst = Duration::ZERO;
    for part in [0.0, 1.2, 2.0] {
        let began = Instant::now();
        let vip = Load::start(juggler.address(), 2, &get("/vip", ""));
        let main = if part > 0.0 {
            offer(
                juggler.address(),
                250,
                full_rate() * part,
                long,
                &get("/", ""),
            )
        } else {
            thread::sleep(long);
            Replies::default()
        };
        let window = (began + warm, began + long);
        let (vip, main) = (
            vip.end().ended_between(window.0, window.1),
            main.ended_between(window.0, window.1),
        );
        vip.expect_good();
        let (good, refused) = (main.with(200), main.with(503));
        let seconds = (long - warm).as_secs_f64();
        writeln!(
            table,
            "{:13.0}   {:13.1}  {:5.1}   {:5.1}   {:14.1}   {:6.1}  {:6.1}   {:8.2}  {:6.2}",
            full_rate() * part,
            vip.len() as f64 / seconds,
            ms(vip.quantile(0.5)),
            ms(vip.quantile(0.99)),
            good.len() as f64 / seconds,
            ms(good.quantile(0.5)),
            ms(good.quantile(0.99)),
            ms(refused.quantile(0.5)),
            ms(refused.quantile(0.99)),
        )
        .unwrap();
        assert_eq!(good.len() + refused.len(), main.len());
        worst = worst.max(vip.quantile(0.99));
    }
    println!("{table}");
    assert!(station.of("/vip").most <= 2 && station.total().most <= CAPACITY);
    assert_eq!(juggler.stop(), Some(0));
    juggler.wait_for_log("stopped after");
    let log = juggler.log();
    let vip = log
        .iter()
        .rfind(|line| line.contains("bucket vip:"))
        .unwrap();
    println!("{vip}");
    assert!(vip.ends_with(" 0 violations"), "{vip}");
    let (_, waited) = vip.split_once("longest wait so far ").unwrap();
    let slots: u32 = waited.split(')').next().unwrap().parse().unwrap();
    // The slots that may be owed to vip and main at the same time.
    assert!(slots <= 4, "{vip}");
    // A queue of 200 would take a second.
    let most = (slots + 1) * SERVICE + Duration::from_millis(400);
    assert!(worst < most, "{worst:?} of {most:?}");
}
