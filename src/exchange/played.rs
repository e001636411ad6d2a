//! An exchange whose client a test plays, for tests of what serves exchanges.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::proto::h1::{HeadLimits, parse_request};

use super::client::played::{Limits, Meets, Played, over};
use super::client::{Left, Opened};
use super::exchange::{Client, Exchange};
use super::hub::Hub;

/// A client that a test plays. It takes everything that it is sent, unless told otherwise.
pub(crate) struct PlayedClient {
    client: Arc<Client>,
    played: Arc<Played>,
}

/// A hub whose couriers never work.
pub(crate) fn hub() -> Arc<Hub> {
    super::client::played::hub()
}

impl PlayedClient {
    /// A client that has just come in.
    pub(crate) fn new(hub: &Arc<Hub>) -> Self {
        let played = Played::meeting([]);
        let limits = Limits {
            memory: 1 << 20,
            spool: 0,
            write: Duration::from_secs(60),
        };
        Self {
            client: over(&played, hub, limits),
            played,
        }
    }

    /// Asks this, whole.
    pub(crate) fn ask(&self, head: &str, body: &[u8]) -> Exchange {
        let limits = HeadLimits {
            head: 8192,
            fields: 100,
            target: 8192,
        };
        let mut exchange = Exchange::begin(&self.client, Instant::now());
        let request = &mut exchange.request;
        parse_request(head.as_bytes(), &limits, &mut request.head).unwrap();
        request.keep(head.as_bytes());
        let hub = self.client.hub();
        let kept = request
            .body
            .append(body, usize::MAX, &hub.buffers, &hub.spool);
        assert_eq!(kept, body.len());
        assert_eq!(self.client.open(exchange.id), Opened::Yes);
        exchange
    }

    /// Its connection breaks: the next write fails.
    pub(crate) fn break_off(&self) {
        self.played.then(Meets::Broken);
    }

    /// It ends its sending side.
    pub(crate) fn leave(&self) -> Left {
        self.client.leave(false)
    }

    /// What it has got since the last time.
    pub(crate) fn received(&self) -> String {
        String::from_utf8(self.played.received()).unwrap()
    }

    /// It was cut by a reset.
    pub(crate) fn is_reset(&self) -> bool {
        self.played.is_reset()
    }

    /// Why nothing reaches it any more, if that is so.
    pub(crate) fn gone(&self) -> Option<Fault> {
        self.client.gone()
    }
}
