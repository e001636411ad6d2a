//! What a wire knows of an exchange.

use std::fmt;

use crate::fault::Fault;

/// An exchange whose last bytes are on their way. It ends when they are delivered, or when it is
/// certain that they never will be.
pub trait Ending: fmt::Debug + Send + 'static {
    /// Returns why it does not end well, if that is so.
    fn fault(&self) -> Option<Fault>;

    /// It does not end well, for this reason, unless there is one already.
    fn blame(&mut self, fault: Fault);

    /// Notes how many bytes more were handed in for its client.
    fn count(&mut self, bytes: u64);

    /// Lets go of the request: a client that has the whole response may ask again at once, and what
    /// this request took is free by then.
    fn release_request(&mut self);

    /// Lets go of its place among the requests at once.
    fn release_place(&mut self);

    /// It is over.
    fn complete(self);
}
