//! Schedulers, roles, weights and capacities, under real traffic, and changed while it flows.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::support::station::{Load, Replies, Station, get, span};
use crate::support::{Client, Config, Juggler, PATIENCE, eventually, eventually_eq, reload};

const SCHEDULERS: [&str; 8] = [
    "round_robin",
    "chance",
    "least_load",
    "random",
    "two_choices",
    "peak_ewma",
    "rendezvous",
    "jump",
];

/// One cluster with these servers, each with lines of its own.
fn text(servers: &[(&Station, &str)], cluster: &str) -> String {
    let mut config = Config::new([""; 0]).cluster(cluster);
    for (station, lines) in servers {
        config = config.rest(&format!(
            "[[cluster.server]]\nname = \"{}\"\naddress = \"{}\"\n{lines}",
            station.name(),
            station.address()
        ));
    }
    config.text()
}

/// The same without lines of their own.
fn plain(stations: &[Station], cluster: &str) -> String {
    let servers: Vec<_> = stations.iter().map(|station| (station, "")).collect();
    text(&servers, cluster)
}

/// Starts the balancer and waits until each server has this number of connections.
fn start(text: &str, stations: &[Station], connections: usize) -> Juggler {
    let juggler = Juggler::start(text);
    for station in stations {
        station.wait_for_connections(connections);
    }
    juggler
}

/// How many requests are at work at each server.
fn at_work(stations: &[Station]) -> Vec<usize> {
    stations.iter().map(|station| station.total().now).collect()
}

/// Sends one more request, which stays at work at its server.
fn hold_one(juggler: &Juggler, stations: &[Station]) -> Client {
    let before: usize = at_work(stations).iter().sum();
    let mut client = Client::connect(juggler.address());
    client.send(get("/held", ""));
    eventually_eq("at work", before + 1, || at_work(stations).iter().sum());
    client
}

/// Sends `count` such requests one after the other. Returns how many each server has.
fn hold(juggler: &Juggler, stations: &[Station], count: usize) -> (Vec<Client>, Vec<usize>) {
    let clients = (0..count).map(|_| hold_one(juggler, stations)).collect();
    (clients, at_work(stations))
}

/// Lets these requests end and waits until they have. Then the gates are closed.
fn let_go(clients: Vec<Client>, stations: &[Station]) {
    stations.iter().for_each(|station| station.gate().open());
    for mut client in clients {
        client.read_response().expect(200);
    }
    stations.iter().for_each(|station| station.gate().close());
}

/// Sends `count` requests one after the other. Returns how many each server has served.
fn tally(juggler: &Juggler, count: usize) -> BTreeMap<String, usize> {
    let mut client = Client::connect(juggler.address());
    let mut tally = BTreeMap::new();
    for _ in 0..count {
        *tally.entry(client.get("/").expect(200).text()).or_default() += 1;
    }
    tally
}

#[test]
fn equal_servers_take_turns() {
    let stations = Station::quick::<3>();
    let juggler = start(&plain(&stations, "capacity = 4"), &stations, 4);
    let (mut clients, first) = hold(&juggler, &stations, 3);
    let (more, then) = hold(&juggler, &stations, 6);
    assert_eq!((first, then), (vec![1, 1, 1], vec![3, 3, 3]));
    clients.extend(more);
    let_go(clients, &stations);
}

#[test]
fn weights_are_heeded_and_can_be_changed() {
    let stations = Station::quick::<3>();
    let [a, b, c] = &stations;
    let weighted = |scheduler: &str, [one, two, three]: [u32; 3]| {
        let weight = |weight: u32| format!("weight = {weight}");
        text(
            &[(a, &weight(one)), (b, &weight(two)), (c, &weight(three))],
            &format!("capacity = 10\nscheduler = \"{scheduler}\""),
        )
    };
    let juggler = start(&weighted("round_robin", [1, 2, 4]), &stations, 10);
    for (scheduler, weights, expected) in [
        ("round_robin", [1, 2, 4], vec![1, 2, 4]),
        ("round_robin", [4, 2, 1], vec![4, 2, 1]),
        ("least_load", [1, 2, 4], vec![1, 2, 4]),
        ("least_load", [3, 1, 3], vec![3, 1, 3]),
    ] {
        reload(&juggler, &weighted(scheduler, weights), "reloaded");
        let (clients, found) = hold(&juggler, &stations, 7);
        assert_eq!(found, expected, "{scheduler}");
        let_go(clients, &stations);
    }
    reload(&juggler, &weighted("random", [1, 2, 4]), "reloaded");
    let found = tally(&juggler, 700);
    for (name, expected) in [("s0", 100_usize), ("s1", 200), ("s2", 400)] {
        // More than six standard deviations of the middle one.
        assert!(found[name].abs_diff(expected) < 80, "{found:?}");
    }
}

#[test]
fn chance_fills_one_server_before_the_next() {
    let stations = Station::quick::<3>();
    let juggler = start(
        &plain(&stations, "capacity = 2\nscheduler = \"chance\""),
        &stations,
        2,
    );
    let mut clients = Vec::new();
    for expected in [
        [1, 0, 0],
        [2, 0, 0],
        [2, 1, 0],
        [2, 2, 0],
        [2, 2, 1],
        [2, 2, 2],
    ] {
        clients.push(hold_one(&juggler, &stations));
        assert_eq!(at_work(&stations), expected);
    }
    let_go(clients, &stations);
}

#[test]
fn schedulers_that_compare_loads_avoid_the_busy_server() {
    let stations = Station::quick::<3>();
    let [a, ..] = &stations;
    let with = |scheduler: &str| {
        plain(
            &stations,
            &format!("capacity = 8\nscheduler = \"{scheduler}\""),
        )
    };
    let juggler = start(&with("chance"), &stations, 8);
    // Four of eight are at the first server.
    let (clients, found) = hold(&juggler, &stations, 4);
    assert_eq!(found, [4, 0, 0]);
    for scheduler in ["least_load", "two_choices"] {
        reload(&juggler, &with(scheduler), "reloaded");
        let found = tally(&juggler, 200);
        // Two choices: only if no other server is drawn, once in 243.
        assert!(
            found.get("s0").is_none_or(|count| *count < 10),
            "{scheduler}: {found:?}"
        );
        assert!(
            found["s1"] > 50 && found["s2"] > 50,
            "{scheduler}: {found:?}"
        );
    }
    let_go(clients, &stations);
    // The time that a server takes counts, too.
    a.set_service(Duration::from_millis(50));
    reload(&juggler, &with("peak_ewma"), "reloaded");
    let found = tally(&juggler, 200);
    // One or two requests, and less than its turn even if the machine stops for a moment and makes
    // another server look slow.
    assert!(found.get("s0").is_none_or(|count| *count < 60), "{found:?}");
}

#[test]
fn a_key_keeps_its_server_and_few_move_when_one_goes() {
    let mut all = Station::quick::<4>();
    let clients = 60;
    for (scheduler, key, field) in [
        ("rendezvous", "field:X-Client", "X-Client: "),
        ("jump", "field:x-client", "X-Client: "),
        ("rendezvous", "cookie:id", "Cookie: other=1; id="),
    ] {
        let with = |last: &str| {
            let [a, b, c, d] = &all;
            text(
                &[(a, ""), (b, ""), (c, ""), (d, last)],
                &format!(
                    "capacity = 4\nclient_key = \"{key}\"\nscheduler = {{ type = \"{scheduler}\", \
                     balance = \"1000%\" }}"
                ),
            )
        };
        let juggler = start(&with(""), &all, 4);
        let ask = |number: usize| {
            // A new connection each time: only the key counts.
            let mut client = Client::connect(juggler.address());
            client
                .exchange(get("/", &format!("{field}{number}\r\n")))
                .expect(200)
                .text()
        };
        let round = || (0..clients).map(ask).collect::<Vec<_>>();
        let (first, second) = (round(), round());
        assert_eq!(first, second, "{scheduler}");
        let of =
            |found: &[String], name: &str| found.iter().filter(|server| *server == name).count();
        for name in ["s0", "s1", "s2", "s3"] {
            assert!(of(&first, name) > 3, "{scheduler}: {first:?}");
        }
        reload(&juggler, &with("admin = \"disabled\""), "reloaded");
        let without = round();
        assert_eq!(of(&without, "s3"), 0);
        for (before, after) in first.iter().zip(&without) {
            assert!(
                before == after || before == "s3",
                "{scheduler}: {before} to {after}"
            );
        }
        reload(&juggler, &with(""), "reloaded");
        all[3].wait_for_connections(4);
        eventually_eq(scheduler, first, round);
        drop(juggler);
        all.iter_mut()
            .for_each(|station| station.origin().close_all());
    }
}

#[test]
fn a_client_keeps_its_server_by_its_address() {
    let stations = Station::quick::<3>();
    let with = |key: &str| {
        let scheduler = "scheduler = { type = \"rendezvous\", balance = \"1000%\" }";
        plain(&stations, &format!("capacity = 4\n{scheduler}\n{key}"))
    };
    let juggler = start(&with(""), &stations, 4);
    assert_eq!(tally(&juggler, 30).len(), 1);
    reload(&juggler, &with("client_key = \"none\""), "reloaded");
    assert_eq!(tally(&juggler, 60).len(), 3);
}

#[test]
fn no_key_takes_more_of_a_server_than_the_bound() {
    let stations = Station::quick::<3>();
    for scheduler in ["rendezvous", "jump"] {
        let juggler = start(
            &plain(
                &stations,
                &format!(
                    "capacity = 8\nscheduler = {{ type = \"{scheduler}\", balance = \"150%\" }}"
                ),
            ),
            &stations,
            8,
        );
        let mut clients = Vec::new();
        for count in 1..=18_usize {
            clients.push(hold_one(&juggler, &stations));
            let bound = (count * 150).div_ceil(300);
            let found = at_work(&stations);
            assert!(
                found.iter().all(|jobs| *jobs <= bound),
                "{scheduler}: {found:?} of {count}"
            );
        }
        let found = at_work(&stations);
        // As many as the server has connections. The bound would be nine.
        assert_eq!(found.iter().max(), Some(&8), "{scheduler}: {found:?}");
        let_go(clients, &stations);
        drop(juggler);
        stations
            .iter()
            .for_each(|station| station.wait_for_connections(0));
    }
}

#[test]
fn bound_late_no_request_waits_for_a_busy_server_while_another_is_free() {
    let stations = Station::quick::<3>();
    let with = |binding: &str| {
        plain(
            &stations,
            &format!("capacity = 1\nscheduler = \"round_robin\"\nbinding = \"{binding}\""),
        )
    };
    let juggler = start(&with("late"), &stations, 1);
    let busy = hold_one(&juggler, &stations);
    let held = at_work(&stations)
        .iter()
        .position(|jobs| *jobs == 1)
        .unwrap();
    let ask = || {
        let send = |_| {
            let mut client = Client::connect(juggler.address());
            client.send(get("/", ""));
            client
        };
        (0..30).map(send).collect::<Vec<_>>()
    };
    for mut client in ask() {
        client.read_response().expect(200);
    }
    // Bound early, every third request has to wait.
    reload(&juggler, &with("early"), "reloaded");
    stations.iter().for_each(Station::begin);
    let waiting = ask();
    // It may be the busy server's turn right now.
    eventually(PATIENCE, "answered", || {
        let answered = stations.iter().map(|station| station.total().served);
        (19..=20).contains(&answered.sum::<usize>())
    });
    assert_eq!(
        (
            stations[held].total().served,
            stations[held].targets().len()
        ),
        (0, 0)
    );
    // Bound late again, no request has to wait.
    reload(&juggler, &with("late"), "reloaded");
    for mut client in waiting {
        client.read_response().expect(200);
    }
    let_go(vec![busy], &stations);
}

/// A row of the table: a scheduler's results with one slow server of three.
struct Measured {
    replies: Replies,
    part_of_slow: f64,
}

impl Measured {
    fn line(&self, scheduler: &str) -> String {
        let ms = |part| self.replies.quantile(part).as_secs_f64() * 1e3;
        let count = self.replies.len();
        let (slow, half, most) = (self.part_of_slow * 100.0, ms(0.5), ms(0.99));
        format!("{scheduler:12}  {count:8}   {slow:14.1}%   {half:6.1}   {most:6.1}\n")
    }
}

/// Two servers that take 2 ms, and one between them that takes 200 ms.
fn fast_slow_fast() -> [Station; 3] {
    let fast = Duration::from_millis(2);
    [
        Station::start("s0", fast),
        Station::start("s1", Duration::from_millis(200)),
        Station::start("s2", fast),
    ]
}

/// Measures with eight clients.
fn measure(stations: &[Station], scheduler: &str, binding: &str) -> Measured {
    let cluster = format!(
        "capacity = 4\nclient_key = \"field:X-Client\"\nscheduler = \"{scheduler}\"\nbinding = \
         \"{binding}\""
    );
    let juggler = start(&plain(stations, &cluster), stations, 4);
    let load = Load::start(juggler.address(), 8, &get("/", "X-Client: {n}\r\n"));
    thread::sleep(span(250));
    let replies = load.end();
    replies.expect_good();
    drop(juggler);
    stations
        .iter()
        .for_each(|station| station.wait_for_connections(0));
    let slow = replies.0.iter().filter(|reply| reply.text == "s1").count();
    let part_of_slow = slow as f64 / replies.len() as f64;
    Measured {
        replies,
        part_of_slow,
    }
}

fn beside_a_slow_one(stations: &[Station], binding: &str) -> BTreeMap<&'static str, Measured> {
    let mut table = format!("\none slow server of three, bound {binding}\n");
    table += "scheduler     requests   to the slow one   p50 ms   p99 ms\n";
    let mut rows = BTreeMap::new();
    for scheduler in SCHEDULERS {
        let row = measure(stations, scheduler, binding);
        table += &row.line(scheduler);
        rows.insert(scheduler, row);
    }
    println!("{table}");
    rows
}

#[test]
fn a_slow_server_gets_little_bound_late() {
    let rows = beside_a_slow_one(&fast_slow_fast(), "late");
    for (scheduler, row) in &rows {
        // A hundredth where the machine lets the others be fast. In any case no more than its
        // connections can bear.
        let slow = row
            .replies
            .0
            .iter()
            .filter(|reply| reply.text == "s1")
            .count();
        let all = row.replies.len();
        assert!(2 * slow < all, "{scheduler}: {slow} of {all}");
    }
}

#[test]
fn a_slow_server_gets_its_turns_bound_early_unless_loads_are_looked_at() {
    let stations = fast_slow_fast();
    let rows = beside_a_slow_one(&stations, "early");
    let turns = rows["round_robin"].part_of_slow;
    // Requests at work at the end of the time are counted, so it is not exactly a third.
    assert!((0.25..0.45).contains(&turns), "{turns}");
    for scheduler in ["least_load", "two_choices", "peak_ewma"] {
        let is_little = |row: &Measured| row.part_of_slow < turns / 2.0;
        // A machine that stops for a moment makes a fast server look slow, which peak EWMA
        // remembers for seconds.
        let again = || (0..5).any(|_| is_little(&measure(&stations, scheduler, "early")));
        let first = &rows[scheduler];
        assert!(
            is_little(first) || again(),
            "{scheduler}: {} of {turns}",
            first.part_of_slow
        );
    }
}

#[test]
fn standby_servers_help_out_and_backups_stand_in() {
    let mut stations = Station::quick::<3>();
    let [a, b, c] = &stations;
    let text = text(
        &[(a, ""), (b, "role = \"standby\""), (c, "role = \"backup\"")],
        "capacity = 3",
    );
    let juggler = start(&text, &stations, 3);
    // The server has more than one connection, because a worker that has just responded may not be
    // back when its client sends the next request.
    assert_eq!(tally(&juggler, 20)["s0"], 20);
    let (clients, found) = hold(&juggler, &stations, 6);
    assert_eq!(found, [3, 3, 0]);
    // One more request waits for one of them, although the backup has nothing to do.
    let mut more = Client::connect(juggler.address());
    more.send(get("/", ""));
    more.expect_silence(Duration::from_millis(100));
    assert_eq!(at_work(&stations), [3, 3, 0]);
    let_go(clients, &stations);
    more.read_response().expect(200);
    let comes_from = |name: &str| {
        eventually(PATIENCE, name, || tally(&juggler, 1).contains_key(name));
        let found = tally(&juggler, 20);
        assert_eq!(found.get(name), Some(&20), "{found:?}");
    };
    stations[0].origin().stop();
    comes_from("s1");
    stations[1].origin().stop();
    comes_from("s2");
    stations[1].origin().restart();
    comes_from("s1");
    stations[1].origin().stop();
    comes_from("s2");
    stations[0].origin().restart();
    comes_from("s0");
    assert!(stations[2].total().served > 0);
}

#[test]
fn a_server_that_is_drained_or_disabled_ends_what_it_has() {
    let stations = Station::quick::<2>();
    let [a, b] = &stations;
    let with = |admin: &str| {
        text(
            &[(a, &format!("admin = \"{admin}\"")), (b, "")],
            "capacity = 3",
        )
    };
    let juggler = start(&with("enabled"), &stations, 3);
    for (admin, connections, ends_with) in [("draining", 3, 3), ("disabled", 2, 0)] {
        let (clients, found) = hold(&juggler, &stations, 4);
        assert_eq!(found, [2, 2]);
        reload(&juggler, &with(admin), "reloaded");
        a.wait_for_connections(connections);
        assert_eq!(tally(&juggler, 20)["s1"], 20, "{admin}");
        let_go(clients, &stations);
        a.wait_for_connections(ends_with);
        assert_eq!(tally(&juggler, 20)["s1"], 20, "{admin}");
        reload(&juggler, &with("enabled"), "reloaded");
        a.wait_for_connections(3);
        eventually(PATIENCE, "the server is used again", || {
            tally(&juggler, 4).contains_key("s0")
        });
    }
}

#[test]
fn a_cluster_that_is_drained_serves_what_waits_and_one_that_is_disabled_does_not() {
    let stations = Station::quick::<1>();
    let with = |admin: &str| {
        let process = "[process]\nsummary = \"1s\"\n";
        format!(
            "{process}{}",
            plain(&stations, &format!("capacity = 1\nadmin = \"{admin}\""))
        )
    };
    let juggler = start(&with("enabled"), &stations, 1);
    for (admin, expected) in [("draining", 200), ("disabled", 503)] {
        let busy = hold_one(&juggler, &stations);
        let mut waiting = Client::connect(juggler.address());
        waiting.send(get("/", ""));
        juggler.wait_for_log_behind(juggler.log_length(), ", 1 queued");
        reload(&juggler, &with(admin), "reloaded");
        let refused = Client::connect(juggler.address()).get("/").expect(503);
        assert!(
            refused.text().contains("switched off"),
            "{}",
            refused.text()
        );
        if expected == 503 {
            assert!(
                waiting
                    .read_response()
                    .expect(503)
                    .text()
                    .contains("switched off")
            );
        }
        let_go(vec![busy], &stations);
        if expected == 200 {
            waiting.read_response().expect(200);
        }
        reload(&juggler, &with("enabled"), "reloaded");
        Client::connect(juggler.address()).get("/").expect(200);
    }
}

#[test]
fn capacity_goes_up_and_down_under_load_and_is_never_exceeded() {
    let stations = [Station::start("s0", Duration::from_millis(3))];
    let [station] = &stations;
    let with = |capacity: usize| plain(&stations, &format!("capacity = {capacity}"));
    let mut old = 2;
    let juggler = start(&with(old), &stations, old);
    let load = Load::start(juggler.address(), 12, &get("/", ""));
    for new in [6, 1, 4, 8, 2, 10, 1, 3] {
        station.begin();
        reload(&juggler, &with(new), "reloaded");
        station.wait_for_connections(new);
        assert!(
            station.total().most <= old.max(new),
            "{old} to {new}: {:?}",
            station.total()
        );
        station.begin();
        eventually_eq("at work", new, || station.total().most);
        eventually(PATIENCE, "some more", || station.total().served > 5 * new);
        let total = station.total();
        assert!(total.most <= new, "{total:?} of {new}");
        old = new;
    }
    load.end().expect_good();
}

#[test]
fn servers_come_and_go_and_change_their_roles_under_load() {
    let stations = Station::quick::<4>();
    stations
        .iter()
        .for_each(|station| station.set_service(Duration::from_millis(2)));
    let [a, b, c, d] = &stations;
    let variants = [
        text(&[(a, ""), (b, ""), (c, "")], "capacity = 2"),
        text(
            &[(b, ""), (c, "role = \"standby\"")],
            "capacity = 2\nscheduler = \"jump\"",
        ),
        text(
            &[
                (d, "weight = 5"),
                (b, "role = \"backup\""),
                (a, "admin = \"draining\""),
            ],
            "capacity = 2\nscheduler = \"peak_ewma\"\nbinding = \"early\"",
        ),
        text(
            &[
                (c, "capacity = 1"),
                (d, "admin = \"disabled\""),
                (a, "weight = 3"),
            ],
            "capacity = 2\nscheduler = \"least_load\"\nlending = \"reserve\"",
        ),
    ];
    let juggler = Juggler::start(&variants[0]);
    let load = Load::start(juggler.address(), 10, &get("/", ""));
    for round in 1..=24 {
        reload(&juggler, &variants[round % variants.len()], "reloaded");
        let before: usize = stations.iter().map(|station| station.total().served).sum();
        eventually(PATIENCE, "some more", || {
            stations
                .iter()
                .map(|station| station.total().served)
                .sum::<usize>()
                > before + 20
        });
    }
    load.end().expect_good();
    for station in &stations {
        let total = station.total();
        assert!(
            total.most <= 2 && total.served > 0,
            "{}: {total:?}",
            station.name()
        );
    }
}
