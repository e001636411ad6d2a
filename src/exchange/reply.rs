//! Where the response to an exchange goes.

use std::sync::Arc;

use super::client::{Client, Ending, H1Reply};

/// Where the response to an exchange goes, by what its client speaks.
#[derive(Debug)]
pub(super) enum Reply<E: Ending> {
    /// HTTP/1.
    H1(H1Reply<E>),
}

impl<E: Ending> Clone for Reply<E> {
    fn clone(&self) -> Self {
        match self {
            Self::H1(reply) => Self::H1(reply.clone()),
        }
    }
}

impl<E: Ending> Reply<E> {
    pub(super) fn client(&self) -> &Arc<Client<E>> {
        match self {
            Self::H1(reply) => reply.client(),
        }
    }
}
