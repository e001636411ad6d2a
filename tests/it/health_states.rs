//! What traffic shows about servers, and the effect of their states: which are used, how much, and
//! which are held.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::patient::{Patient, changes, reload, wait_for_changes, wait_for_probes};
use crate::support::{
    Client, Config, Juggler, Load, Origin, PATIENCE, Response, TestServer, eventually,
    eventually_eq,
};

// === What the traffic shows

/// A server that makes every kind of fault on request, and the balancer before it, which judges it
/// by traffic alone.
fn judged(passive: &str) -> (Origin, Juggler) {
    let origin = Origin::start(|conn, _| {
        while let Some(request) = conn.request() {
            // The client's number stands behind the fault.
            match request.target.rsplit_once('/').map_or("", |(path, _)| path) {
                "/broken" => return,
                "/timeout" => {
                    conn.wait_for_close();
                    return;
                }
                "/protocol" => return conn.send("220 this is no HTTP\r\n\r\n"),
                "/status" => conn.answer(500, ""),
                _ => conn.answer(200, ""),
            }
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster(
            "capacity = 1\nretry = { attempts = 1 }\ntimeout = { first_byte = \"400ms\" \
             }\non_unavailable = \"queue\"",
        )
        .cluster(&format!(
            "health = {{ mode = \"lazy\", path = \"/up\", interval = \"1h\", panic = \"0%\", \
             passive = {{ {passive} }} }}"
        ))
        .start();
    (origin, juggler)
}

/// Sends this request as the client of this number, at a path of its own. Failures of one client or
/// one path alone would not count.
fn ask(juggler: &Juggler, number: usize, path: &str) -> Response {
    let number = u8::try_from(number + 2).unwrap();
    Client::connect_as(number, juggler.address()).get(&format!("{path}/{number}"))
}

const NO_STREAKS: &str = "connect = 0, broken = 0, timeout = 0, protocol = 0, status = 0";

#[test]
fn failures_of_one_kind_in_a_row_take_a_server_offline() {
    for (class, what) in [
        ("broken", "the connection broke"),
        ("timeout", "no answer in time"),
        ("protocol", "the answer was no HTTP"),
        ("status", "the server answered with an error"),
    ] {
        let passive =
            NO_STREAKS.replace(&format!("{class} = 0"), &format!("{class} = 3")) + ", classes = []";
        let (_origin, juggler) = judged(&passive);
        let path = format!("/{class}");
        let other = if class == "broken" {
            "/protocol"
        } else {
            "/broken"
        };
        for (number, (path, is_well)) in [
            (&*path, false),
            (&*path, false),
            ("/well", true),
            (other, false),
            (&*path, false),
            (&*path, false),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(ask(&juggler, number, path).status == 200, is_well, "{path}");
        }
        // A success has ended the row, and failures of another kind are not part of it.
        assert_eq!(changes(&juggler, "main/s0"), [""; 0], "{class}");
        ask(&juggler, 6, &path);
        juggler.wait_for_log(&format!(
            "main/s0 is offline: 3 exchanges in a row failed: {what}"
        ));
        assert_eq!(changes(&juggler, "main/s0").len(), 1);
    }
}

#[test]
fn one_slow_request_never_takes_a_server_offline() {
    let passive = NO_STREAKS.replace("timeout = 0", "timeout = 2")
        + ", ratio = \"1%\", least = 2, classes = []";
    let (_origin, juggler) = judged(&passive);
    for number in 0..2 {
        ask(&juggler, number, "/timeout").expect(504);
        ask(&juggler, number, "/well").expect(200);
    }
    assert_eq!(changes(&juggler, "main/s0"), [""; 0]);
    ask(&juggler, 1, "/timeout").expect(504);
    ask(&juggler, 2, "/timeout").expect(504);
    juggler.wait_for_log("main/s0 is offline: 2 exchanges in a row failed: no answer in time");
}

#[test]
fn failures_that_are_too_many_of_all_take_a_server_offline() {
    let ratio = "ratio = \"50%\", least = 8, window = \"1h\", classes = [\"broken\", \"protocol\"]";
    let (_origin, juggler) = judged(&format!("{NO_STREAKS}, {ratio}"));
    // A connection that breaks after it has served may have been closed while idle. That does not
    // count.
    let well = ["/well", "/broken", "/well", "/broken", "/status", "/well"];
    let paths = [
        &["/protocol", "/broken", "/status"][..],
        &well,
        &["/protocol", "/status", "/protocol"],
    ];
    for (number, path) in paths.concat().into_iter().enumerate() {
        ask(&juggler, number, path);
    }
    // Four of ten have failed.
    assert_eq!(changes(&juggler, "main/s0"), [""; 0]);
    ask(&juggler, 20, "/broken");
    assert_eq!(changes(&juggler, "main/s0"), [""; 0]);
    ask(&juggler, 21, "/protocol");
    juggler.wait_for_log("main/s0 is offline: 6 of 12 exchanges failed");
}

#[test]
fn connections_that_were_closed_while_idle_are_no_failures() {
    // A client that sends a second request over a connection finds the connection closed.
    let origin = Origin::start(|conn, _| {
        conn.request();
        conn.answer(200, "");
        conn.request();
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .cluster(
            "health = { mode = \"lazy\", interval = \"1h\", panic = \"0%\", passive = { broken = \
             2, ratio = \"1%\", least = 2 } }",
        )
        .start();
    let mut client = Client::connect(juggler.address());
    for _ in 0..12 {
        client.get("/").expect(200);
    }
    assert_eq!(changes(&juggler, "main/s0"), [""; 0]);
    // Each request but the first was sent twice.
    assert_eq!(
        (origin.requests().len(), origin.connections_ever()),
        (23, 12)
    );
}

// === Use

#[test]
fn a_server_that_flaps_under_load_fails_no_request() {
    let servers = [
        Patient::named("s0"),
        Patient::named("s1"),
        Patient::named("s2"),
    ];
    let juggler = Config::new(servers.iter().map(|server| server.origin.address()))
        .cluster("capacity = 2\nhealth = { path = \"/up\", interval = \"10ms\" }")
        .start();
    let load = Load::of_gets(&juggler.address(), 4);
    for round in 0..5 {
        servers[1].set(503);
        wait_for_changes(&juggler, "main/s1", 2 * round + 2);
        servers[1].set(200);
        wait_for_changes(&juggler, "main/s1", 2 * round + 3);
    }
    load.wait_for_more(20);
    load.end_without_failure();
    let told = changes(&juggler, "main/s1");
    assert_eq!(told[0], "online: 1 probe succeeded");
    for pair in told[1..].chunks(2) {
        assert_eq!(
            pair,
            [
                "offline: 2 probes failed, the last: the server answered with an error",
                "online: 2 probes succeeded"
            ]
        );
    }
    assert_eq!(told.len(), 11);
    for server in ["main/s0", "main/s2"] {
        assert_eq!(changes(&juggler, server).len(), 1, "{server}");
    }
}

#[test]
fn a_server_that_crashes_and_comes_back_under_load_fails_no_get() {
    let mut servers = TestServer::three();
    let juggler = Config::new(servers.iter().map(TestServer::address))
        .cluster("health = { interval = \"20ms\" }")
        .start();
    let load = Load::start(&juggler.address(), 6, |_| {
        "GET /test.txt HTTP/1.1\r\nHost: load\r\n\r\n".to_owned()
    });
    for round in 0..3 {
        servers[1].kill();
        wait_for_changes(&juggler, "main/s1", 2 * round + 2);
        load.wait_for_more(50);
        servers[1].restart();
        wait_for_changes(&juggler, "main/s1", 2 * round + 3);
        eventually(PATIENCE, "used again", || servers[1].stat("requests") > 0);
    }
    load.end_without_failure();
    assert_eq!(changes(&juggler, "main/s1").len(), 7);
}

#[test]
fn if_all_fail_those_that_fell_last_stay_in_use() {
    let servers = [0, 1, 2, 3, 4].map(|_| Patient::named("it"));
    let juggler = Config::new(servers.iter().map(|server| server.origin.address()))
        .cluster("capacity = 1\nhealth = { path = \"/up\", interval = \"10ms\", panic = \"40%\" }")
        .start();
    for (number, server) in servers.iter().enumerate() {
        server.set(503);
        juggler.wait_for_log(&format!("main/s{number} is offline: 2 probes failed"));
        let is_told = juggler
            .log()
            .iter()
            .any(|line| line.contains("too few servers"));
        assert!(number > 3 || !is_told || number == 3, "{number}");
    }
    juggler.wait_for_log(
        "health: main: too few servers are well: those that fell last stay in use (health.panic)",
    );
    // The server whose last probe made it fall may be used for a moment longer.
    let used = |client: &mut Client| {
        servers.iter().for_each(|server| server.origin.forget());
        for _ in 0..10 {
            client.get("/").expect(200);
        }
        servers.each_ref().map(|server| server.served() > 0)
    };
    let mut client = Client::connect(juggler.address());
    eventually_eq("in use", [false, false, false, true, true], || {
        used(&mut client)
    });
    servers[0].set(200);
    juggler.wait_for_log("main/s0 is online: 2 probes succeeded");
    eventually_eq("in use", [true, false, false, false, true], || {
        used(&mut client)
    });
    servers[1].set(200);
    juggler.wait_for_log("health: main: enough servers are well again");
    eventually_eq("in use", [true, true, false, false, false], || {
        used(&mut client)
    });
}

#[test]
fn a_server_that_comes_back_gets_its_share_step_by_step() {
    const SLOW_START: Duration = Duration::from_secs(2);
    let servers = [Patient::named("s0"), Patient::named("s1")];
    let juggler = Config::new(servers.iter().map(|server| server.origin.address()))
        .cluster("health = { path = \"/up\", interval = \"10ms\", slow_start = \"2s\" }")
        .start();
    servers[1].set(503);
    juggler.wait_for_log("main/s1 is offline");
    let began = Instant::now();
    servers[1].set(200);
    let mut client = Client::connect(juggler.address());
    let mut answers = Vec::new();
    // Its share is whole some time after the slow start.
    while began.elapsed() < SLOW_START * 3 / 2 || answers.len() < 100 {
        let name = client.get("/").expect(200).text();
        answers.push((began.elapsed(), name == "s1"));
    }
    let share = |from: Duration, to: Duration| {
        let those = answers.iter().filter(|(at, _)| (from..to).contains(at));
        let (all, its) = those.fold((0, 0), |(all, its), (_, is_it)| {
            (all + 1, its + usize::from(*is_it))
        });
        (all, f64::from(its as u32) / f64::from(all))
    };
    let (early, late) = (
        share(Duration::ZERO, SLOW_START / 4),
        share(SLOW_START * 5 / 4, 10 * SLOW_START),
    );
    // Up to then its weight is at most a quarter: a ninth of the requests on average, and a fifth
    // at the end.
    assert!(early.0 < 40 || early.1 < 0.3, "{early:?}");
    assert!(late.0 < 40 || (0.4..0.6).contains(&late.1), "{late:?}");
}

// === Sticky offline

#[test]
fn a_server_that_fell_is_held_over_a_restart_until_it_is_released() {
    let servers = [Patient::named("s0"), Patient::named("s1")];
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let config = Config::new(servers.iter().map(|server| server.origin.address()))
        .top(&format!("[process]\nstate = {state:?}"))
        .cluster("health = { path = \"/up\", interval = \"10ms\", sticky_offline = true }");
    let file = folder.path().join("juggler.toml");
    fs::write(&file, config.text()).unwrap();
    let say = |arguments: &[&str]| {
        let output = Juggler::run(
            arguments
                .iter()
                .copied()
                .chain(["--config", file.to_str().unwrap()]),
        );
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // A server that is down when the balancer starts is not held for that.
    servers[1].set(503);
    let mut juggler = config.start();
    juggler.wait_for_log("main/s1 is offline: 1 probe failed");
    servers[1].set(200);
    juggler.wait_for_log("main/s1 is online: 2 probes succeeded");
    let mut client = Client::connect(juggler.address());
    eventually(PATIENCE, "in use", || {
        client.get("/").expect(200).text() == "s1"
    });
    assert_eq!(say(&["held"]), "no server is held\n");

    servers[1].set(503);
    juggler.wait_for_log("main/s1 is offline: 2 probes failed");
    eventually(PATIENCE, "written down", || {
        say(&["held"]).contains("main/s1")
    });
    let listed = say(&["held"]);
    let address = servers[1].origin.address().to_string();
    for part in [
        "main/s1",
        &*address,
        "2 probes failed, the last: the server answered with an error",
    ] {
        assert!(listed.contains(part), "{listed}");
    }
    servers[1].set(200);
    juggler.wait_for_log("main/s1 is kept out of use (sticky_offline) until somebody releases it");
    let served = |client: &mut Client| {
        servers[1].origin.forget();
        for _ in 0..6 {
            client.get("/").expect(200);
        }
        servers[1].served()
    };
    assert_eq!(served(&mut client), 0);

    // SIGKILL stands for a crash: what is in the file must suffice.
    juggler.signal(Signal::SIGKILL);
    juggler.wait(PATIENCE);
    let juggler = config.start();
    juggler.wait_for_log(
        "main/s1 is kept out of use (sticky_offline), as it was before: 2 probes failed, the last:",
    );
    juggler.wait_for_log("main/s1 is online: 1 probe succeeded");
    let mut client = Client::connect(juggler.address());
    assert_eq!(served(&mut client), 0);
    assert_eq!(say(&["held"]), listed);

    let said = say(&["release", "main/s1", "--by", "anna"]);
    assert!(
        said.starts_with("released main/s1 by anna; it was out since "),
        "{said}"
    );
    assert!(say(&["held"]).contains("main/s1 was released by anna at "));
    assert_eq!(served(&mut client), 0);
    let before = juggler.log_length();
    juggler.signal(Signal::SIGHUP);
    juggler.wait_for_log_behind(before, "health: main/s1 is online: released by anna");
    juggler.wait_for_log_behind(before, "reloaded");
    assert_eq!(served(&mut client), 3);
    eventually_eq(
        "the list of held servers",
        "no server is held\n".to_owned(),
        || say(&["held"]),
    );
}

// === Reload

#[test]
fn other_settings_take_effect_by_a_reload() {
    let server = Patient::named("it");
    let config = |health: &str| {
        Config::new([server.origin.address()])
            .cluster(&format!("health = {{ path = \"/up\", {health} }}"))
            .text()
    };
    let juggler = Juggler::start(&config("mode = \"disabled\", interval = \"10ms\""));
    server.set(503);
    assert_eq!(server.probes(), 0);
    reload(
        &juggler,
        &config("mode = \"paranoid\", interval = \"10ms\", panic = \"0%\""),
    );
    juggler.wait_for_log(
        "main/s0 is offline: 2 probes failed, the last: the server answered with an error",
    );
    let mut client = Client::connect(juggler.address());
    eventually(PATIENCE, "out of use", || client.get("/").status == 503);
    reload(&juggler, &config("mode = \"disabled\""));
    juggler.wait_for_log("main/s0 is online: health checking was changed");
    client.get("/").expect(200);

    reload(&juggler, &config("interval = \"1h\", recheck = \"1h\""));
    let probes = server.probes();
    server.set(200);
    client.get("/").expect(200);
    assert!(server.probes() <= probes + 1);
    reload(&juggler, &config("interval = \"10ms\""));
    wait_for_probes(&server.origin, probes + 5);
    client.get("/").expect(200);
}
