use std::time::Duration;

use proptest::prelude::*;

use super::*;

const BACK_OFF: Duration = Duration::from_millis(20);

/// The defaults of a cluster.
fn settings(attempts: u32) -> RetrySettings {
    RetrySettings {
        attempts,
        back_off: BACK_OFF,
        on_5xx: On5xx::Pass,
        serves_absent: false,
    }
}

/// Attempts of which this many were sent and failed, and one more is under way.
fn under_way(failed: u32) -> Attempts {
    let mut attempts = Attempts::default();
    for _ in 0..failed {
        attempts.begin();
        attempts.fail(Failure::of(Fault::ResponseMissing), &settings(99));
    }
    attempts.begin();
    attempts
}

const AT_ONCE: Judgement = Judgement::Retry {
    is_free: false,
    back_off: Duration::ZERO,
};

const AT_ONCE_AND_FREE: Judgement = Judgement::Retry {
    is_free: true,
    back_off: Duration::ZERO,
};

fn later(milliseconds: u64) -> Judgement {
    Judgement::Retry {
        is_free: false,
        back_off: Duration::from_millis(milliseconds),
    }
}

fn later_and_free(milliseconds: u64) -> Judgement {
    Judgement::Retry {
        is_free: true,
        back_off: Duration::from_millis(milliseconds),
    }
}

/// What happened, the method, attempts that failed before, attempts there may be, the verdict.
type Row = (Failure, Method, u32, u32, Judgement);

#[test]
fn the_table_of_verdicts_while_client_and_worker_are_there() {
    use Judgement::Respond;
    use Method::{Connect, Delete, Get, Head, Options, Other, Patch, Post, Put, Trace};
    let of = Failure::of;
    let missing = of(Fault::ResponseMissing);
    let failed = of(Fault::SendFailed);
    let end = Failure::met_end();
    let end_sending = Failure::met_end().while_sending();
    let unsent = Failure::unsent(Fault::SendFailed);
    let table: &[Row] = &[
        // Not a byte was sent: always, and nothing of it counts.
        (unsent, Get, 0, 3, AT_ONCE_AND_FREE),
        (unsent, Post, 0, 3, AT_ONCE_AND_FREE),
        (unsent, Post, 0, 1, AT_ONCE_AND_FREE),
        (unsent, Get, 2, 3, later_and_free(40)),
        (unsent, Post, 9, 1, later_and_free(1000)),
        (of(Fault::ConnectFailed), Post, 0, 1, AT_ONCE_AND_FREE),
        (
            Failure::unsent(Fault::DeadlinePassed),
            Post,
            0,
            1,
            AT_ONCE_AND_FREE,
        ),
        (
            Failure::unsent(Fault::Draining),
            Post,
            0,
            1,
            AT_ONCE_AND_FREE,
        ),
        // The server may have acted on it: only what is idempotent, and while attempts are left.
        (missing, Get, 0, 3, AT_ONCE),
        (missing, Get, 1, 3, later(20)),
        (missing, Get, 2, 3, Respond(Fault::ResponseMissing)),
        (missing, Get, 0, 1, Respond(Fault::ResponseMissing)),
        (missing, Post, 0, 3, Respond(Fault::ResponseMissing)),
        (failed, Get, 0, 3, AT_ONCE),
        (failed, Get, 2, 3, Respond(Fault::SendFailed)),
        (failed, Post, 0, 3, Respond(Fault::SendFailed)),
        (missing.while_sending(), Get, 0, 3, AT_ONCE),
        (
            missing.while_sending(),
            Post,
            0,
            3,
            Respond(Fault::SendFailed),
        ),
        (missing, Head, 0, 2, AT_ONCE),
        (missing, Put, 0, 2, AT_ONCE),
        (missing, Delete, 0, 2, AT_ONCE),
        (missing, Options, 0, 2, AT_ONCE),
        (missing, Trace, 0, 2, AT_ONCE),
        (missing, Patch, 0, 2, Respond(Fault::ResponseMissing)),
        (missing, Connect, 0, 2, Respond(Fault::ResponseMissing)),
        (missing, Other, 0, 2, Respond(Fault::ResponseMissing)),
        // The end of a used connection: the same, and it does not count; but with one attempt
        // nothing is sent twice.
        (end, Get, 0, 3, AT_ONCE),
        (end, Get, 0, 2, AT_ONCE),
        (end, Get, 1, 2, later(20)),
        (end, Get, 2, 2, Respond(Fault::ResponseMissing)),
        (end, Get, 0, 1, Respond(Fault::ResponseMissing)),
        (end, Post, 0, 3, Respond(Fault::ResponseMissing)),
        (end_sending, Put, 1, 2, later(20)),
        (end_sending, Post, 0, 3, Respond(Fault::SendFailed)),
        // Everything else is never repeated.
        (
            of(Fault::SendTimeout),
            Get,
            0,
            3,
            Respond(Fault::SendTimeout),
        ),
        (
            of(Fault::ResponseTimeout),
            Get,
            0,
            3,
            Respond(Fault::ResponseTimeout),
        ),
        (
            of(Fault::ResponseMalformed),
            Get,
            0,
            3,
            Respond(Fault::ResponseMalformed),
        ),
        (
            of(Fault::ResponseTooLarge),
            Get,
            0,
            3,
            Respond(Fault::ResponseTooLarge),
        ),
        (
            of(Fault::UnaskedUpgrade),
            Get,
            0,
            3,
            Respond(Fault::UnaskedUpgrade),
        ),
        (
            of(Fault::ResponseCut),
            Get,
            0,
            3,
            Respond(Fault::ResponseCut),
        ),
        (of(Fault::Internal), Get, 0, 3, Respond(Fault::Internal)),
        // A 5xx that is kept from the client is repeated only if the operator says so (below).
        (
            of(Fault::ServerError),
            Get,
            0,
            3,
            Respond(Fault::ServerError),
        ),
    ];
    for (i, &(failure, method, failed, most, expected)) in table.iter().enumerate() {
        let attempts = under_way(failed);
        assert_eq!(
            judge(
                failure,
                method,
                &attempts,
                &settings(most),
                Meanwhile::default()
            ),
            expected,
            "row {i}: {failure:?} {method:?} after {failed} of {most}"
        );
    }
}

#[test]
fn what_has_happened_meanwhile_comes_first() {
    use Judgement::{Cut, Drop, Respond};
    let meanwhile = |client_has_left, head_is_out, is_stopped| Meanwhile {
        client_has_left,
        head_is_out,
        is_stopped,
    };
    let gone = Drop(Fault::ClientGoneHead);
    let draining = Respond(Fault::Draining);
    let unsent = Failure::unsent(Fault::SendFailed);
    let missing = Failure::of(Fault::ResponseMissing);
    let internal = Failure::of(Fault::Internal);
    // The failure; whether absent clients are served; what has happened; the verdict.
    let table = [
        (missing, false, meanwhile(false, false, false), AT_ONCE),
        (missing, false, meanwhile(true, false, false), gone),
        (missing, true, meanwhile(true, false, false), gone),
        (unsent, false, meanwhile(true, false, false), gone),
        (
            unsent,
            true,
            meanwhile(true, false, false),
            AT_ONCE_AND_FREE,
        ),
        (
            internal,
            false,
            meanwhile(false, true, false),
            Cut(Fault::Internal),
        ),
        (
            internal,
            false,
            meanwhile(false, true, true),
            Cut(Fault::Internal),
        ),
        (internal, false, meanwhile(true, true, false), gone),
        (missing, false, meanwhile(false, false, true), draining),
        (unsent, false, meanwhile(false, false, true), draining),
        (unsent, true, meanwhile(true, false, true), draining),
        (missing, false, meanwhile(true, false, true), gone),
        (internal, false, meanwhile(false, false, true), draining),
    ];
    for (failure, serves_absent, meanwhile, expected) in table {
        let settings = RetrySettings {
            serves_absent,
            ..settings(3)
        };
        assert_eq!(
            judge(failure, Method::Get, &under_way(0), &settings, meanwhile),
            expected,
            "{failure:?} {serves_absent} {meanwhile:?}"
        );
    }
}

#[test]
fn a_5xx_is_kept_from_the_client_if_it_is_replaced_or_repeated() {
    let error = Failure::of(Fault::ServerError);
    let replaced = Judgement::Respond(Fault::ServerError);
    // The setting, the method, attempts that failed before, whether it is kept, the verdict then.
    let table = [
        (On5xx::Pass, Method::Get, 0, false, replaced),
        (On5xx::BadGateway, Method::Get, 0, true, replaced),
        (On5xx::BadGateway, Method::Post, 5, true, replaced),
        (On5xx::Retry, Method::Get, 0, true, AT_ONCE),
        (On5xx::Retry, Method::Get, 1, true, later(20)),
        (On5xx::Retry, Method::Get, 2, false, replaced),
        (On5xx::Retry, Method::Post, 0, false, replaced),
    ];
    for (on_5xx, method, failed, is_kept, expected) in table {
        let settings = RetrySettings {
            on_5xx,
            ..settings(3)
        };
        let attempts = under_way(failed);
        let row = format!("{on_5xx:?} {method:?} after {failed}");
        assert_eq!(hides_5xx(method, &attempts, &settings), is_kept, "{row}");
        let verdict = judge(error, method, &attempts, &settings, Meanwhile::default());
        assert_eq!(verdict, expected, "{row}");
    }
}

#[test]
fn three_ends_and_one_broken_batch_do_not_count() {
    let settings = settings(2);
    let mut attempts = Attempts::default();
    // Before anything went out with the batch there is nothing to make up for.
    attempts.note_broken_batch();
    attempts.begin();
    assert_eq!(attempts.counted(), 1);
    attempts.note_broken_batch();
    attempts.note_broken_batch();
    assert_eq!(attempts.counted(), 0);
    for ends in 1..=5 {
        attempts.begin();
        let verdict = judge(
            Failure::met_end(),
            Method::Get,
            &attempts,
            &settings,
            Meanwhile::default(),
        );
        assert_eq!(
            matches!(verdict, Judgement::Retry { .. }),
            ends <= 4,
            "{ends}"
        );
        attempts.fail(Failure::met_end(), &settings);
        assert_eq!(
            attempts.counted(),
            u32::saturating_sub(ends, FREE_ENDS),
            "{ends}"
        );
    }
}

#[test]
fn attempts_are_counted_by_what_a_server_may_have_seen() {
    let settings = settings(3);
    let mut attempts = Attempts::default();
    assert_eq!((attempts.retries(), attempts.begun()), (0, 0));
    attempts.begin();
    attempts.fail(Failure::unsent(Fault::SendFailed), &settings);
    assert_eq!((attempts.seen(), attempts.begun()), (0, 1));
    attempts.begin();
    attempts.fail(Failure::of(Fault::ResponseMissing), &settings);
    assert_eq!((attempts.seen(), attempts.begun()), (1, 2));
    attempts.begin();
    assert_eq!((attempts.seen(), attempts.begun()), (2, 3));
    assert_eq!(attempts.retries(), 1);
}

#[test]
fn with_one_attempt_no_end_is_free() {
    let mut attempts = under_way(0);
    attempts.fail(Failure::met_end(), &settings(1));
    assert_eq!(attempts.counted(), 1);
}

#[test]
fn the_reason_of_a_failed_attempt_is_known_until_the_next_and_remembered_during_it() {
    let mut attempts = under_way(0);
    assert_eq!((attempts.failed(), attempts.why()), (None, None));
    attempts.fail(Failure::of(Fault::SendFailed), &settings(9));
    assert_eq!(
        (attempts.failed(), attempts.why()),
        (Some(Fault::SendFailed), None)
    );
    attempts.begin();
    assert_eq!(
        (attempts.failed(), attempts.why()),
        (None, Some(Fault::SendFailed))
    );
    attempts.put_off(Fault::ConnectFailed);
    assert_eq!(attempts.failed(), Some(Fault::ConnectFailed));
    assert_eq!(attempts.why(), Some(Fault::SendFailed));
    assert_eq!(
        (attempts.seen(), attempts.begun()),
        (2, 2),
        "that was no attempt"
    );
    attempts.begin();
    assert_eq!(
        (attempts.failed(), attempts.why()),
        (None, Some(Fault::ConnectFailed))
    );
    attempts.begin();
    assert_eq!(
        attempts.why(),
        Some(Fault::ConnectFailed),
        "a batch is not told of"
    );
}

#[test]
fn retries_wait_twice_as_long_each_time_up_to_a_second_or_what_was_asked_for() {
    let waits = |least| {
        let settings = RetrySettings {
            back_off: Duration::from_millis(least),
            ..settings(3)
        };
        [0, 1, 2, 3, 4, 100].map(|begun| {
            let attempts = Attempts {
                begun,
                ..Attempts::default()
            };
            attempts.back_off(&settings).as_millis()
        })
    };
    assert_eq!(waits(0), [0; 6]);
    assert_eq!(waits(20), [0, 0, 20, 40, 80, 1000]);
    assert_eq!(waits(600), [0, 0, 600, 1000, 1000, 1000]);
    assert_eq!(waits(5000), [0, 0, 5000, 5000, 5000, 5000]);
    assert_eq!(waits(60_000), [0, 0, 60_000, 60_000, 60_000, 60_000]);
}

#[test]
fn what_the_end_of_an_idle_connection_shows_is_nothing() {
    use FaultClass::{Broken, Connect, Protocol, Status, Timeout};
    let table = [
        (Failure::of(Fault::ResponseMissing), Some(Broken)),
        (
            Failure::of(Fault::ResponseMissing).while_sending(),
            Some(Broken),
        ),
        (Failure::of(Fault::SendFailed), Some(Broken)),
        (Failure::met_end(), None),
        (Failure::met_end().while_sending(), None),
        (Failure::unsent(Fault::SendFailed), None),
        (Failure::unsent(Fault::Draining), None),
        (Failure::unsent(Fault::DeadlinePassed), None),
        (Failure::of(Fault::ConnectFailed), Some(Connect)),
        (Failure::of(Fault::SendTimeout), Some(Timeout)),
        (Failure::of(Fault::ResponseTimeout), Some(Timeout)),
        (Failure::of(Fault::ResponseMalformed), Some(Protocol)),
        (Failure::of(Fault::ResponseTooLarge), Some(Protocol)),
        (Failure::of(Fault::UnaskedUpgrade), Some(Protocol)),
        (Failure::of(Fault::ServerError), Some(Status)),
        (Failure::of(Fault::Internal), None),
    ];
    for (failure, expected) in table {
        assert_eq!(failure.evidence(), expected, "{failure:?}");
    }
}

#[test]
fn only_a_missing_response_becomes_a_failure_to_send() {
    for &fault in Fault::ALL {
        let expected = match fault {
            Fault::ResponseMissing => Fault::SendFailed,
            fault => fault,
        };
        assert_eq!(Failure::of(fault).while_sending().fault(), expected);
    }
}

#[test]
fn a_later_response_of_a_batch_may_be_spoilt_by_one_before_it() {
    for &fault in Fault::ALL {
        let failure = Failure::of(fault);
        let (without, with) = match fault {
            Fault::ResponseMissing => (true, false),
            Fault::ResponseMalformed => (true, true),
            _ => (false, false),
        };
        assert_eq!(failure.may_be_a_neighbours(false), without, "{fault:?}");
        assert_eq!(failure.may_be_a_neighbours(true), with, "{fault:?}");
    }
    assert!(Failure::met_end().may_be_a_neighbours(false));
}

/// All that may happen to an attempt.
fn failures() -> impl Strategy<Value = Failure> {
    let fault = proptest::sample::select(Fault::ALL);
    prop_oneof![
        2 => fault.prop_map(Failure::of),
        2 => Just(Failure::met_end()),
        1 => Just(Failure::met_end().while_sending()),
        2 => Just(Failure::of(Fault::ResponseMissing)),
        2 => Just(Failure::of(Fault::ServerError)),
        1 => Just(Failure::unsent(Fault::SendFailed)),
    ]
}

proptest! {
    #[test]
    fn no_server_sees_more_attempts_than_there_may_be(
        failures in proptest::collection::vec((failures(), any::<bool>()), 1..60),
        is_idempotent: bool,
        attempts in 1_u32..6,
        back_off in 0_u64..3000,
        on_5xx in proptest::sample::select(&[On5xx::Pass, On5xx::BadGateway, On5xx::Retry][..]),
    ) {
        let settings = RetrySettings {
            attempts,
            back_off: Duration::from_millis(back_off),
            on_5xx,
            serves_absent: false,
        };
        let method = if is_idempotent { Method::Put } else { Method::Post };
        let mut made = Attempts::default();
        let (mut counting, mut ends, mut batches, mut unsent) = (0, 0, 0, 0);
        for (failure, was_in_batch) in failures {
            made.begin();
            // What is sent together with others may be repeated, and was never sent before.
            if was_in_batch && is_idempotent && made.begun() == 1 {
                made.note_broken_batch();
                batches += 1;
                continue;
            }
            let verdict = judge(failure, method, &made, &settings, Meanwhile::default());
            match failure.reach {
                Reach::Unsent => unsent += 1,
                Reach::MetEnd if ends < FREE_ENDS && attempts > 1 => ends += 1,
                Reach::MetEnd | Reach::Sent => counting += 1,
            }
            prop_assert!(counting <= attempts);
            let Judgement::Retry { is_free, back_off } = verdict else {
                break;
            };
            prop_assert_eq!(is_free, failure.reach == Reach::Unsent);
            if failure.reach != Reach::Unsent {
                prop_assert!(is_idempotent, "sent twice");
                prop_assert!(attempts > 1);
                prop_assert!(counting < attempts);
            }
            // What is free is bounded by the waits: only the first retry goes at once.
            let least = settings.back_off;
            prop_assert_eq!(made.begun() < 2 || least.is_zero(), back_off.is_zero());
            prop_assert!(back_off.is_zero() || back_off >= least);
            prop_assert!(back_off <= MOST_BACK_OFF.max(least));
            made.fail(failure, &settings);
            prop_assert_eq!(made.failed(), Some(failure.fault()));
            prop_assert_eq!(made.seen() + unsent, made.begun());
            prop_assert_eq!(made.seen(), counting + ends + batches);
        }
        prop_assert!(made.seen() <= attempts + FREE_ENDS + 1);
    }

    #[test]
    fn whoever_may_retry_less_is_never_allowed_more(
        failure in failures(),
        failed in 0_u32..6,
        attempts in 1_u32..6,
    ) {
        let may = |method, failed, attempts| {
            may_retry(failure, method, &under_way(failed), &settings(attempts))
        };
        prop_assert!(may(Method::Get, failed, attempts) || !may(Method::Post, failed, attempts));
        prop_assert!(may(Method::Get, failed, attempts + 1) || !may(Method::Get, failed, attempts));
        prop_assert!(may(Method::Get, failed, attempts) || !may(Method::Get, failed + 1, attempts));
    }
}
