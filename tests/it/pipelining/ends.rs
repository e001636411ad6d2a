//! Batches at a stop, at a reload, and from a server that breaks again and again.

use super::*;

#[test]
fn a_batch_is_finished_at_a_stop_and_whatever_is_reloaded() {
    let (gate, middle) = (Gate::new(), Gate::new());
    let hold = middle.clone();
    let origin = held(&gate, move |conn, requests| {
        answer(conn, &requests[0]);
        hold.wait();
        for request in &requests[1..3] {
            answer(conn, request);
        }
    });
    let mut juggler = before(&origin, "");
    let waiting = release(&juggler, &gate, &paths(6));
    middle.wait_for(1);
    juggler.signal(Signal::SIGHUP);
    juggler.signal(Signal::SIGTERM);
    juggler.wait_for_log("stopping");
    middle.open();
    // Some of them after the connection was lost.
    waiting.all_answered();
    assert_eq!(juggler.wait(PATIENCE), Some(0));
    origin.assert_no_failures();
}

#[test]
fn at_the_end_of_the_time_to_stop_a_batch_is_broken_off() {
    let (gate, middle) = (Gate::new(), Gate::new());
    let hold = middle.clone();
    let origin = held(&gate, move |conn, requests| {
        answer(conn, &requests[0]);
        hold.wait();
        conn.wait_for_close();
    });
    let mut juggler = Config::new([origin.address()])
        .top(
            "[process]\nsummary = \"1s\"\ndrain = \"1s\"\n[log]\naccess = \"stdout\"\nformat = \
             \"json\"",
        )
        .cluster("capacity = 1\npipeline = 8")
        .start();
    origin.wait_for_connections(1);
    let waiting = release(&juggler, &gate, &paths(4));
    middle.wait_for(1);
    middle.open();
    let sent = targets(&origin);
    juggler.signal(Signal::SIGTERM);
    let others = waiting.answered_but(&[&sent[2], &sent[3], &sent[4]]);
    for mut client in others {
        client.read_response().expect(503);
    }
    assert_eq!(juggler.wait(PATIENCE), Some(0));
    assert_eq!(origin.connections_ever(), 1);
    origin.assert_no_failures();
}

#[test]
fn a_worker_whose_batches_break_again_and_again_sends_no_more_of_them() {
    let gate = Gate::new();
    let (hold, batches) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&batches);
    let origin = Origin::start(move |conn, _| {
        loop {
            let requests = batch(conn);
            let Some(first) = requests.first() else {
                return;
            };
            if first.target == "/held" {
                hold.wait();
            }
            answer(conn, first);
            if requests.len() > 1 {
                seen.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    });
    let juggler = before(&origin, "");
    release(&juggler, &gate, &paths(40)).all_answered();
    assert_eq!(batches.load(Ordering::SeqCst), 3);
    juggler.wait_for_log("3 batches in a row broke");
    assert_eq!(origin.connections_ever(), 4);
    origin.assert_no_failures();
}

/// Numbers that look random, the same ones each time.
fn roll(dice: &AtomicUsize, sides: usize) -> usize {
    let step = dice.fetch_add(1, Ordering::Relaxed) as u64;
    let mixed = (step + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as usize % sides
}

#[test]
fn in_a_storm_everybody_gets_the_own_answer_from_a_server_that_breaks_at_random() {
    const CLIENTS: usize = 24;
    const EACH: usize = 150;
    let dice = Arc::new(AtomicUsize::new(0));
    let batched = Arc::new(AtomicUsize::new(0));
    let (rolls, seen) = (Arc::clone(&dice), Arc::clone(&batched));
    let origin = Origin::start(move |conn, _| {
        loop {
            let requests = batch(conn);
            if requests.is_empty() {
                return;
            }
            seen.fetch_add(requests.len() - 1, Ordering::Relaxed);
            for (place, request) in requests.iter().enumerate() {
                let is_last = place + 1 == requests.len();
                let body = &request.target;
                let response = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                match roll(&rolls, 60) {
                    0 => return,
                    1 => {
                        conn.send(response);
                        conn.reset();
                        return;
                    }
                    2 => {
                        conn.send(response.replacen("\r\n", "\r\nConnection: close\r\n", 1));
                        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
                        return;
                    }
                    // Malformed only where it may be another's fault: a first response that is so
                    // is an error.
                    3 if place > 0 => {
                        conn.send("wrong\r\n\r\n");
                        conn.wait_for_close();
                        return;
                    }
                    4 if is_last => {
                        conn.send(response + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
                        conn.wait_for_close();
                        return;
                    }
                    5 => conn.send(format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: \
                         chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                        body.len()
                    )),
                    _ => conn.send(response),
                }
            }
        }
    });
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\nformat = \"json\"")
        .cluster(
            "capacity = 2\npipeline = 8\nretry = { attempts = 100, budget = \"100%\" \
             }\non_unavailable = \"queue\"",
        )
        .start();
    origin.wait_for_connections(2);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let address = juggler.address();
            scope.spawn(move || {
                let mut client = Client::connect(&address);
                for round in 0..EACH {
                    // Some leave before they are answered, and come again.
                    if (number + round) % 37 == 0 {
                        client.send(get(&format!("/{number}/{round}/left")));
                        client = Client::connect(&address);
                    }
                    let path = format!("/{number}/{round}");
                    assert_eq!(client.get(&path).expect(200).text(), path);
                    assert!(client.leftover().is_empty());
                }
            });
        }
    });
    assert!(batched.load(Ordering::Relaxed) > 0, "nothing was pipelined");
    // Each is logged once.
    eventually(PATIENCE, "all logged", || {
        juggler.output().len() >= CLIENTS * EACH
    });
    let mut lines = HashMap::<String, usize>::new();
    for line in juggler.output() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        *lines
            .entry(line["request"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    assert!(lines.values().all(|&count| count == 1), "{lines:?}");
    origin.assert_no_failures();
}
