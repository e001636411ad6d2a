//! Shares by weight, with real traffic: one request at a time, several at once, and while a server
//! warms up.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::patient::Patient;
use crate::support::station::{Load, Station, get, span};
use crate::support::{Client, Config, Juggler, PATIENCE, eventually, reload};

/// How far a share may be from what the weights say.
const TOLERANCE: f64 = 0.05;

/// One cluster of stations with these weights.
fn text(stations: &[Station], weights: &[u32], cluster: &str) -> String {
    let mut config = Config::new([""; 0]).cluster(cluster);
    for (station, weight) in stations.iter().zip(weights) {
        config = config.rest(&format!(
            "[[cluster.server]]\nname = \"{}\"\naddress = \"{}\"\nweight = {weight}",
            station.name(),
            station.address()
        ));
    }
    config.text()
}

fn start(text: &str, stations: &[Station], connections: usize) -> Juggler {
    let juggler = Juggler::start(text);
    for station in stations {
        station.wait_for_connections(connections);
    }
    juggler
}

/// Sends `count` requests one after the other, each as another client. Returns the share of each
/// server.
fn shares(juggler: &Juggler, count: usize) -> BTreeMap<String, f64> {
    let mut client = Client::connect(juggler.address());
    let mut shares = BTreeMap::new();
    for number in 0..count {
        let name = client
            .exchange(get("/", &format!("X-Client: {number}\r\n")))
            .expect(200)
            .text();
        *shares.entry(name).or_default() += 1.0 / count as f64;
    }
    shares
}

fn are_near(shares: &BTreeMap<String, f64>, weights: &[u32]) -> bool {
    let sum: u32 = weights.iter().sum();
    let is_near = |(index, weight): (usize, &u32)| {
        let share = shares
            .get(&format!("s{index}"))
            .copied()
            .unwrap_or_default();
        (share - f64::from(*weight) / f64::from(sum)).abs() <= TOLERANCE
    };
    weights.iter().enumerate().all(is_near)
}

const KEYED: &str = "client_key = \"field:X-Client\"\n";

/// The number of requests beyond which a deviation is not chance.
fn enough(scheduler: &str) -> usize {
    match scheduler {
        "random" | "rendezvous" | "jump" => 2000,
        _ => 300,
    }
}

#[test]
fn one_request_at_a_time_each_server_has_its_share() {
    let stations = Station::quick::<3>();
    let with = |scheduler: &str, weights: &[u32]| {
        let cluster = format!("{KEYED}capacity = 4\nscheduler = \"{scheduler}\"");
        text(&stations, weights, &cluster)
    };
    let juggler = start(&with("round_robin", &[2, 1, 1]), &stations, 4);
    for scheduler in [
        "round_robin",
        "least_load",
        "two_choices",
        "random",
        "rendezvous",
        "jump",
    ] {
        // Longer than a worker takes to come back after a response. Otherwise it is not one request
        // at a time.
        let takes_turns = !matches!(scheduler, "random" | "rendezvous" | "jump");
        let service = Duration::from_millis(if takes_turns { 2 } else { 0 });
        stations
            .iter()
            .for_each(|station| station.set_service(service));
        for weights in [&[2, 1, 1], &[1, 1, 5]] {
            reload(&juggler, &with(scheduler, weights), "reloaded");
            let mut tried = Vec::new();
            while tried.last().is_none_or(|found| !are_near(found, weights)) {
                // On a busy machine the worker may still take longer.
                assert!(tried.len() < 4, "{scheduler}: {tried:.3?} of {weights:?}");
                tried.push(shares(&juggler, enough(scheduler)));
            }
        }
    }
}

#[test]
fn servers_that_answer_alike_have_their_shares_by_response_time_too() {
    let stations = Station::quick::<3>();
    stations
        .iter()
        .for_each(|station| station.set_service(Duration::from_millis(8)));
    let weights = [2, 1, 1];
    let cluster = "capacity = 4\nscheduler = \"peak_ewma\"";
    // A machine that stops for a moment makes a server look slow, which is remembered for seconds.
    // Then the test begins anew.
    let mut tried = Vec::new();
    eventually(PATIENCE, "shares by weight", || {
        let juggler = start(&text(&stations, &weights, cluster), &stations, 4);
        let found = shares(&juggler, 80);
        drop(juggler);
        stations
            .iter()
            .for_each(|station| station.wait_for_connections(0));
        let are_near = are_near(&found, &weights);
        tried.push(found);
        assert!(tried.len() < 8, "{tried:.3?}");
        are_near
    });
}

#[test]
fn several_requests_at_a_time_leave_the_shares_as_they_are() {
    let stations = Station::quick::<3>();
    stations
        .iter()
        .for_each(|station| station.set_service(Duration::from_millis(2)));
    for scheduler in ["round_robin", "least_load", "two_choices"] {
        for clients in [2, 3, 5] {
            let juggler = start(
                &text(
                    &stations,
                    &[2, 1, 1],
                    &format!("capacity = 5\nscheduler = \"{scheduler}\""),
                ),
                &stations,
                5,
            );
            let load = Load::start(juggler.address(), clients, &get("/", ""));
            eventually(PATIENCE, "some hundreds", || {
                stations
                    .iter()
                    .map(|station| station.total().served)
                    .sum::<usize>()
                    >= 300
            });
            let replies = load.end();
            replies.expect_good();
            let mut found = BTreeMap::<String, f64>::new();
            for reply in &replies.0 {
                *found.entry(reply.text.clone()).or_default() += 1.0 / replies.len() as f64;
            }
            assert!(
                are_near(&found, &[2, 1, 1]),
                "{scheduler}, {clients} clients: {found:.3?}"
            );
            drop(juggler);
            stations
                .iter()
                .for_each(|station| station.wait_for_connections(0));
            stations.iter().for_each(Station::begin);
        }
    }
}

#[test]
fn reloads_cost_no_server_its_turn() {
    let stations = Station::quick::<3>();
    for scheduler in ["round_robin", "least_load"] {
        let with = |number: usize| {
            let weights = if number == 0 { [5, 1, 1] } else { [10, 2, 2] };
            let cluster = format!(
                "capacity = 4\nscheduler = \"{scheduler}\"\nqueue = {{ limit = {} }}",
                100 + number
            );
            text(&stations, &weights, &cluster)
        };
        let juggler = start(&with(0), &stations, 4);
        let mut client = Client::connect(juggler.address());
        let mut found = BTreeMap::<String, f64>::new();
        for number in 1..=21 {
            // A third of a round between two of them.
            for _ in 0..2 {
                let name = client.get("/").expect(200).text();
                *found.entry(name).or_default() += 1.0 / 42.0;
            }
            reload(&juggler, &with(number), "reloaded");
        }
        assert!(are_near(&found, &[5, 1, 1]), "{scheduler}: {found:.3?}");
        drop(juggler);
        stations
            .iter()
            .for_each(|station| station.wait_for_connections(0));
    }
}

/// The responses since the server came back, with their times.
struct Warming {
    /// The time since the server came back, in parts of the slow start, and the server that
    /// responded.
    answers: Vec<(f64, String)>,
}

impl Warming {
    /// Sends one request after the other, with a pause between them, until somewhat behind the slow
    /// start.
    fn watch(scheduler: &str, servers: usize, slow_start: Duration, pause: Duration) -> Self {
        let names = ["s0", "s1", "s2", "s3"];
        let servers: Vec<_> = names[..servers]
            .iter()
            .map(|name| Patient::named(name))
            .collect();
        let cluster = format!(
            "capacity = 4\nscheduler = \"{scheduler}\"\nhealth = {{ path = \"/up\", interval = \
             \"10ms\", rise = 1, slow_start = \"{}ms\" }}",
            slow_start.as_millis()
        );
        let juggler = Config::new(servers.iter().map(|server| server.origin.address()))
            .cluster(&cluster)
            .start();
        servers[1].set(503);
        juggler.wait_for_log("main/s1 is offline");
        let mut client = Client::connect(juggler.address());
        let log = juggler.log_length();
        servers[1].set(200);
        juggler.wait_for_log_behind(log, "main/s1 is online");
        let began = Instant::now();
        let mut answers = Vec::new();
        while began.elapsed() < slow_start * 4 / 3 {
            let at = began.elapsed().as_secs_f64() / slow_start.as_secs_f64();
            answers.push((at, client.get("/").expect(200).text()));
            thread::sleep(pause);
        }
        Self { answers }
    }

    /// The server's share of the requests in this part of the time, the share that its weight calls
    /// for on average, and the number of requests.
    fn share(&self, from: f64, to: f64, servers: usize) -> (f64, f64, usize) {
        let those: Vec<_> = self
            .answers
            .iter()
            .filter(|(at, _)| (from..to).contains(at))
            .collect();
        let count = those.len() as f64;
        let its = those.iter().filter(|(_, name)| name == "s1").count() as f64;
        let expected: f64 = those
            .iter()
            .map(|(at, _)| at.min(1.0) / (at.min(1.0) + (servers - 1) as f64))
            .sum();
        (its / count, expected / count, those.len())
    }
}

#[test]
fn a_server_that_warms_up_rises_from_little_to_its_share() {
    for (scheduler, servers) in [
        ("least_load", 2),
        ("round_robin", 4),
        ("two_choices", 2),
        ("least_load", 4),
    ] {
        let warming = Warming::watch(scheduler, servers, span(1500), Duration::from_millis(1));
        let mut before = -1.0;
        for (from, to) in [(0.0, 0.33), (0.33, 0.66), (0.66, 1.0), (1.0, 1.4)] {
            let (found, expected, count) = warming.share(from, to, servers);
            // Only where the machine allowed enough requests.
            if count >= 60 {
                let what = format!(
                    "{scheduler} of {servers}: {found:.3} of {expected:.3}, {count} from {from} on"
                );
                assert!(
                    (found - expected).abs() <= TOLERANCE + 2.0 / count as f64,
                    "{what}"
                );
                assert!(found > before - 0.02, "{what}, {before} before");
                before = found;
            }
        }
        assert!(
            before > 0.0,
            "{scheduler}: {} responses are too few",
            warming.answers.len()
        );
    }
}

/// B16: a step of warming between any two requests.
#[test]
fn at_few_requests_the_others_keep_their_turns_while_one_warms_up() {
    let warming = Warming::watch("round_robin", 4, span(2000), Duration::from_millis(50));
    let count = |name: &str| {
        let its = warming
            .answers
            .iter()
            .filter(|(at, by)| *at < 1.0 && by == name);
        its.count()
    };
    let [a, its, c, d] = ["s0", "s1", "s2", "s3"].map(count);
    let (least, most) = (a.min(c).min(d), a.max(c).max(d));
    assert!(most - least <= 2 && its <= least, "{a}, {its}, {c}, {d}");
}
