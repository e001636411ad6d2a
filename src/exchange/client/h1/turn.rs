//! Whose turn it is on a connection that carries one exchange after the other.

use crate::exchange::client::wire::{End, Guarded};
use crate::fault::Fault;

/// The turn. It changes under the wire's lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// No exchange is open.
    #[default]
    Free,
    /// This exchange is open.
    Of(Open),
}

/// An exchange that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its number.
    id: u64,
    /// Its final head has gone out.
    has_begun: bool,
    /// The client asks for nothing more: the connection ends with this exchange, whatever its head
    /// has said.
    is_last: bool,
}

/// Whether an exchange could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The connection was cut.
    Cut(Fault),
    /// The connection is ending, as the client was told: no more exchanges on it.
    Never,
    /// Another one is open, or too much of what was answered lies undelivered.
    NotYet,
    /// It is open.
    Yes,
}

/// What a client's end means for the exchange that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is called off, and has to be cancelled where it is.
    Cancel(u64),
    /// There is none, or it is being answered already: its last byte decides.
    Nothing,
}

impl Guarded for Turn {
    fn is_busy(&self) -> bool {
        matches!(self, Self::Of(_))
    }
}

impl Turn {
    /// Opens exchange `id`, unless another one is open, the connection ends, or `is_occupied`: so
    /// much lies undelivered that the client has to take some of it first.
    pub(super) fn open(&mut self, id: u64, end: End, is_occupied: bool) -> Opened {
        match (*self, end) {
            (Self::Of(_), _) => Opened::NotYet,
            (Self::Free, End::Closing) => Opened::Never,
            (Self::Free, End::Dead(fault)) => Opened::Cut(fault),
            (Self::Free, End::Open) if is_occupied => Opened::NotYet,
            (Self::Free, End::Open) => {
                *self = Self::Of(Open {
                    id,
                    has_begun: false,
                    is_last: false,
                });
                Opened::Yes
            }
        }
    }

    /// The final head of the open exchange goes out.
    pub(super) fn begin(&mut self) {
        if let Self::Of(open) = self {
            open.has_begun = true;
        }
    }

    /// The client asks for nothing more. Returns whether an exchange is open, with which the
    /// connection ends then.
    pub(super) fn make_last(&mut self) -> bool {
        match self {
            Self::Of(open) => {
                open.is_last = true;
                true
            }
            Self::Free => false,
        }
    }

    /// Closes the open exchange. Returns whether the connection ends with it.
    pub(super) fn close(&mut self) -> bool {
        match std::mem::take(self) {
            Self::Of(open) => open.is_last,
            Self::Free => false,
        }
    }

    /// Returns whether the final response to this exchange has begun; `None` if it is not open.
    pub(super) fn progress_of(self, id: u64) -> Option<bool> {
        match self {
            Self::Of(open) if open.id == id => Some(open.has_begun),
            Self::Of(_) | Self::Free => None,
        }
    }

    /// The client ended its sending side, or (`by_reset`) the connection broke. Returns what that
    /// means for the open exchange, and the reason to cut the connection if that is to be done.
    /// `is_delivered` is whether the client has everything that it was answered before.
    pub(super) fn leave(self, by_reset: bool, is_delivered: bool) -> (Left, Option<Fault>) {
        match self {
            Self::Free if by_reset => (Left::Nothing, Some(Fault::ClientGoneData)),
            Self::Free => (Left::Nothing, None),
            // The thread that serves it may be waiting for the server, and would not learn of it
            // before the server says more. What it does say is still given on: the client may have
            // ended only its sending side.
            Self::Of(open) if open.has_begun => {
                let fault = by_reset.then_some(Fault::ClientGoneData);
                (Left::Cancel(open.id), fault)
            }
            // What the client was answered before is still delivered.
            Self::Of(open) if !by_reset && !is_delivered => (Left::Cancel(open.id), None),
            Self::Of(open) => (Left::Cancel(open.id), Some(Fault::ClientGoneHead)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(id: u64) -> Turn {
        let mut turn = Turn::Free;
        assert_eq!(turn.open(id, End::Open, false), Opened::Yes);
        turn
    }

    #[test]
    fn one_exchange_is_open_at_a_time() {
        let mut turn = open(1);
        assert!(turn.is_busy());
        for end in [End::Open, End::Closing, End::Dead(Fault::Internal)] {
            assert_eq!(turn.open(2, end, false), Opened::NotYet);
        }
        assert!(!turn.close() && !turn.is_busy());
        assert_eq!(turn.open(2, End::Open, true), Opened::NotYet);
        assert_eq!(turn, Turn::Free);
        assert_eq!(turn.open(2, End::Open, false), Opened::Yes);
    }

    #[test]
    fn no_exchange_is_opened_on_a_connection_that_ends() {
        let mut turn = Turn::Free;
        for is_occupied in [false, true] {
            assert_eq!(turn.open(1, End::Closing, is_occupied), Opened::Never);
            let end = End::Dead(Fault::SlowClient);
            assert_eq!(
                turn.open(1, end, is_occupied),
                Opened::Cut(Fault::SlowClient)
            );
        }
        assert!(!turn.is_busy());
    }

    #[test]
    fn the_connection_ends_with_the_exchange_that_is_made_the_last() {
        let mut turn = Turn::Free;
        assert!(!turn.make_last() && !turn.close());
        let mut turn = open(1);
        assert!(turn.make_last() && turn.close() && !turn.close());
    }

    #[test]
    fn progress_is_that_of_the_open_exchange_alone() {
        let mut turn = Turn::Free;
        turn.begin();
        assert_eq!(turn.progress_of(1), None);
        let mut turn = open(1);
        assert_eq!(
            (turn.progress_of(1), turn.progress_of(2)),
            (Some(false), None)
        );
        turn.begin();
        assert_eq!(turn.progress_of(1), Some(true));
    }

    #[test]
    fn a_client_that_leaves_calls_its_exchange_off_and_is_cut_unless_it_may_still_read() {
        let before = open(1);
        let mut begun = before;
        begun.begin();
        let (head, data) = (Some(Fault::ClientGoneHead), Some(Fault::ClientGoneData));
        let cancel = Left::Cancel(1);
        for (turn, by_reset, is_delivered, expected) in [
            (Turn::Free, false, true, (Left::Nothing, None)),
            (Turn::Free, true, true, (Left::Nothing, data)),
            (before, false, true, (cancel, head)),
            (before, false, false, (cancel, None)),
            (before, true, true, (cancel, head)),
            (before, true, false, (cancel, head)),
            (begun, false, true, (cancel, None)),
            (begun, false, false, (cancel, None)),
            (begun, true, true, (cancel, data)),
        ] {
            assert_eq!(turn.leave(by_reset, is_delivered), expected, "{turn:?}");
        }
    }
}
