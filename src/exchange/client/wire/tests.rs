//! A wire to a client that a test plays: no sockets, no clock.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proptest::prelude::*;

use crate::exchange::courier::Carried;
use crate::exchange::registry::Listed;
use crate::fault::Fault;

use super::played::Meets::{self, Broken, Full, Room};
use super::played::Played;
use super::support::{Limits, Note, Notes, Secured, hub, origin, visit};
use super::{Ending, Fed, Guarded, Sent, Transport, Wire, Without};

/// Something is being said, or not.
#[derive(Debug, Default)]
struct Busy(bool);

impl Guarded for Busy {
    fn is_busy(&self) -> bool {
        self.0
    }
}

struct Fixture {
    wire: Arc<Wire<Busy, Note>>,
    played: Arc<Played>,
    notes: Notes,
}

const ROOMY: Limits = Limits {
    memory: 1000,
    spool: 0,
    write: Duration::from_secs(60),
};

/// Nothing that the socket does not take has room.
const NO_ROOM: Limits = Limits { memory: 0, ..ROOMY };

impl Fixture {
    fn new(limits: Limits, writes: impl IntoIterator<Item = Meets>) -> Self {
        let played = Played::meeting(writes);
        let wire = Wire::over(
            Transport::Played(Arc::clone(&played)),
            &hub(),
            origin(limits),
            None,
            Busy::default(),
            Instant::now(),
        );
        Self {
            wire,
            played,
            notes: Notes::default(),
        }
    }

    fn push<const N: usize>(&self, pieces: [&str; N], without: Without) -> Sent {
        let mut out = self.wire.lock_to_write();
        let sent = self.wire.push(&mut out, pieces.map(str::as_bytes), without);
        self.wire.outcome(&mut out, sent)
    }

    /// Hands in an end behind what was pushed.
    fn end(&self, id: u64) {
        let mut out = self.wire.lock_to_write();
        let over = self.wire.mark_end(&mut out, self.notes.note(id));
        drop(out);
        if let Some(note) = over {
            note.complete();
        }
    }

    fn deliver(&self) {
        visit(&self.wire);
    }

    fn received(&self) -> String {
        String::from_utf8(self.played.received()).unwrap()
    }
}

#[test]
fn pieces_go_out_together_and_what_the_socket_does_not_take_is_kept_in_order() {
    let client = Fixture::new(ROOMY, []);
    assert_eq!(client.push(["ab", "", "cd"], Without::Wait), Sent::All);
    assert_eq!(client.received(), "abcd");
    // Cut in the middle of the second piece.
    let client = Fixture::new(ROOMY, [Room(3)]);
    let sent = client.push(["ab", "cdef", "gh"], Without::Wait);
    assert_eq!(
        (sent, client.received().as_str()),
        (Sent::Pending(5), "abc")
    );
    assert_eq!(client.played.waits(), 0, "memory had room");
    // What comes next waits behind it, and goes out with it.
    client.played.meet([Room(2), Full]);
    assert_eq!(client.push(["ij"], Without::Wait), Sent::Pending(5));
    assert_eq!(client.push(["k"], Without::Wait), Sent::All);
    assert_eq!(client.received(), "abcdefghijk");
}

#[test]
fn a_client_that_breaks_off_in_the_middle_of_a_write_is_gone_for_good() {
    let client = Fixture::new(ROOMY, [Room(1), Broken]);
    let gone = Sent::Gone(Fault::ClientGoneData);
    assert_eq!(client.push(["abc"], Without::Wait), Sent::Pending(2));
    assert_eq!(client.push(["d"], Without::Wait), gone);
    assert_eq!(client.wire.gone(), Some(Fault::ClientGoneData));
    assert_eq!(client.push(["e"], Without::Keep), gone);
    assert_eq!(client.received(), "a");
    assert_eq!(client.played.shutdowns(), [Shutdown::Both]);
    assert!(!client.played.is_reset() && client.wire.is_closing());
}

#[test]
fn an_exchange_ends_when_its_last_byte_is_delivered_by_a_courier_or_at_once() {
    let client = Fixture::new(ROOMY, [Room(2)]);
    assert_eq!(client.push(["abc"], Without::Wait), Sent::Pending(1));
    client.end(1);
    assert_eq!(client.notes.take(), []);
    assert_eq!(client.wire.idle_since(), None, "it still delivers");
    // A courier was called for it, and no other thread writes.
    assert_eq!(client.push(["de"], Without::Wait), Sent::Pending(3));
    client.end(2);
    assert_eq!(client.received(), "ab");
    client.played.meet([Room(2)]);
    client.deliver();
    assert_eq!(
        (client.received(), client.notes.take()),
        ("abcd".into(), vec![(1, None)])
    );
    client.deliver();
    assert_eq!(
        (client.received(), client.notes.take()),
        ("abcde".into(), vec![(2, None)])
    );
    assert!(client.wire.idle_since().is_some());
    // The courier is gone: the next piece goes out at once.
    assert_eq!(client.push(["f"], Without::Wait), Sent::All);
    client.end(3);
    assert_eq!(client.notes.take(), [(3, None)]);
}

#[test]
fn a_courier_that_meets_the_end_cuts_the_client_and_what_it_was_to_get() {
    let client = Fixture::new(ROOMY, [Full]);
    assert_eq!(client.push(["abc"], Without::Wait), Sent::Pending(3));
    client.end(1);
    assert_eq!(client.push(["def"], Without::Wait), Sent::Pending(6));
    client.end(2);
    client.played.meet([Room(1), Broken]);
    client.deliver();
    assert_eq!(client.wire.gone(), None);
    client.deliver();
    let gone = Some(Fault::ClientGoneData);
    assert_eq!(client.notes.take(), [(1, gone), (2, gone)]);
    assert_eq!(client.wire.gone(), gone);
}

#[test]
fn what_memory_has_no_room_for_goes_to_the_spool_and_short_answers_stay_all_the_same() {
    let limits = Limits {
        memory: 4,
        spool: 6,
        ..ROOMY
    };
    let client = Fixture::new(limits, []);
    client.played.then(Full);
    assert_eq!(
        client.push(["0123456789"], Without::Wait),
        Sent::Pending(10)
    );
    let sent = client.push(["more than there is room for"], Without::Keep);
    assert_eq!(sent, Sent::Pending(37));
    assert_eq!(client.played.waits(), 0);
    client.end(1);
    client.played.then(Room(7));
    while client.notes.take().is_empty() {
        client.deliver();
    }
    assert_eq!(client.received(), "0123456789more than there is room for");
    assert_eq!(client.wire.hub().spool.used(), 0);
}

#[test]
fn a_long_response_for_which_nothing_has_room_waits_for_its_client() {
    let client = Fixture::new(NO_ROOM, [Room(1), Full, Room(2), Full, Full, Room(9)]);
    assert_eq!(client.push(["abc", "def"], Without::Wait), Sent::All);
    assert_eq!(
        (client.received().as_str(), client.played.waits()),
        ("abcdef", 5)
    );
    let out = client.wire.lock();
    assert!(
        out.is_delivered() && !out.is_occupied(),
        "no thread holds bytes any more"
    );
}

#[test]
fn a_client_that_takes_nothing_in_its_time_is_reset() {
    let limits = Limits {
        write: Duration::ZERO,
        ..NO_ROOM
    };
    let client = Fixture::new(limits, []);
    client.played.then(Full);
    let gone = Sent::Gone(Fault::SlowClient);
    assert_eq!(client.push(["abc"], Without::Wait), gone);
    assert!(client.played.is_reset());
    assert_eq!(client.played.shutdowns(), [Shutdown::Both]);
}

#[test]
fn a_courier_cuts_a_client_that_takes_too_little() {
    let client = Fixture::new(ROOMY, [Full]);
    assert_eq!(client.push(["abc"], Without::Wait), Sent::Pending(3));
    client.end(1);
    let now = Instant::now();
    client.wire.look_at_pace(now + ROOMY.write / 2);
    assert_eq!(client.wire.gone(), None);
    client.wire.look_at_pace(now + ROOMY.write * 2);
    assert_eq!(client.notes.take(), [(1, Some(Fault::SlowClient))]);
    assert!(client.played.is_reset());
}

#[test]
fn a_hard_cut_shows_no_end_unless_undelivered_bytes_are_in_front_of_it() {
    let client = Fixture::new(ROOMY, []);
    assert_eq!(client.push(["abc"], Without::Wait), Sent::All);
    client
        .wire
        .reset(&mut client.wire.lock_to_write(), Fault::ResponseCut);
    assert!(client.played.is_reset());
    assert_eq!(
        client.played.shutdowns(),
        [Shutdown::Read],
        "no end is sent"
    );
    let client = Fixture::new(ROOMY, [Full]);
    assert_eq!(client.push(["abc"], Without::Wait), Sent::Pending(3));
    client.wire.hand_over();
    client
        .wire
        .reset(&mut client.wire.lock_to_write(), Fault::ResponseCut);
    assert_eq!(client.played.shutdowns(), [Shutdown::Both]);
    // A second cut changes nothing.
    client
        .wire
        .die(&mut client.wire.lock_to_write(), Fault::SlowClient);
    assert_eq!(client.wire.gone(), Some(Fault::ResponseCut));
}

#[test]
fn at_the_end_of_the_process_only_what_is_not_finished_is_cut() {
    let client = Fixture::new(ROOMY, []);
    client.wire.abandon(Fault::Draining);
    assert_eq!(client.wire.gone(), None, "it is idle");
    client.wire.lock().turn.0 = true;
    client.wire.abandon(Fault::Draining);
    assert_eq!(client.wire.gone(), Some(Fault::Draining));
    let client = Fixture::new(ROOMY, [Full]);
    assert_eq!(client.push(["abc"], Without::Wait), Sent::Pending(3));
    client.end(1);
    client.wire.abandon(Fault::Draining);
    assert_eq!(client.notes.take(), [(1, Some(Fault::Draining))]);
}

#[test]
fn a_client_that_has_to_give_way_is_told_so_only_where_its_session_can_tell_it() {
    use crate::exchange::registry::Holds;
    let client = Fixture::new(ROOMY, []);
    let limit = Duration::from_secs(1);
    client.wire.note_read(Instant::now(), limit, Holds::Head);
    client.wire.condemn();
    assert_eq!(client.played.shutdowns(), [Shutdown::Read]);
    assert_eq!(client.wire.gone(), None);
    let client = Fixture::new(ROOMY, [Full]);
    assert_eq!(client.push(["abc"], Without::Wait), Sent::Pending(3));
    client.end(1);
    client.wire.condemn();
    assert_eq!(client.notes.take(), [(1, Some(Fault::GaveWayResponse))]);
    // A thread that sends has the lock: it finds the connection broken.
    let client = Fixture::new(ROOMY, []);
    let out = client.wire.lock();
    client.wire.condemn();
    drop(out);
    assert_eq!(client.played.shutdowns(), [Shutdown::Both]);
    client.played.then(Broken);
    let gone = Fault::GaveWayResponse;
    assert_eq!(client.push(["d"], Without::Keep), Sent::Gone(gone));
    assert_eq!(client.wire.gone(), Some(gone));
}

#[test]
fn a_writer_whose_client_another_thread_has_cut_gives_that_threads_reason() {
    let client = Fixture::new(ROOMY, []);
    let mut out = client.wire.lock_to_write();
    assert_eq!(
        client.wire.die(&mut out, Fault::SlowClient),
        Fault::SlowClient
    );
    // It finds the socket shut down.
    let sent = client.wire.outcome(&mut out, Err(Fault::ClientGoneData));
    assert_eq!(sent, Sent::Gone(Fault::SlowClient));
}

#[test]
fn a_client_that_owes_progress_goes_on_owing_it_when_nothing_is_handed_in() {
    let client = Fixture::new(ROOMY, [Full]);
    assert_eq!(client.push(["abc"], Without::Wait), Sent::Pending(3));
    assert_eq!(client.push([], Without::Keep), Sent::All);
    assert!(client.wire.lock().pace.is_some(), "it was late with those");
    assert_eq!(client.push(["d"], Without::Wait), Sent::All);
    assert!(client.wire.lock().pace.is_none(), "it keeps up");
}

#[test]
fn sixteen_responses_or_64_kib_undelivered_keep_the_next_request_waiting() {
    let client = Fixture::new(ROOMY, []);
    client.played.then(Full);
    for id in 1..=16 {
        assert!(!client.wire.lock().is_occupied(), "{id}");
        assert_eq!(client.push(["a"], Without::Keep), Sent::Pending(id));
        client.end(id);
    }
    assert!(client.wire.lock().is_occupied());
    assert!(!client.wire.wait_turn(Duration::ZERO));
    client.played.meet([Room(1)]);
    client.deliver();
    assert!(client.wire.wait_turn(Duration::ZERO));
    let client = Fixture::new(ROOMY, []);
    client.played.then(Full);
    let text = "a".repeat(64 * 1024);
    assert_eq!(
        client.push([&text], Without::Keep),
        Sent::Pending(64 * 1024)
    );
    assert!(!client.wire.lock().is_occupied());
    assert_eq!(
        client.push(["a"], Without::Keep),
        Sent::Pending(64 * 1024 + 1)
    );
    assert!(client.wire.lock().is_occupied());
}

// === TLS

fn push<T: Guarded, const N: usize>(wire: &Arc<Wire<T, Note>>, pieces: [&[u8]; N]) -> Sent {
    let mut out = wire.lock_to_write();
    let sent = wire.push(&mut out, pieces, Without::Wait);
    wire.outcome(&mut out, sent)
}

#[test]
fn tls_says_what_is_handed_in_and_a_clean_end_behind_it() {
    let mut secured = Secured::new(ROOMY, Busy::default());
    assert!(secured.wire.is_tls());
    assert_eq!(push(&secured.wire, [b"ab", b"cd"]), Sent::All);
    assert_eq!(secured.hear(), ("abcd".into(), false));
    secured.played.meet([Full]);
    let sent = push(&secured.wire, [b"ef"]);
    assert!(
        matches!(sent, Sent::Pending(22..)),
        "{sent:?} is ciphertext"
    );
    {
        let mut out = secured.wire.lock_to_write();
        secured.wire.close_tls(&mut out).unwrap();
    }
    assert_eq!(secured.hear(), ("ef".into(), true));
}

#[test]
fn plaintext_comes_out_of_ciphertext_and_an_end_is_told_apart() {
    use std::io::Write;
    let mut secured = Secured::new(ROOMY, Busy::default());
    secured.tls().writer().write_all(b"hello").unwrap();
    assert_eq!(secured.say(), Fed::Plain(5));
    secured.tls().send_close_notify();
    assert_eq!(secured.say(), Fed::Ended);
    // What is no TLS is answered by an alert.
    let secured = Secured::new(ROOMY, Busy::default());
    let before = secured.played.received().len();
    let mut nonsense = &b"\x17\x03\x03\x00\x20 this is no record of this session"[..];
    assert!(secured.wire.feed(&mut nonsense, &mut [0; 100]).is_err());
    assert!(secured.played.received().len() > before);
}

// === However it is cut

fn meets() -> impl Strategy<Value = Meets> {
    prop_oneof![
        3 => (1_usize..40).prop_map(Room),
        2 => Just(Full),
    ]
}

proptest! {
    /// Whatever the socket takes at a time, and whoever delivers: the client gets the same bytes in
    /// order, and each exchange ends once, in order, and not before its last byte is delivered.
    #[test]
    fn what_goes_out_does_not_depend_on_how_the_socket_takes_it(
        steps in prop::collection::vec((0_usize..60, any::<bool>(), any::<bool>()), 1..30),
        writes in prop::collection::vec(meets(), 0..60),
        memory in 0_usize..60,
        spool in 0_u64..100,
    ) {
        let limits = Limits { memory, spool, ..ROOMY };
        let client = Fixture::new(limits, writes);
        let mut handed_in = String::new();
        let mut ends: Vec<(u64, usize)> = Vec::new();
        let mut over = Vec::new();
        for (step, (length, is_end, is_delivered)) in steps.into_iter().enumerate() {
            let piece: String =
                (0..length).map(|at| char::from(b'a' + ((step + at) % 26) as u8)).collect();
            let (before, behind) = piece.split_at(length / 3);
            let sent = client.push([before, behind], Without::Keep);
            prop_assert!(!matches!(sent, Sent::Gone(_)));
            handed_in.push_str(&piece);
            if is_end {
                client.end(step as u64);
                ends.push((step as u64, handed_in.len()));
            }
            if is_delivered && ends.last().is_some_and(|(_, end)| *end == handed_in.len()) {
                client.deliver();
            }
            over.extend(client.notes.take());
            let received = client.received();
            prop_assert_eq!(&received, &handed_in[..received.len()]);
            for (place, (id, fault)) in over.iter().enumerate() {
                prop_assert_eq!((*id, *fault), (ends[place].0, None));
                prop_assert!(ends[place].1 <= received.len());
            }
        }
        client.wire.hand_over();
        for _ in 0..200 {
            client.deliver();
        }
        over.extend(client.notes.take());
        prop_assert_eq!(client.wire.gone(), None);
        prop_assert_eq!(client.received(), handed_in);
        prop_assert_eq!(over.len(), ends.len());
        let hub = client.wire.hub();
        prop_assert_eq!((hub.buffers.in_use(), hub.spool.used()), (0, 0));
    }
}

/// What threads hold meanwhile is only seen by threads: one waits for room, another has a look.
#[test]
fn no_thread_adds_anything_while_another_has_bytes_in_its_hand() {
    let client = Arc::new(Fixture::new(NO_ROOM, []));
    client.played.then(Full);
    let order = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let first = Arc::clone(&order);
        let writer = Arc::clone(&client);
        scope.spawn(move || {
            let sent = writer.push(["long"], Without::Wait);
            first.lock().push("long");
            assert_eq!(sent, Sent::All);
        });
        while !client.wire.lock().writer.is_holding() {
            std::thread::yield_now();
        }
        assert!(!client.wire.lock().is_delivered());
        let second = Arc::clone(&order);
        let other = Arc::clone(&client);
        scope.spawn(move || {
            let sent = other.push(["short"], Without::Keep);
            second.lock().push("short");
            assert_eq!(sent, Sent::All);
        });
        client.played.then(Room(100));
    });
    assert_eq!(client.received(), "longshort");
}
