//! Where requests go once they are read.

use std::any::Any;
use std::sync::Arc;

use arc_swap::Guard;

use crate::http::RequestHead;
use crate::plan::ErrorPage;

use super::answer::Answer;
use super::exchange::{Client, Exchange};
use super::state::Destination;

/// What admissions go by, until others take its place.
pub type Promise = Box<dyn Any + Send + Sync>;

/// Keeps what an admission has promised until the request is submitted. As long as one is out, the
/// promise's [`Arc`] has not gone. It costs no count that threads share.
pub type Pass = Guard<Arc<Promise>>;

/// What the reading side needs of the rest: where a request goes, and getting it there.
pub trait Service: Send + Sync + 'static {
    /// Decides by the head alone, before a body is read or `100 Continue` sent.
    fn admit(&self, client: &Client, buffer: &[u8], head: &RequestHead) -> Admission;

    /// A whole request. From here on its client's writing side is the service's.
    fn submit(&self, exchange: Exchange);

    /// The client of this exchange has left before a response began.
    fn cancel(&self, cluster: usize, id: u64);

    /// The page that this cluster has for failures of this status, if it has one.
    fn error_page(&self, cluster: usize, status: u16) -> Option<ErrorPage>;
}

/// What becomes of a request, by its head.
#[derive(Debug)]
pub enum Admission {
    /// It is answered here.
    Answer(Answer),
    /// It goes there.
    Cluster(Destination, Pass),
}
