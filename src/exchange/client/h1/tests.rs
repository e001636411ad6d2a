//! Responses as clients get them, and exchanges that take turns, over a played wire.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exchange::client::wire::played::Meets::{self, Broken, Full, Room};
use crate::exchange::client::wire::played::Played;
use crate::exchange::client::wire::support::{Limits, Note, Notes, Secured, hub, origin, visit};
use crate::exchange::client::wire::{Sent, Transport, Wire, Without};
use crate::exchange::registry::Listed;
use crate::fault::Fault;
use crate::http::{Length, Method, RequestHead, ResponseHead, Version};
use crate::proto::h1::{HeadLimits, parse_request, parse_response};

use super::reply::{Asked, H1Reply};
use super::scratch::Scratch;
use super::talk::Client;
use super::turn::{Left, Opened, Turn};

const LIMITS: HeadLimits = HeadLimits {
    head: 8192,
    fields: 100,
    target: 8192,
};

struct Fixture {
    client: Arc<Client<Note>>,
    played: Arc<Played>,
    notes: Notes,
    scratch: Scratch,
}

impl Fixture {
    fn new(writes: impl IntoIterator<Item = Meets>) -> Self {
        let limits = Limits {
            memory: 10_000,
            spool: 0,
            write: Duration::from_secs(60),
        };
        let played = Played::meeting(writes);
        let transport = Transport::Played(Arc::clone(&played));
        let client = Wire::over(
            transport,
            &hub(),
            origin(limits),
            None,
            Turn::Free,
            Instant::now(),
        );
        Self {
            client,
            played,
            notes: Notes::default(),
            scratch: Scratch::default(),
        }
    }

    /// Opens an exchange and returns what its response is said to.
    fn open(&self, id: u64) -> H1Reply<Note> {
        assert_eq!(self.client.open(id), Opened::Yes);
        H1Reply::new(&self.client)
    }

    fn head(&mut self, reply: &mut H1Reply<Note>, text: &str, length: Length, asked: Asked) {
        let mut head = ResponseHead::default();
        parse_response(text.as_bytes(), Method::Get, &LIMITS, &mut head).unwrap();
        reply.head(&mut self.scratch, text.as_bytes(), &head, length, asked);
    }

    fn data(&mut self, reply: &H1Reply<Note>, content: &str) -> Sent {
        reply.data(&mut self.scratch, content.as_bytes(), &mut 0)
    }

    fn finish(&mut self, reply: &H1Reply<Note>, id: u64, content: &str, trailers: &str) {
        let note = self.notes.note(id);
        let (content, trailers) = (content.as_bytes(), trailers.as_bytes());
        reply.finish(&mut self.scratch, content, trailers, note);
    }

    /// Says a whole response, and returns what the client gets.
    fn respond(mut self, asked: Asked, head: &str, length: Length, pieces: &[&str]) -> String {
        let mut reply = self.open(1);
        self.head(&mut reply, head, length, asked);
        for piece in pieces {
            assert_eq!(self.data(&reply, piece), Sent::All);
        }
        self.finish(&reply, 1, "", "");
        assert_eq!(self.notes.take(), [(1, None)]);
        self.received()
    }

    fn received(&self) -> String {
        String::from_utf8(self.played.received()).unwrap()
    }

    fn deliver(&self) {
        visit(&self.client);
    }
}

fn asked(text: &str) -> Asked {
    let mut head = RequestHead::default();
    let text = format!("{text}\r\nHost: a\r\n\r\n");
    parse_request(text.as_bytes(), &LIMITS, &mut head).unwrap();
    Asked::of(&head)
}

fn get() -> Asked {
    asked("GET / HTTP/1.1")
}

const OK: &str = "HTTP/1.1 200 OK\r\nDate: now\r\n\r\n";

// === How a response looks

#[test]
fn a_body_of_unknown_length_goes_in_chunks_or_to_an_old_client_up_to_the_end() {
    let unknown = Length::Unknown;
    assert_eq!(
        Fixture::new([]).respond(get(), OK, unknown, &["abc", "", "de"]),
        "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    );
    let client = Fixture::new([]);
    let played = Arc::clone(&client.played);
    let old = asked("GET / HTTP/1.0\r\nConnection: keep-alive");
    assert_eq!(
        client.respond(old, OK, unknown, &["abc", "de"]),
        "HTTP/1.1 200 OK\r\nDate: now\r\nConnection: close\r\n\r\nabcde"
    );
    assert_eq!(played.shutdowns(), [Shutdown::Write]);
}

#[test]
fn a_body_of_known_length_goes_as_it_is_and_the_connection_stays_as_the_client_wants() {
    let known = Length::Known(5);
    let said = |asked| Fixture::new([]).respond(asked, OK, known, &["abc", "de"]);
    assert_eq!(
        said(get()),
        "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nabcde"
    );
    assert_eq!(
        said(asked("GET / HTTP/1.0\r\nConnection: keep-alive")),
        "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nabcde"
    );
    for closing in ["GET / HTTP/1.1\r\nConnection: close", "GET / HTTP/1.0"] {
        assert_eq!(
            said(asked(closing)),
            "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcde"
        );
    }
}

#[test]
fn responses_that_have_no_body_end_with_their_heads() {
    let head = asked("HEAD / HTTP/1.1");
    for (asked, text) in [
        (get(), "HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n"),
        (
            get(),
            "HTTP/1.1 304 Not Modified\r\nDate: now\r\nETag: \"a\"\r\n\r\n",
        ),
        (head, OK),
    ] {
        assert_eq!(
            Fixture::new([]).respond(asked, text, Length::None, &[]),
            text
        );
    }
}

#[test]
fn a_date_is_added_where_the_server_has_sent_none() {
    let said = Fixture::new([]).respond(get(), "HTTP/1.1 204 \r\n\r\n", Length::None, &[]);
    let date = said.strip_prefix("HTTP/1.1 204 \r\nDate: ").unwrap();
    assert!(date.ends_with(" GMT\r\n\r\n") && date.len() == 33, "{date}");
}

#[test]
fn the_head_goes_out_with_the_first_content_and_the_end_with_the_last() {
    let mut client = Fixture::new([]);
    let mut reply = client.open(1);
    client.head(&mut reply, OK, Length::Unknown, get());
    assert_eq!(client.received(), "", "it is kept back");
    assert_eq!(client.data(&reply, "abc"), Sent::All);
    assert!(client.received().ends_with("\r\n\r\n3\r\nabc\r\n"));
    client.finish(&reply, 1, "d", "A: b\r\n");
    assert!(
        client
            .received()
            .ends_with("abc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\n")
    );
    assert_eq!(client.client.open(2), Opened::Yes);
}

#[test]
fn interim_responses_decide_nothing_and_an_old_client_gets_none() {
    let mut client = Fixture::new([]);
    let reply = client.open(1);
    let text = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n";
    let mut head = ResponseHead::default();
    parse_response(text, Method::Get, &LIMITS, &mut head).unwrap();
    let scratch = &mut client.scratch;
    assert_eq!(
        reply.interim(scratch, text, &head, Version::Http10),
        Sent::All
    );
    assert_eq!(client.played.received(), b"");
    let sent = reply.interim(&mut client.scratch, text, &head, Version::Http11);
    assert_eq!((sent, client.played.received()), (Sent::All, text.to_vec()));
    reply.ask_for_body();
    assert!(
        client
            .received()
            .ends_with("\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
    );
    assert_eq!(
        client.client.progress_of(1),
        Some(false),
        "nothing final has begun"
    );
}

// === Cuts

#[test]
fn a_response_that_breaks_off_is_reset_only_where_an_end_would_look_like_its_end() {
    for (asked, length, is_reset) in [
        (get(), Length::Unknown, false),
        (get(), Length::Known(5), false),
        (asked("GET / HTTP/1.0"), Length::Unknown, true),
        (asked("GET / HTTP/1.0"), Length::Known(5), false),
    ] {
        let mut client = Fixture::new([]);
        let mut reply = client.open(1);
        client.head(&mut reply, OK, length, asked);
        assert_eq!(client.data(&reply, "abc"), Sent::All);
        let before = client.received();
        reply.cut(client.notes.note(1));
        assert_eq!(client.received(), before, "nothing that looks like an end");
        assert_eq!(client.played.is_reset(), is_reset, "{length:?}");
        let shutdown = if is_reset {
            Shutdown::Read
        } else {
            Shutdown::Write
        };
        assert_eq!(client.played.shutdowns(), [shutdown]);
        assert_eq!(client.notes.take(), [(1, None)]);
    }
}

#[test]
fn a_client_that_is_gone_is_told_to_the_thread_that_sends_and_ends_its_exchange() {
    let mut client = Fixture::new([Room(5), Broken]);
    let mut reply = client.open(1);
    client.head(&mut reply, OK, Length::Known(5), get());
    let gone = Fault::ClientGoneData;
    assert!(matches!(client.data(&reply, "abc"), Sent::Pending(1..)));
    assert_eq!(client.data(&reply, "de"), Sent::Gone(gone));
    client.client.drop_exchange(client.notes.note(1));
    assert_eq!(client.notes.take(), [(1, None)]);
    assert_eq!(client.client.open(2), Opened::Cut(gone));
}

#[test]
fn an_end_that_cannot_be_sent_blames_the_exchange() {
    let mut client = Fixture::new([Broken]);
    let mut reply = client.open(1);
    client.head(&mut reply, OK, Length::Known(3), get());
    client.finish(&reply, 1, "abc", "");
    assert_eq!(client.notes.take(), [(1, Some(Fault::ClientGoneData))]);
}

#[test]
fn a_cut_over_tls_that_takes_no_reset_says_no_clean_end() {
    let limits = Limits {
        memory: 10_000,
        spool: 0,
        write: Duration::from_secs(60),
    };
    for is_cut in [false, true] {
        let mut secured = Secured::new(limits, Turn::Free);
        assert_eq!(secured.wire.open(1), Opened::Yes);
        let reply = H1Reply::new(&secured.wire);
        let notes = Notes::default();
        if is_cut {
            reply.cut(notes.note(1));
        } else {
            let closing = asked("GET / HTTP/1.0");
            let answer = crate::exchange::Answer::fault(Fault::QueueFull);
            assert!(reply.answer(&answer, None, false, closing, notes.note(1)));
        }
        let (text, is_clean_end) = secured.hear();
        assert_eq!((text.is_empty(), is_clean_end), (is_cut, !is_cut));
        assert_eq!(secured.played.shutdowns(), [Shutdown::Write]);
    }
}

// === Turns

#[test]
fn the_next_exchange_is_opened_when_the_last_bytes_are_handed_in_though_not_delivered() {
    let mut client = Fixture::new([Room(10)]);
    let mut reply = client.open(1);
    assert_eq!(client.client.open(2), Opened::NotYet);
    client.head(&mut reply, OK, Length::Known(3), get());
    client.finish(&reply, 1, "abc", "");
    assert_eq!(client.notes.take(), [], "the courier has it");
    let mut reply = client.open(2);
    client.head(&mut reply, OK, Length::Known(1), get());
    client.finish(&reply, 2, "d", "");
    let one = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 3\r\n\r\nabc";
    let two = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 1\r\n\r\nd";
    client.deliver();
    assert_eq!(client.received(), format!("{one}{two}"));
    assert_eq!(client.notes.take(), [(1, None), (2, None)]);
}

#[test]
fn no_exchange_is_opened_behind_a_response_that_closes_and_the_end_comes_behind_its_bytes() {
    let mut client = Fixture::new([Room(10)]);
    let mut reply = client.open(1);
    client.head(&mut reply, OK, Length::Known(3), asked("GET / HTTP/1.0"));
    client.finish(&reply, 1, "abc", "");
    assert_eq!(client.client.open(2), Opened::Never);
    assert_eq!(client.played.shutdowns(), []);
    client.deliver();
    assert_eq!(client.played.shutdowns(), [Shutdown::Write]);
}

#[test]
fn a_client_that_says_goodbye_gets_what_is_open_and_then_the_end() {
    let mut client = Fixture::new([]);
    let mut reply = client.open(1);
    client.client.say_goodbye();
    assert_eq!(client.played.shutdowns(), []);
    client.head(&mut reply, OK, Length::Known(3), get());
    client.finish(&reply, 1, "abc", "");
    assert!(client.received().ends_with("abc"));
    assert_eq!(client.played.shutdowns(), [Shutdown::Write]);
    let client = Fixture::new([]);
    client.client.say_goodbye();
    assert_eq!(
        client.played.shutdowns(),
        [Shutdown::Write],
        "nothing is open"
    );
}

#[test]
fn a_client_that_leaves_is_cut_unless_it_may_still_read_what_it_was_answered() {
    let mut client = Fixture::new([]);
    let mut reply = client.open(1);
    client.head(&mut reply, OK, Length::Known(5), get());
    assert_eq!(client.data(&reply, "abc"), Sent::All);
    assert_eq!(client.client.leave(false), Left::Cancel(1));
    assert_eq!(client.client.gone(), None);
    assert_eq!(client.client.leave(true), Left::Cancel(1));
    assert_eq!(client.client.gone(), Some(Fault::ClientGoneData));
    let client = Fixture::new([]);
    let _reply = client.open(1);
    assert_eq!(client.client.leave(false), Left::Cancel(1));
    assert_eq!(client.client.gone(), Some(Fault::ClientGoneHead));
    let client = Fixture::new([]);
    assert_eq!(client.client.leave(false), Left::Nothing);
    assert_eq!(client.client.gone(), None);
}

#[test]
fn a_short_answer_is_kept_where_a_long_response_would_wait() {
    let client = Fixture::new([]);
    client.played.then(Full);
    let reply = client.open(1);
    let answer = crate::exchange::Answer::fault(Fault::QueueFull);
    assert!(!reply.answer(&answer, None, false, get(), client.notes.note(1)));
    assert_eq!(
        (client.received().as_str(), client.notes.take()),
        ("", vec![])
    );
    client.played.then(Room(1000));
    client.deliver();
    assert!(client.received().starts_with("HTTP/1.1 503 "));
    assert_eq!(client.notes.take(), [(1, None)]);
}

#[test]
fn an_exchange_of_another_turn_has_no_progress() {
    let mut client = Fixture::new([]);
    let mut reply = client.open(1);
    assert_eq!(client.client.progress_of(1), Some(false));
    client.head(&mut reply, OK, Length::Known(3), get());
    assert_eq!(client.data(&reply, "a"), Sent::All);
    assert_eq!(client.client.progress_of(1), Some(true));
    assert_eq!(client.client.progress_of(2), None);
    client
        .client
        .finish([], false, Without::Keep, client.notes.note(1));
    assert_eq!(client.client.progress_of(1), None);
}

#[test]
fn an_exchange_whose_client_has_to_give_way_amid_its_end_is_told_so() {
    let mut client = Fixture::new([]);
    let mut reply = client.open(1);
    client.head(&mut reply, OK, Length::Known(3), get());
    {
        // The thread that makes it give way finds another that sends.
        let _out = client.client.lock();
        client.client.condemn();
    }
    client.played.then(Broken);
    client.finish(&reply, 1, "abc", "");
    assert_eq!(client.notes.take(), [(1, Some(Fault::GaveWayResponse))]);
}
