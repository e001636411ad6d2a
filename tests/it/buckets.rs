//! Buckets: which bucket gets which share of a cluster, as its server sees it, also while shares
//! are changed.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use crate::support::station::{Load, Station, get, span};
use crate::support::{Client, Config, Juggler, PATIENCE, eventually, eventually_eq, reload};

/// The buckets of the example: `vip` has a fifth, and never more than two fifths; `main` has the
/// rest.
const VIP_AND_MAIN: &str = "bucket = [\n{ name = \"vip\", assured = \"20%\", ceiling = \"40%\" \
                            },\n{ name = \"main\", assured = \"80%\", ceiling = \"100%\" },\n]";

/// A cluster with this server, and a route `/NAME` to each of these buckets.
fn text(station: &Station, cluster: &str, buckets: &[&str]) -> String {
    let mut config = Config::new([station.address()]).cluster(cluster);
    for bucket in buckets {
        config = config.rest(&format!(
            "[[route]]\npath = \"/{bucket}\"\ncluster = \"main\"\nbucket = \"{bucket}\""
        ));
    }
    config.text()
}

fn start(text: &str, station: &Station, connections: usize) -> Juggler {
    let juggler = Juggler::start(text);
    station.wait_for_connections(connections);
    juggler
}

/// Stops the program. The log says for each of these buckets (and the root) that no guarantee was
/// broken.
#[track_caller]
fn stop_without_violations(mut juggler: Juggler, buckets: &[&str]) {
    assert_eq!(juggler.stop(), Some(0));
    juggler.wait_for_log("stopped after");
    let log = juggler.log();
    for bucket in [&["root"], buckets].concat() {
        let name = format!("cluster main, bucket {bucket}: ");
        let line = log.iter().rfind(|line| line.contains(&name));
        let line = line.unwrap_or_else(|| panic!("the log has nothing about {bucket}: {log:#?}"));
        assert!(line.ends_with(" 0 violations"), "{line}");
    }
}

/// What one of the buckets got.
#[derive(Clone, Copy, Debug)]
struct Got {
    /// How many at once, at most and on average.
    most: usize,
    mean: f64,
    served: usize,
}

/// Puts this number of clients on each path, and measures once all are served.
fn measure(juggler: &Juggler, station: &Station, clients: &[(&str, usize)]) -> Vec<Got> {
    let loads: Vec<_> = clients
        .iter()
        .map(|(path, count)| Load::start(juggler.address(), *count, &get(path, "")))
        .collect();
    let is_in = |(path, count): &(&str, usize)| *count == 0 || station.of(path).served >= 10;
    station.begin();
    eventually(PATIENCE, "every client is served", || {
        clients.iter().all(is_in)
    });
    station.begin();
    thread::sleep(span(350));
    // A busy machine may not finish the measurement in that time.
    eventually(PATIENCE, "enough is served", || {
        station.total().served >= clients.iter().map(|(_, count)| 5 * count.min(&15)).sum()
    });
    let rows: Vec<_> = clients.iter().map(|(path, _)| station.of(path)).collect();
    let total = station.total();
    for (load, (_, count)) in loads.into_iter().zip(clients) {
        let replies = load.end();
        if *count > 0 {
            replies.expect_good();
        }
    }
    assert!(total.most <= 10, "{total:?}");
    rows.into_iter()
        .map(|row| Got {
            most: row.most,
            mean: row.mean,
            served: row.served,
        })
        .collect()
}

/// The example under more load than there is room for, in each combination. Returns what each of
/// the two buckets got.
fn example(lending: &str, cases: &[[usize; 2]]) -> Vec<[Got; 2]> {
    let station = Station::start("s0", Duration::from_millis(20));
    let cluster = format!("capacity = 10\nlending = \"{lending}\"\n{VIP_AND_MAIN}");
    let juggler = start(&text(&station, &cluster, &["vip", "main"]), &station, 10);
    let mut table = format!(
        "\nvip 20 % to 40 %, main 80 % to 100 % of 10, {lending}; at once, as the server sees it\n"
    );
    table += "clients        at once, on average   at most      of all served\nvip  main        \
              vip    main         vip  main    vip     main\n";
    let mut results = Vec::new();
    for [vip, main] in cases {
        let measure = || {
            let got = measure(&juggler, &station, &[("/vip", *vip), ("/main", *main)]);
            let got: [Got; 2] = got.try_into().unwrap();
            assert!(got[0].most <= 4, "{vip} and {main}: {got:?}");
            got
        };
        let [mut a, mut b] = measure();
        // A busy machine may for a moment serve one bucket and not the other.
        for _ in 0..4 {
            if *vip < 4 || *main < 12 || part([a, b]) > LEAST {
                break;
            }
            [a, b] = measure();
        }
        let part = |got: Got| got.served as f64 * 100.0 / (a.served + b.served) as f64;
        writeln!(
            table,
            "{vip:3}  {main:4}      {:5.2}   {:5.2}        {:4}  {:4}   {:4.1}%   {:4.1}%",
            a.mean,
            b.mean,
            a.most,
            b.most,
            part(a),
            part(b)
        )
        .unwrap();
        results.push([a, b]);
    }
    println!("{table}");
    stop_without_violations(juggler, &["vip", "main"]);
    results
}

/// A fifth, less the error of a measurement that begins and ends in the middle of requests.
const LEAST: f64 = 0.15;

fn part([a, b]: [Got; 2]) -> f64 {
    a.served as f64 / (a.served + b.served) as f64
}

#[test]
fn what_is_not_used_is_lent() {
    let results = example(
        "work_conserving",
        &[
            [15, 0],
            [0, 15],
            [15, 15],
            [1, 15],
            [15, 4],
            [60, 12],
            [4, 60],
        ],
    );
    let [
        vip_alone,
        main_alone,
        both,
        little_vip,
        little_main,
        far_over,
        main_far_over,
    ] = results.try_into().unwrap();
    // The most at once is reached on any machine, the average only on one with time to spare.
    assert_eq!((vip_alone[0].most, main_alone[1].most), (4, 10));
    assert_eq!(little_vip[1].most, 10);
    assert_eq!((little_main[0].most, little_main[1].most), (4, 4));
    // Each bucket has its share of what is served, however many clients it has: tokens are 2 to 8.
    // Anything above that was lent, which happens when the other bucket's clients are late with
    // their next requests.
    for both in [both, far_over, main_far_over] {
        assert!(part(both) > LEAST, "{both:?}");
    }
    assert!(part(main_far_over) < 0.26, "{main_far_over:?}");
}

#[test]
fn what_is_reserved_stays_free() {
    let results = example(
        "reserve",
        &[[15, 0], [0, 15], [15, 15], [1, 15], [15, 4], [4, 60]],
    );
    let [
        vip_alone,
        main_alone,
        both,
        little_vip,
        little_main,
        main_far_over,
    ] = results.try_into().unwrap();
    // Nothing is left for a bucket that has its share, for all slots are assured to a bucket.
    assert_eq!((vip_alone[0].most, main_alone[1].most), (2, 8));
    assert_eq!((little_vip[0].most, little_vip[1].most), (1, 8));
    assert_eq!((little_main[0].most, little_main[1].most), (2, 4));
    for both in [both, main_far_over] {
        assert!(both[0].most <= 2 && both[1].most <= 8, "{both:?}");
        assert!(part(both) > LEAST, "{both:?}");
    }
}

#[test]
fn shares_of_shares_and_absolute_numbers() {
    let station = Station::start("s0", Duration::from_millis(15));
    // The order of the lines does not matter. Of 10: paying 6, of which gold 3, silver 1 and 2 of
    // its own; low 1 and at most 3; 3 are the root's own.
    let buckets = "bucket = [\n{ name = \"gold\", parent = \"paying\", assured = \"50%\" },\n{ \
                   name = \"low\", assured = 1, ceiling = 3 },\n{ name = \"paying\", assured = 6, \
                   ceiling = \"80%\" },\n{ name = \"silver\", parent = \"paying\", assured = 1, \
                   ceiling = 2 },\n]";
    let names = ["gold", "low", "paying", "silver"];
    let juggler = start(
        &text(&station, &format!("capacity = 10\n{buckets}"), &names),
        &station,
        10,
    );
    let busy = [
        ("/gold", 12),
        ("/low", 12),
        ("/paying", 12),
        ("/silver", 12),
        ("/other", 12),
    ];
    let got = measure(&juggler, &station, &busy);
    println!("{got:?}");
    let all: usize = got.iter().map(|got| got.served).sum();
    let part = |place: usize| got[place].served as f64 / all as f64;
    let [gold, low, paying, silver, other] = [0, 1, 2, 3, 4].map(part);
    assert!(got[1].most <= 3 && got[3].most <= 2, "{got:?}");
    assert!(got[0].most + got[2].most + got[3].most <= 10, "{got:?}");
    // The shares, less the error of a short measurement. Nothing is left to lend.
    assert!(gold > 0.25 && paying > 0.15 && silver > 0.06, "{got:?}");
    assert!(
        gold + paying + silver > 0.55 && other > 0.25 && low > 0.06,
        "{got:?}"
    );
    // Children may use all of their parent's share, and no more than its ceiling.
    let got = measure(
        &juggler,
        &station,
        &[("/gold", 15), ("/silver", 5), ("/low", 5)],
    );
    assert!(
        got[0].most <= 8 && got[1].most <= 2 && got[2].most <= 3,
        "{got:?}"
    );
    assert!(got[0].most >= 5 && got[2].most >= 2, "{got:?}");
    stop_without_violations(juggler, &names);
}

/// Sends a request that waits at the gate. Returns its client once the request is at work.
fn hold(juggler: &Juggler, station: &Station) -> Client {
    let before = station.total().now;
    let mut client = Client::connect(juggler.address());
    client.send(get("/held", ""));
    eventually_eq("at work", before + 1, || station.total().now);
    client
}

#[test]
fn a_bucket_has_a_queue_of_its_own() {
    let station = Station::start("s0", Duration::ZERO);
    let cluster = "capacity = 1\nqueue = { limit = 5 }\nbucket = [\n{ name = \"vip\", assured = \
                   \"50%\", queue = { limit = 1, timeout = \"300ms\" } },\n]";
    let juggler = start(&text(&station, cluster, &["vip"]), &station, 1);
    let mut busy = hold(&juggler, &station);
    let send = |path: &str| {
        let mut client = Client::connect(juggler.address());
        client.send(get(path, ""));
        client
    };
    // Two requests, of which one may wait. The other is refused at once.
    let waiting = [send("/vip"), send("/vip")];
    let main = [send("/"), send("/")];
    let mut told: Vec<_> = waiting.map(|mut client| client.read_response()).into();
    told.sort_by_key(|response| response.status);
    let [full, late] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((full.status, late.status), (503, 504));
    assert!(
        full.text().contains("too many requests are waiting"),
        "{}",
        full.text()
    );
    assert!(late.text().contains("waited too long"), "{}", late.text());
    assert_eq!(station.targets(), ["/held"]);
    station.gate().open();
    busy.read_response().expect(200);
    for mut client in main {
        client.read_response().expect(200);
    }
}

#[test]
fn a_request_that_waits_in_a_bucket_that_is_removed_is_served_by_its_parent() {
    let station = Station::start("s0", Duration::ZERO);
    let with = |buckets: &str, names: &[&str]| {
        let process = "[process]\nsummary = \"1s\"\n";
        format!(
            "{process}{}",
            text(&station, &format!("capacity = 1\n{buckets}"), names)
        )
    };
    let both = "bucket = [{ name = \"outer\", assured = \"50%\" }, { name = \"inner\", parent = \
                \"outer\" }]";
    let juggler = start(&with(both, &["outer", "inner"]), &station, 1);
    let mut busy = hold(&juggler, &station);
    let send = |path: &str| {
        let mut client = Client::connect(juggler.address());
        client.send(get(path, ""));
        client
    };
    let mut waiting: Vec<_> = (0..5)
        .flat_map(|_| [send("/inner"), send("/outer")])
        .collect();
    juggler.wait_for_log_behind(juggler.log_length(), ", 10 queued");
    // A request whose body is still to come was admitted to a bucket that is removed before the
    // body is here.
    let mut coming = Client::connect(juggler.address());
    coming.send(
        "POST /inner HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(coming.read_exactly(interim.len()), interim);
    reload(
        &juggler,
        &with("bucket = [{ name = \"outer\" }]", &["outer"]),
        "reloaded",
    );
    waiting.push(send("/inner"));
    reload(&juggler, &with("", &[]), "reloaded");
    coming.send("body");
    waiting.push(coming);
    station.gate().open();
    busy.read_response().expect(200);
    for mut client in waiting {
        client.read_response().expect(200);
    }
}

#[test]
fn buckets_are_added_changed_and_removed_under_load() {
    let station = Station::start("s0", Duration::from_millis(2));
    let variants = [
        (VIP_AND_MAIN, &["vip", "main"][..]),
        ("bucket = [{ name = \"vip\", assured = \"90%\" }]", &["vip"]),
        ("", &[]),
        (
            "bucket = [{ name = \"main\", ceiling = 3 }, { name = \"vip\", parent = \"main\", \
             assured = \"100%\" }]",
            &["main", "vip"],
        ),
        (
            "lending = \"reserve\"\nbucket = [{ name = \"vip\", assured = 4 }, { name = \"main\", \
             parent = \"vip\" }]",
            &["vip", "main"],
        ),
        (
            "binding = \"early\"\nbucket = [{ name = \"other\", assured = \"50%\" }]",
            &[],
        ),
    ];
    let with = |round: usize| {
        let (buckets, routes) = variants[round % variants.len()];
        text(&station, &format!("capacity = 10\n{buckets}"), routes)
    };
    let juggler = start(&with(0), &station, 10);
    let loads =
        ["/vip", "/main", "/"].map(|path| Load::start(juggler.address(), 8, &get(path, "")));
    for round in 1..=30 {
        let before = ["/vip", "/main", "/"].map(|path| station.of(path).served);
        reload(&juggler, &with(round), "reloaded");
        eventually(PATIENCE, "some more of each", || {
            let now = ["/vip", "/main", "/"].map(|path| station.of(path).served);
            now.iter()
                .zip(&before)
                .all(|(now, before)| *now > before + 8)
        });
    }
    reload(&juggler, &with(0), "reloaded");
    loads.into_iter().for_each(|load| load.end().expect_good());
    assert!(station.total().most <= 10);
    stop_without_violations(juggler, &["vip", "main"]);
}
