//! A connection to a server that a test plays: neither sockets nor clocks.

use std::net::Shutdown;
use std::sync::Arc;

use crate::base::buffers::BufferPool;
use crate::exchange::Spool;
use crate::proto::h1::parse_request;
use crate::upstream::played::{Coming, Played};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

const TIMEOUT: ClusterTimeout = ClusterTimeout {
    connect: SECOND,
    send: SECOND,
    first_byte: Duration::from_secs(3),
    read: Duration::from_secs(2),
    stream: SECOND,
    abort: SECOND,
};

const LIMITS: HeadLimits = HeadLimits {
    head: 8192,
    fields: 100,
    target: 8192,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";

const PUT: &str =
    "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n";

fn connection(played: &Arc<Played>) -> Connection {
    let address = ServerAddress::Tcp(([127, 0, 0, 1], 1).into());
    Connection::new(played.into(), address, &TIMEOUT, LIMITS).unwrap()
}

fn request(text: &str, body: &[u8]) -> Request {
    let mut request = Request::default();
    parse_request(text.as_bytes(), &LIMITS, &mut request.head).unwrap();
    request.keep(text.as_bytes());
    let pool = BufferPool::new(64 * 1024, 64 * 1024);
    let spool = Spool::new(std::env::temp_dir(), 0);
    let stored = request.body.append(body, usize::MAX, &pool, &spool);
    assert_eq!(stored, body.len());
    request
}

fn send(
    connection: &mut Connection,
    request: &mut Request,
    upload: &mut Upload,
) -> Result<(), SendError> {
    connection.send(request, upload, &mut [0; 64], SECOND)
}

fn bytes(text: &str) -> Coming {
    Coming::Bytes(text.as_bytes().to_vec())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_request_goes_out_whole_in_whatever_pieces_the_server_takes_it() {
    let whole = format!("{PUT}hello");
    for room in 0..whole.len() {
        let grants = [3, 1, usize::MAX];
        let played = Played::taking(room, grants, []);
        let (mut connection, mut request) = (connection(&played), request(PUT, b"hello"));
        let mut upload = Upload::default();
        send(&mut connection, &mut request, &mut upload).unwrap();
        assert!(upload.is_whole && upload.has_begun);
        assert_eq!(text(&played.sent()), whole, "{room} bytes first");
        assert!(connection.settle(), "nothing is left of it");
    }
}

#[test]
fn an_answer_that_comes_early_stops_a_request_which_can_go_on_where_it_was() {
    let played = Played::taking(
        PUT.len() + 2,
        [],
        [bytes("HTTP/1.1 102 Processing\r\n\r\n")],
    );
    let (mut connection, mut request) = (connection(&played), request(PUT, b"hello"));
    let mut upload = Upload::default();
    let stopped = send(&mut connection, &mut request, &mut upload);
    assert!(matches!(stopped, Err(SendError::Answered)));
    assert!(upload.has_begun && !upload.is_whole);
    let length = connection.fill(SECOND).unwrap();
    connection.consume(length);
    played.grant(100);
    send(&mut connection, &mut request, &mut upload).unwrap();
    assert_eq!(text(&played.sent()), format!("{PUT}hello"));
    assert!(connection.settle());
}

#[test]
fn a_connection_that_has_half_a_request_is_of_no_use() {
    let played = Played::taking(10, [], [bytes("HTTP/1.1 413 \r\n\r\n")]);
    let (mut connection, mut request) = (connection(&played), request(PUT, b"hello"));
    let stopped = send(&mut connection, &mut request, &mut Upload::default());
    assert!(matches!(stopped, Err(SendError::Answered)));
    let length = connection.fill(SECOND).unwrap();
    connection.consume(length);
    assert!(!connection.settle());
}

#[test]
fn what_broke_says_whether_anything_went_out() {
    let played = Played::saying([Coming::Reset]);
    let (mut connection, mut request) = (connection(&played), request(PUT, b"hello"));
    let mut upload = Upload::default();
    let broken = send(&mut connection, &mut request, &mut upload);
    assert!(matches!(broken, Err(SendError::Broken { unsent: true })));
    assert!(!upload.has_begun);

    let played = Played::taking(10, [], [Coming::End]);
    let mut connection = self::connection(&played);
    let stopped = send(&mut connection, &mut request, &mut upload);
    assert!(matches!(stopped, Err(SendError::Answered)), "an end is one");
    played.shutdown(Shutdown::Both);
    let broken = send(&mut connection, &mut request, &mut upload);
    assert!(matches!(broken, Err(SendError::Broken { unsent: false })));
}

#[test]
fn a_server_that_takes_nothing_is_given_up() {
    let played = Played::taking(3, [4], []);
    let (mut connection, mut request) = (connection(&played), request(GET, b""));
    let late = send(&mut connection, &mut request, &mut Upload::default());
    assert!(matches!(late, Err(SendError::Timeout)));
    assert_eq!(played.sent().len(), 7);
}

#[test]
fn a_body_with_trailers_goes_out_in_chunks() {
    const CHUNKED: &str = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let sent = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: \
                keep-alive\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for room in [0, 1, 80, 90, usize::MAX] {
        let played = Played::taking(room, [1, 2, usize::MAX], []);
        let (mut connection, mut request) = (connection(&played), request(CHUNKED, b"hello"));
        request.body.trailers.extend_from_slice(b"A: b\r\n");
        send(&mut connection, &mut request, &mut Upload::default()).unwrap();
        assert_eq!(text(&played.sent()), sent);
    }
}

#[test]
fn an_attempt_encodes_the_request_anew() {
    let played = Played::saying([]);
    let (mut connection, mut request) = (connection(&played), request(GET, b""));
    request.encoded.extend_from_slice(b"of an earlier attempt");
    send(&mut connection, &mut request, &mut Upload::default()).unwrap();
    send(&mut connection, &mut request, &mut Upload::default()).unwrap();
    assert_eq!(text(&played.sent()), GET.repeat(2));
}

#[test]
fn an_idle_connection_is_quiet_until_something_comes() {
    let played = Played::saying([]);
    let mut connection = connection(&played);
    assert!(connection.is_quiet() && connection.is_silent());
    connection.idle_limit = Some(Duration::ZERO);
    assert!(!connection.is_quiet() && connection.is_silent());
    connection.idle_limit = Some(60 * SECOND);
    assert!(connection.is_quiet());
    played.say(bytes("x"));
    assert!(!connection.is_quiet() && connection.says_more(SECOND));
    assert_eq!(connection.fill_now().unwrap().unwrap(), 1);
    assert!(!connection.is_silent() && !connection.has_ended());
    assert!(!connection.settle(), "a byte is left that nobody asked for");
    played.say(Coming::End);
    assert!(connection.has_ended() && !connection.is_quiet());
}

#[test]
fn another_thread_sends_small_requests_over_idle_connections_alone() {
    let now = Instant::now();
    let played = Played::saying([]);
    let mut connection = connection(&played);
    let upload = connection.idle().send(&mut request(PUT, b"hello"), now);
    assert!(upload.has_begun && upload.is_whole && upload.began_at().is_some());
    assert_eq!(text(&played.sent()), format!("{PUT}hello"));

    let size = SMALL as usize;
    let long = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    let upload = connection
        .idle()
        .send(&mut request(&long, &vec![0; size]), now);
    assert!(!upload.has_begun, "head and body do not fit");
    let mut with_trailers = request(PUT, b"hello");
    with_trailers.body.trailers.extend_from_slice(b"A: b\r\n");
    assert!(!connection.idle().send(&mut with_trailers, now).has_begun);
    connection.idle_limit = Some(SECOND);
    let late = after(Instant::now(), SECOND);
    assert!(
        !connection
            .idle()
            .send(&mut request(GET, b""), late)
            .has_begun
    );
    played.say(Coming::End);
    assert!(
        !connection
            .idle()
            .send(&mut request(GET, b""), now)
            .has_begun
    );
}

#[test]
fn what_another_thread_has_begun_to_send_its_worker_sends_to_the_end() {
    let played = Played::taking(PUT.len() + 1, [usize::MAX], []);
    let (mut connection, mut request) = (connection(&played), request(PUT, b"hello"));
    let mut upload = connection.idle().send(&mut request, Instant::now());
    assert!(upload.has_begun && !upload.is_whole);
    send(&mut connection, &mut request, &mut upload).unwrap();
    assert_eq!(text(&played.sent()), format!("{PUT}hello"));
}

#[test]
fn a_wait_is_made_of_ticks_and_ends_by_what_is_left() {
    let played = Played::saying([]);
    let mut connection = connection(&played);
    assert_eq!(connection.fill(5 * SECOND), Err(Fault::ReadTimeout));
    // The shorter of both timeouts, twice, and what is left then.
    assert_eq!(played.patience(), [2 * SECOND, SECOND]);
    played.say(Coming::Pause);
    played.say(bytes("x"));
    assert_eq!(connection.fill(5 * SECOND), Ok(1), "a pause is no timeout");
    connection.consume(1);
    connection.next_turn();
    assert_eq!(played.patience(), [2 * SECOND, SECOND, 2 * SECOND]);
    // A little less than a tick is not worth a system call, half of it is.
    let _ = connection.fill(2 * SECOND - SECOND / 64);
    assert_eq!(played.patience().len(), 3);
    let _ = connection.fill(SECOND);
    assert_eq!(played.patience()[3..], [SECOND]);
}

#[test]
fn an_end_and_a_reset_are_told_apart() {
    let played = Played::saying([bytes("ab"), Coming::End]);
    let mut connection = connection(&played);
    assert_eq!(connection.fill(SECOND), Ok(2));
    assert_eq!(connection.fill(SECOND), Ok(0));
    assert_eq!(connection.data(), b"ab");
    let mut connection = self::connection(&Played::saying([Coming::Reset]));
    assert_eq!(connection.fill(SECOND), Err(Fault::ResponseCut));
    assert_eq!(connection.fill_now(), Some(Err(Fault::ResponseCut)));
}

#[test]
fn the_input_takes_what_fits_and_makes_room_of_what_is_used() {
    let played = Played::saying([Coming::Bytes(vec![b'a'; ROOM]), bytes("b")]);
    let mut connection = connection(&played);
    assert_eq!(connection.fill(SECOND), Ok(ROOM));
    assert!(connection.is_full());
    connection.consume(ROOM - 1);
    assert!(!connection.is_full());
    assert_eq!(connection.fill_now(), Some(Ok(1)));
    assert_eq!(connection.data(), b"ab");
    connection.consume(2);
    assert_eq!(connection.fill_now(), None);
}

#[test]
fn a_small_request_or_several_heads_that_do_not_fit_spoil_the_connection() {
    let played = Played::taking(2 * GET.len() + 3, [], []);
    let mut connection = connection(&played);
    assert!(connection.send_small(GET.as_bytes()) && connection.settle());
    let sent = connection.send_heads(GET.repeat(2).as_bytes());
    assert_eq!(sent, GET.len() + 3);
    assert!(connection.has_pipelined && !connection.settle());
}

#[test]
fn a_link_is_ended_on_one_side_or_on_both() {
    let played = Played::saying([bytes("x")]);
    let connection = connection(&played);
    connection.link().end();
    assert_eq!(played.how_ended(), Some(Shutdown::Write));
    assert!(
        !connection.has_ended(),
        "what the server says is still read"
    );
    connection.link().break_off();
    assert_eq!(played.how_ended(), Some(Shutdown::Both));
    assert!(connection.has_ended());
}
