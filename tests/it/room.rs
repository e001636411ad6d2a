//! Room that all clients share: memory, spool, disk, places. No client that makes progress is cut
//! because room is lacking. A client that has stopped gives way.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Config, Juggler, Origin, PATIENCE, Start, check, eventually};

/// Responds to `/big…` with this many bytes of the pattern, to everything else with the length of
/// its body.
fn serving(size: usize) -> (Origin, Arc<[u8]>) {
    let pattern: Arc<[u8]> = check::bytes(0, size as u64).into();
    let bytes = Arc::clone(&pattern);
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target.starts_with("/big") {
                conn.answer(200, &bytes[..]);
            } else {
                conn.answer(200, request.body.len().to_string());
            }
        }
    });
    (origin, pattern)
}

fn ask(juggler: &Juggler, path: &str) -> Client {
    let mut client = Client::connect(juggler.address());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    client
}

/// An upload that announces more than it sends.
fn stopped_upload(juggler: &Juggler, announced: usize, sent: usize) -> Client {
    let mut client = Client::connect(juggler.address());
    client.send(format!(
        "POST /stopped HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n\r\n"
    ));
    let piece = vec![b'x'; 64 << 10];
    let mut left = sent;
    // The balancer may refuse it before everything is sent.
    while left > 0 && client.try_send(&piece[..piece.len().min(left)]).is_ok() {
        left = left.saturating_sub(piece.len());
    }
    client
}

/// The number before this text in the newest summary line.
fn summary(juggler: &Juggler, text: &str) -> Option<u64> {
    let log = juggler.log();
    let line = log.iter().rev().find(|line| line.contains("requests/s"))?;
    line.split(", ")
        .find_map(|part| part.strip_suffix(text)?.trim().parse().ok())
}

fn wait_for_spool(juggler: &Juggler, mebibytes: u64) {
    eventually(PATIENCE, "bytes in the spool", || {
        summary(juggler, " KiB in spool").is_some_and(|spool| spool >= mebibytes << 10)
    });
}

#[test]
fn uploads_that_stop_take_no_room_from_downloads_nor_all_from_uploads() {
    let (origin, pattern) = serving(12 << 20);
    let juggler = Config::new([origin.address()])
        .top("[process]\nsummary = \"1s\"\n[spool]\nfolder = \"{dir}\"\nlimit = \"48MiB\"")
        .listener("limit = { body_memory = \"64KiB\", response_memory = \"64KiB\" }")
        .cluster("capacity = 2")
        .start();
    // Each takes about as much as its share allows beside those before it.
    let mut in_all = 0;
    let stopped = [23, 8, 2].map(|mebibytes| {
        let client = stopped_upload(&juggler, 1 << 30, mebibytes << 20);
        in_all += mebibytes;
        wait_for_spool(&juggler, in_all as u64 - 1);
        client
    });
    let mut downloads = [ask(&juggler, "/big"), ask(&juggler, "/big")];
    for download in &mut downloads {
        assert!(download.read_response().expect(200).body == pattern[..]);
    }
    let body = vec![b'y'; 300_000];
    let response = Client::connect(juggler.address())
        .post("/small", &body)
        .expect(200);
    assert_eq!(response.text(), "300000");
    drop(stopped);
}

#[test]
fn uploads_that_stand_still_give_way_to_one_that_needs_room() {
    let (origin, _) = serving(0);
    let juggler = Config::new([origin.address()])
        .top(
            "[process]\nsummary = \"1s\"\n[log]\naccess = \"stdout\"\n[spool]\nfolder = \
             \"{dir}\"\nlimit = \"4MiB\"",
        )
        .listener("limit = { body_memory = \"0B\" }\ntimeout = { body = \"8s\" }")
        .start();
    let mut stopped = stopped_upload(&juggler, 3 << 20, 3 << 19);
    wait_for_spool(&juggler, 1);
    // One mebibyte would have room beside it.
    let body = vec![b'y'; 5 << 18];
    eventually(PATIENCE, "room for another", || {
        Client::connect(juggler.address())
            .post("/other", &body)
            .status
            == 200
    });
    let response = stopped.read_response();
    // The upload gave way, or its time was over meanwhile.
    assert!([503, 408].contains(&response.status), "{}", response.text());
    if response.status == 503 {
        assert!(
            response.text().contains("had not gone on"),
            "{}",
            response.text()
        );
        let line = juggler.wait_for_output("/stopped");
        assert!(line.contains("end=RR"), "{line}");
    }
}

#[test]
fn heads_are_read_though_uploads_hold_all_buffers() {
    let (origin, _) = serving(0);
    let juggler = Config::new([origin.address()])
        .top(
            "[process]\nsummary = \"1s\"\n[buffers]\nregion = \"1MiB\"\nsize = \
             \"32KiB\"\n[spool]\nfolder = \"{dir}\"\nlimit = \"1MiB\"",
        )
        .start();
    let held: Vec<_> = (0..40)
        .map(|_| stopped_upload(&juggler, 1 << 20, 40 << 10))
        .collect();
    eventually(PATIENCE, "buffers in use", || {
        summary(&juggler, " KiB in buffers").is_some_and(|buffers| buffers >= 896)
    });
    for _ in 0..20 {
        let head = format!(
            "GET /x HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
            "x".repeat(6000)
        );
        let mut client = Client::connect(juggler.address());
        client.send(head);
        client.read_response().expect(200);
    }
    drop(held);
}

#[test]
fn without_a_spool_servers_wait_for_clients() {
    let (origin, pattern) = serving(40 << 20);
    let juggler = Config::new([origin.address()])
        .top("[spool]\nlimit = \"0B\"")
        .cluster("capacity = 2\nlane = 0")
        .start();
    let mut late = ask(&juggler, "/big/late");
    let mut fast = ask(&juggler, "/big/fast");
    assert!(fast.read_response().expect(200).body == pattern[..]);
    assert!(late.read_response().expect(200).body == pattern[..]);
    late.get("/").expect(200);
    assert_eq!(origin.connections_ever(), 2);
}

#[test]
fn one_response_takes_a_bounded_part_of_the_spool() {
    let (origin, pattern) = serving(40 << 20);
    let juggler = Config::new([origin.address()])
        .top("[process]\nsummary = \"1s\"\n[spool]\nfolder = \"{dir}\"")
        .listener("limit = { response_spool = \"2MiB\" }")
        .cluster("capacity = 1\nlane = 0")
        .start();
    let mut late = ask(&juggler, "/big");
    eventually(PATIENCE, "in the spool", || {
        summary(&juggler, " KiB in spool").is_some_and(|spool| spool >= 2000)
    });
    let spool = summary(&juggler, " KiB in spool").unwrap();
    assert!(spool <= 2048, "{spool} KiB in the spool");
    assert!(late.read_response().expect(200).body == pattern[..]);
}

#[test]
fn a_disk_that_is_full_is_logged_and_cuts_no_client() {
    let (origin, pattern) = serving(30 << 20);
    let config = Config::new([origin.address()])
        .top("[spool]\nfolder = \"{dir}/small\"")
        .listener("limit = { body_memory = \"64KiB\" }")
        .cluster("capacity = 2")
        .text();
    let start = Start::config(&config);
    let folder = start.folder().join("small");
    fs::create_dir(&folder).unwrap();
    let script = "mount -t tmpfs -o size=2m none \"$0\" && exec \"$@\"";
    let juggler = start
        .by([
            "unshare",
            "-rm",
            "sh",
            "-c",
            script,
            folder.to_str().unwrap(),
        ])
        .ready();
    let mut late = ask(&juggler, "/big/late");
    let mut fast = ask(&juggler, "/big/fast");
    assert!(fast.read_response().expect(200).body == pattern[..]);
    juggler.wait_for_log("spool: no file in");
    assert!(late.read_response().expect(200).body == pattern[..]);
    let told = juggler
        .log()
        .iter()
        .filter(|line| line.contains("spool:"))
        .count();
    assert_eq!(told, 1, "once a minute");
    let refused = Client::connect(juggler.address()).post("/", vec![b'x'; 4 << 20]);
    assert_eq!(refused.status, 503, "{}", refused.text());
    Client::connect(juggler.address()).get("/").expect(200);
}

#[test]
fn clients_that_take_nothing_are_cut_in_time_and_cost_others_nothing() {
    const STALLED: usize = 120;
    let (origin, pattern) = serving(8 << 20);
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\n[spool]\nfolder = \"{dir}\"\nlimit = \"4GiB\"")
        .listener("timeout = { write = \"3s\" }")
        .cluster("capacity = 4\nqueue = { limit = 1000, timeout = \"120s\" }")
        .start();
    let cut = || {
        juggler
            .output()
            .iter()
            .filter(|line| line.contains("end=cD"))
            .count()
    };
    let stalled: Vec<_> = (0..STALLED)
        .map(|number| {
            let mut client = Client::connect(juggler.address());
            client.receive_buffer(64 << 10);
            client.send(format!("GET /big/{number} HTTP/1.1\r\nHost: x\r\n\r\n"));
            client
        })
        .collect();
    // The response comes before the last of them is cut, because no courier waits for them.
    let mut good = ask(&juggler, "/big/good");
    assert!(good.read_response().expect(200).body == pattern[..]);
    assert!(cut() < STALLED, "the good client waited for all of them");
    let until = Instant::now() + 2 * PATIENCE;
    while cut() < STALLED && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(cut(), STALLED, "{:#?}", juggler.output());
    // The time from the response's first byte to the cut.
    let of = |line: &str, name: &str| {
        let value = line
            .split(&format!(" {name}="))
            .nth(1)?
            .split("ms")
            .next()?;
        value.parse::<f64>().ok()
    };
    for line in juggler
        .output()
        .iter()
        .filter(|line| line.contains("end=cD"))
    {
        let served = of(line, "total").unwrap() - of(line, "queue").unwrap();
        assert!(
            (3000.0..12_000.0).contains(&served),
            "cut after {served} ms: {line}"
        );
    }
    drop(stalled);
}

#[test]
fn bodies_that_stand_still_give_their_places_to_new_clients() {
    const PLACES: usize = 24;
    let (origin, _) = serving(0);
    let juggler = Config::new([origin.address()])
        .top(&format!("[process]\nmax_sessions = {PLACES}"))
        .listener("timeout = { body = \"4s\" }")
        .start();
    let stopped: Vec<_> = (0..PLACES)
        .map(|_| stopped_upload(&juggler, 1000, 10))
        .collect();
    let began = Instant::now();
    for _ in 0..5 {
        let mut client = Client::connect(juggler.address());
        client.set_patience(6 * PATIENCE);
        client.get("/new").expect(200);
    }
    assert!(began.elapsed() < 6 * PATIENCE);
    drop(stopped);
}

#[test]
fn an_upload_that_goes_on_may_take_long() {
    let (origin, _) = serving(0);
    let juggler = Config::new([origin.address()])
        .listener("timeout = { body = \"600ms\" }\nlimit = { min_upload_rate = \"100B\" }")
        .start();
    let mut client = Client::connect(juggler.address());
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6000\r\n\r\n");
    let began = Instant::now();
    for _ in 0..20 {
        client.send([b'x'; 300]);
        thread::sleep(Duration::from_millis(80));
    }
    assert!(
        began.elapsed() > Duration::from_millis(1200),
        "longer than the limit"
    );
    assert_eq!(client.read_response().expect(200).text(), "6000");
}

#[test]
fn an_upload_that_drips_or_stops_or_exceeds_its_total_is_refused() {
    let (origin, _) = serving(0);
    for (limits, pause) in [
        (
            "timeout = { body = \"500ms\" }\nlimit = { min_upload_rate = \"1KiB\" }",
            20,
        ),
        (
            "timeout = { body = \"500ms\" }\nlimit = { min_upload_rate = \"0B\" }",
            10_000,
        ),
        (
            "timeout = { body = \"5s\", body_total = \"500ms\" }\nlimit = { min_upload_rate = \
             \"0B\" }",
            20,
        ),
    ] {
        let juggler = Config::new([origin.address()]).listener(limits).start();
        let mut client = Client::connect(juggler.address());
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6000\r\n\r\n");
        let (mut reader, mut writer) = client.split();
        let dripping = thread::spawn(move || {
            use std::io::Write;
            while writer.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(pause));
                if pause > 1000 {
                    break;
                }
            }
        });
        let mut answer = [0; 12];
        reader.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Read::read_exact(&mut reader, &mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408", "{limits}");
        // The balancer reads on until the client ends.
        reader.shutdown(std::net::Shutdown::Both).unwrap();
        if pause < 1000 {
            dripping.join().unwrap();
        }
    }
}

#[test]
fn chunks_of_one_byte_are_refused_if_there_are_many() {
    let (origin, _) = serving(0);
    let juggler = Config::new([origin.address()]).start();
    let upload = |chunks: usize, size: usize| {
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        let mut client = Client::connect(juggler.address());
        client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        // The balancer may refuse it before everything is sent.
        let _ = client.try_send(chunk.repeat(chunks) + "0\r\n\r\n");
        client.read_response()
    };
    assert_eq!(upload(10_000, 1).expect(200).text(), "10000");
    assert_eq!(upload(100_000, 20).expect(200).text(), "2000000");
    upload(100_000, 1).expect(400);
}

#[test]
fn an_early_answer_reaches_a_client_that_writes_first() {
    let (origin, _) = serving(0);
    let juggler = Config::new([origin.address()])
        .listener("limit = { body = \"1MiB\" }\nhealth_path = \"/up\"")
        .rest(
            "[[listener]]\nname = \"redirect\"\nbind = [\"127.0.0.1:0\"]\nredirect_https = true\n",
        )
        .start();
    let body = vec![b'x'; 20 << 20];
    let cases = [
        ("main", "/too-large", 413),
        ("main", "/up", 200),
        ("redirect", "/", 308),
    ];
    for (listener, path, status) in cases {
        let mut client = Client::connect(juggler.address_of(listener));
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        assert_eq!(client.read_response().status, status);
    }
    // In chunks, refused in the middle.
    let mut client = Client::connect(juggler.address_of("main"));
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..200 {
        client.send(&chunk);
    }
    client.read_response().expect(413);
}

#[test]
fn a_client_that_reads_steadily_and_slowly_is_not_taken_for_one_that_takes_nothing() {
    let (origin, _) = serving(64 << 20);
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\n[spool]\nfolder = \"{dir}\"")
        .listener("timeout = { write = \"1500ms\" }")
        .start();
    let mut client = Client::connect(juggler.address());
    client.receive_buffer(256 << 10);
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    // At this rate a third of what the kernel holds takes far longer than the time limit.
    let began = Instant::now();
    let mut read = 0;
    while began.elapsed() < Duration::from_secs(6) {
        match client.try_read_a_little() {
            Ok(bytes) => read += bytes,
            Err(problem) => panic!("{problem} after {read} bytes: {:#?}", juggler.output()),
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(
        !juggler.output().iter().any(|line| line.contains("/big")),
        "{:#?}",
        juggler.output()
    );
    assert!(read > 0);
    drop(client);
    let line = juggler.wait_for_output("/big");
    assert!(line.contains("end=CD"), "{line}");
}

#[test]
fn a_client_that_trickles_holds_no_worker_without_end() {
    let (origin, _) = serving(20 << 20);
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\n[spool]\nlimit = \"0B\"")
        .listener(
            "timeout = { write = \"2s\" }\nlimit = { response_memory = \"0B\", min_rate = \
             \"1MiB\" }",
        )
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    client.receive_buffer(32 << 10);
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    let trickling = thread::spawn(move || {
        // Bytes always flow, and never a mebibyte in a second.
        loop {
            match client.try_read_a_little() {
                Ok(0) | Err(_) => return,
                Ok(_) => thread::sleep(Duration::from_millis(150)),
            }
        }
    });
    let line = juggler.wait_for_output("/big");
    assert!(line.contains("end=cD"), "{line}");
    trickling.join().unwrap();
    Client::connect(juggler.address()).get("/").expect(200);
}

#[test]
fn while_a_worker_waits_with_the_last_piece_no_other_request_is_begun() {
    let (origin, _) = serving(1 << 20);
    let juggler = Config::new([origin.address()])
        .top("[spool]\nlimit = \"0B\"")
        .listener("limit = { response_memory = \"4KiB\" }")
        .cluster("capacity = 2\nqueue = { timeout = \"1s\" }")
        .start();
    origin.wait_for_connections(2);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(juggler.address());
        client.receive_buffer(32 << 10);
        client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n".repeat(6));
        clients.push(client);
    }
    // Deadlines of queues are met, whatever those clients wait for.
    for _ in 0..3 {
        let mut other = Client::connect(juggler.address());
        let status = other.get("/other").status;
        assert!([200, 504].contains(&status), "{status}");
    }
    for client in &mut clients {
        client.receive_buffer(1 << 20);
        for _ in 0..6 {
            assert_eq!(client.read_response().expect(200).body.len(), 1 << 20);
        }
    }
}
