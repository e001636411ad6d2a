//! Accounts, as a report tells them: what is booked where, and what a reload leaves of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;

use crate::support::{Client, Config, Juggler, Origin, PATIENCE, eventually, reload};

/// Waits until a report has an account of this beginning.
///
/// An exchange may be booked just after its client has its response.
#[track_caller]
fn expect(juggler: &Juggler, account: &str) {
    let account = format!("account of {account}");
    eventually(PATIENCE, &account, || {
        let before = juggler.log_length();
        juggler.signal(Signal::SIGUSR1);
        // The last line of a report: the cluster's servers come after it.
        juggler.wait_for_log_behind(before, "account of server ");
        let log = juggler.log();
        log[before..].iter().any(|line| line.contains(&account))
    });
}

fn ask(juggler: &Juggler, times: usize) {
    let mut client = Client::connect(juggler.address());
    for _ in 0..times {
        client.get("/").expect(200);
    }
}

#[test]
fn an_exchange_is_booked_with_all_that_it_has_passed() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            // The first attempt fails, and another one follows.
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                return;
            }
            conn.answer(200, "good");
        }
    });
    let mut juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    ask(&juggler, 3);
    // It comes to no cluster.
    let mut client = Client::connect(juggler.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    client.read_response().expect(400);
    expect(&juggler, "server main/s0: 3 requests, 1 retries, ");
    expect(&juggler, "cluster main: 3 requests, 1 retries, ");
    expect(&juggler, "listener main: 4 requests, 1 retries, ");
    let log = juggler.log();
    let of_listener = log
        .iter()
        .rfind(|line| line.contains("account of listener main: 4"));
    assert!(
        of_listener
            .unwrap()
            .contains("; 1 x PR: the request is malformed")
    );
    let of_cluster = log
        .iter()
        .rfind(|line| line.contains("account of cluster main: 3"));
    assert!(!of_cluster.unwrap().contains(" x "));
    assert_eq!(juggler.stop(), Some(0));
    juggler.wait_for_log(", 4 requests, 1 retries, 0 panics, ");
}

#[test]
fn accounts_go_on_over_a_reload_for_what_stays_and_end_with_what_goes() {
    let (stays, goes) = (Origin::answering("stays"), Origin::answering("goes"));
    let config = |addresses: &[String]| Config::new(addresses).cluster("capacity = 1");
    let addresses = [stays.address().to_string(), goes.address().to_string()];
    let juggler = config(&addresses).start();
    stays.wait_for_connections(1);
    goes.wait_for_connections(1);
    // The servers take turns.
    ask(&juggler, 6);
    expect(&juggler, "server main/s0: 3 requests, ");
    expect(&juggler, "server main/s1: 3 requests, ");
    reload(&juggler, &config(&addresses[..1]).text(), "reloaded");
    ask(&juggler, 2);
    expect(&juggler, "server main/s0: 5 requests, ");
    reload(&juggler, &config(&addresses).text(), "reloaded");
    // The same name and address, but another server than before.
    expect(&juggler, "server main/s1: 0 requests, ");
    expect(&juggler, "server main/s0: 5 requests, ");
    expect(&juggler, "cluster main: 8 requests, ");
    expect(&juggler, "listener main: 8 requests, ");
}
