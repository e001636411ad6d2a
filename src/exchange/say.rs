//! What is said to a client. Workers, sessions and clusters say a response; how it looks on the
//! connection is the protocol's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::Fault;
use crate::http::{Length, ResponseHead};
use crate::plan::{ErrorPage, Listener};

use super::answer::Answer;
use super::client::{Asked, Scratch, Sent};
use super::exchange::Exchange;
use super::reply::Reply;

/// The response is said in this order: any interim ones, the head, content as often as need be, the
/// end. Or it is cut at any place, or called off before its head.
impl Exchange {
    /// Gives on an interim response (1xx): its `text`, and what was parsed of that. It waits for
    /// room like [`Self::say`].
    pub fn say_interim(&self, scratch: &mut Scratch, text: &[u8], head: &ResponseHead) -> Sent {
        match &self.reply {
            Reply::H1(reply) => reply.interim(scratch, text, head, self.request.head.version),
        }
    }

    /// Asks the client for the request's body (100).
    pub fn ask_for_body(&self) {
        match &self.reply {
            Reply::H1(reply) => reply.ask_for_body(),
        }
    }

    /// Says that the server switches protocols: its `text`, and what was parsed of that. What
    /// follows is said as it is.
    pub fn say_switch(&mut self, scratch: &mut Scratch, text: &[u8], head: &ResponseHead) -> Sent {
        self.status = head.status;
        let protocol = self.request.upgrade.clone().unwrap_or_default();
        match &self.reply {
            Reply::H1(reply) => reply.switch(scratch, text, head, &protocol),
        }
    }

    /// Says bytes of another protocol.
    pub fn say_as_it_is(&mut self, bytes: &[u8]) -> Sent {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        match &self.reply {
            Reply::H1(reply) => reply.as_it_is(bytes),
        }
    }

    /// The server's side of another protocol is at its end, and the connection with it.
    pub fn end_as_it_is(self) {
        let reply = self.reply.clone();
        match reply {
            Reply::H1(reply) => reply.end(self),
        }
    }

    /// Says the head of the final response: its `text`, what was parsed of that, and how long the
    /// body will be. It is kept back in `scratch` until the next call to say something, to go out
    /// together with that.
    pub fn say_head(
        &mut self,
        scratch: &mut Scratch,
        text: &[u8],
        head: &ResponseHead,
        length: Length,
    ) {
        let asked = Asked::of(&self.request.head);
        self.status = head.status;
        match &mut self.reply {
            Reply::H1(reply) => reply.head(scratch, text, head, length, asked),
        }
    }

    /// Says content, more of which follows; none at all sends the head that was kept back. What
    /// neither the socket nor memory nor the spool has room for is waited with, as long as the
    /// client takes enough of the rest.
    pub fn say(&mut self, scratch: &mut Scratch, content: &[u8]) -> Sent {
        let mut given = self.bytes;
        let sent = match &self.reply {
            Reply::H1(reply) => reply.data(scratch, content, &mut given),
        };
        self.bytes = given;
        sent
    }

    /// Says the last content and the end, with trailer lines (each with its CRLF) where the client
    /// can be told any. The exchange is over once that is delivered.
    pub fn finish(self, scratch: &mut Scratch, content: &[u8], trailers: &[u8]) {
        let reply = self.reply.clone();
        match reply {
            Reply::H1(reply) => reply.finish(scratch, content, trailers, self),
        }
    }

    /// The response broke off, for the exchange's `fault`: what was said is delivered, and nothing
    /// that looks like an end. The reply decides whether that takes a reset.
    pub fn cut(self) {
        let reply = self.reply.clone();
        match reply {
            Reply::H1(reply) => reply.cut(self),
        }
    }

    /// Says a response that was made here, which is short: this never waits. `page` is what the
    /// cluster has for a failure of this status. `closes` ends the connection behind it, whatever
    /// the request wants. Returns whether it ends.
    pub fn answer(mut self, answer: &Answer, page: Option<&ErrorPage>, closes: bool) -> bool {
        self.status = answer.status;
        self.fault = answer.fault;
        let asked = Asked::of(&self.request.head);
        let reply = self.reply.clone();
        match reply {
            Reply::H1(reply) => reply.answer(answer, page, closes, asked, self),
        }
    }

    /// Says so to a client that speaks plain HTTP where TLS is expected, in plain HTTP, and ends
    /// its connection. Waits for the client at most this long.
    pub fn answer_in_plain(mut self, answer: &Answer, page: Option<&ErrorPage>, wait: Duration) {
        self.status = answer.status;
        self.fault = answer.fault;
        let asked = Asked::of(&self.request.head);
        let reply = self.reply.clone();
        match reply {
            Reply::H1(reply) => reply.answer_in_plain(answer, page, wait, asked, self),
        }
    }

    /// Ends it before its head is said: the client is told nothing.
    pub fn call_off(mut self, fault: Fault) {
        self.fault = Some(fault);
        let client = Arc::clone(self.client());
        client.drop_exchange(self);
    }

    /// Why nothing reaches the client any more, if that is so.
    pub fn gone(&self) -> Option<Fault> {
        self.client().gone()
    }

    /// Lets a courier deliver what the client has not taken, so that no worker waits for that.
    pub fn hand_over(&self) {
        self.client().hand_over();
    }

    /// Returns whether so many bytes more have room until the client takes them, in memory or in
    /// the spool.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.client().has_room(bytes)
    }

    /// From now on nothing more of the response goes to the spool: to say it waits for the client.
    pub fn stop_spooling(&self) {
        self.client().stop_spooling();
    }

    /// Returns whether anything of the final response was handed in.
    pub fn has_begun(&self) -> bool {
        self.bytes > 0
    }

    /// The client's address; `None` on a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.client().peer()
    }

    /// Where the client came in.
    pub fn listener(&self) -> &Listener {
        self.client().listener()
    }
}
