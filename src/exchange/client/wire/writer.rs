//! Which thread may add to what goes out.

/// Whether a thread is in the middle of adding to what goes out. Meanwhile no other thread adds to
/// it, whether the wire's lock is free or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Writer {
    /// None is.
    #[default]
    None,
    /// One sends, or writes to the spool, outside the lock.
    Sending,
    /// One has bytes in its hand for which there is no room, and waits until the client has taken
    /// others.
    Holding,
    /// One that has bytes in its hand sends, or writes to the spool, outside the lock.
    SendingHeld,
}

impl Writer {
    /// Returns whether no thread is adding.
    pub(super) fn is_none(self) -> bool {
        self == Self::None
    }

    /// Returns whether a thread sends outside the lock. It needs the spool's file as it is.
    pub(super) fn is_sending(self) -> bool {
        matches!(self, Self::Sending | Self::SendingHeld)
    }

    /// Returns whether a thread has bytes in its hand.
    pub(super) fn is_holding(self) -> bool {
        matches!(self, Self::Holding | Self::SendingHeld)
    }

    /// The thread begins to send outside the lock.
    pub(super) fn begin_sending(&mut self) {
        debug_assert!(!self.is_sending(), "one thread adds at a time");
        *self = match self {
            Self::None | Self::Sending => Self::Sending,
            Self::Holding | Self::SendingHeld => Self::SendingHeld,
        };
    }

    /// The thread has the lock again.
    pub(super) fn end_sending(&mut self) {
        debug_assert!(self.is_sending(), "{self:?} has not begun");
        *self = match self {
            Self::None | Self::Sending => Self::None,
            Self::Holding | Self::SendingHeld => Self::Holding,
        };
    }

    /// The thread waits with bytes in its hand.
    pub(super) fn hold(&mut self) {
        debug_assert!(!self.is_sending(), "the thread that sends has not ended");
        *self = Self::Holding;
    }

    /// Everything is out of the thread's hand. Returns whether it had anything there.
    pub(super) fn let_go(&mut self) -> bool {
        debug_assert!(!self.is_sending(), "the thread that sends has not ended");
        let held = self.is_holding();
        if held {
            *self = Self::None;
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_sends_goes_back_to_where_it_was() {
        let mut writer = Writer::None;
        writer.begin_sending();
        assert!(writer.is_sending() && !writer.is_holding() && !writer.is_none());
        writer.end_sending();
        assert_eq!(writer, Writer::None);
        writer.hold();
        assert!(!writer.is_sending() && writer.is_holding() && !writer.is_none());
        writer.begin_sending();
        assert!(writer.is_sending() && writer.is_holding() && !writer.is_none());
        writer.end_sending();
        assert_eq!(writer, Writer::Holding);
    }

    #[test]
    fn only_bytes_that_were_held_are_let_go() {
        let mut writer = Writer::None;
        assert!(!writer.let_go());
        writer.hold();
        assert!(writer.let_go() && writer.is_none());
    }
}
