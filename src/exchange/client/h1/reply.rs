//! How a response is written in HTTP/1: heads, chunks, and what a client is told of its connection.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::base::date::DateCache;
use crate::base::time::after;
use crate::exchange::answer::Answer;
use crate::exchange::client::wire::{Ending, Sent, Without};
use crate::fault::Fault;
use crate::http::{Length, Method, RequestHead, ResponseFraming, ResponseHead, Version};
use crate::plan::ErrorPage;
use crate::proto::h1::{Going, Persistence, ResponseRewrite, write_response};

use super::render::render;
use super::scratch::Scratch;
use super::talk::Client;

/// The reply to one exchange, over a connection that carries one after the other.
#[derive(Debug)]
pub(in crate::exchange) struct H1Reply<E: Ending> {
    client: Arc<Client<E>>,
    /// How the body is framed, as the head has said.
    going: Going,
    /// The connection ends behind this response, as the head has said.
    closes: bool,
}

/// What of a request decides how its response is written.
#[derive(Clone, Copy, Debug)]
pub(in crate::exchange) struct Asked {
    method: Method,
    version: Version,
    keep_alive: bool,
}

impl Asked {
    /// Takes it from the request's head.
    pub(in crate::exchange) fn of(head: &RequestHead) -> Self {
        Self {
            method: head.method,
            version: head.version,
            keep_alive: head.keep_alive,
        }
    }
}

impl<E: Ending> Clone for H1Reply<E> {
    fn clone(&self) -> Self {
        Self {
            client: Arc::clone(&self.client),
            going: self.going,
            closes: self.closes,
        }
    }
}

impl<E: Ending> H1Reply<E> {
    pub(in crate::exchange) fn new(client: &Arc<Client<E>>) -> Self {
        Self {
            client: Arc::clone(client),
            going: Going::Sized,
            closes: false,
        }
    }

    pub(in crate::exchange) fn client(&self) -> &Arc<Client<E>> {
        &self.client
    }

    /// Gives an interim response on. HTTP/1.0 knows none.
    pub(in crate::exchange) fn interim(
        &self,
        scratch: &mut Scratch,
        text: &[u8],
        head: &ResponseHead,
        version: Version,
    ) -> Sent {
        if version == Version::Http10 {
            return Sent::All;
        }
        let rewrite = ResponseRewrite {
            framing: ResponseFraming::None,
            persistence: Persistence::Silent,
            date: &[],
            append: &[],
        };
        scratch.out.clear();
        write_response(&mut scratch.out, text, head, &rewrite);
        let sent = self.client.interim(&scratch.out);
        scratch.out.clear();
        sent
    }

    /// Gives on that the server switches to this protocol.
    pub(in crate::exchange) fn switch(
        &self,
        scratch: &mut Scratch,
        text: &[u8],
        head: &ResponseHead,
        protocol: &str,
    ) -> Sent {
        let append = format!("Connection: upgrade\r\nUpgrade: {protocol}\r\n");
        let rewrite = ResponseRewrite {
            framing: ResponseFraming::None,
            persistence: Persistence::Silent,
            date: &[],
            append: append.as_bytes(),
        };
        scratch.out.clear();
        write_response(&mut scratch.out, text, head, &rewrite);
        let sent = self.client.send([&scratch.out[..]]);
        scratch.out.clear();
        sent
    }

    /// Sends bytes of another protocol.
    pub(in crate::exchange) fn as_it_is(&self, bytes: &[u8]) -> Sent {
        self.client.send([bytes])
    }

    /// Ends the connection behind what was sent.
    pub(in crate::exchange) fn end(&self, exchange: E) {
        self.client.finish([], true, Without::Keep, exchange);
    }

    /// Asks for the request's body.
    pub(in crate::exchange) fn ask_for_body(&self) {
        // A client that is gone shows itself where its body is read.
        let _ = self.client.interim(b"HTTP/1.1 100 Continue\r\n\r\n");
        self.client.hand_over();
    }

    /// Writes a final head and keeps it back in `scratch`.
    pub(in crate::exchange) fn head(
        &mut self,
        scratch: &mut Scratch,
        text: &[u8],
        head: &ResponseHead,
        length: Length,
        asked: Asked,
    ) {
        self.going = Going::of(length, asked.version);
        self.closes = self.going.ends_with_connection() || self.must_close(asked);
        let via = self.client.listener().via.as_deref();
        let append = via.map(|name| format!("Via: 1.1 {name}\r\n"));
        let date = match head.has_date {
            true => &[],
            false => scratch.date.at(SystemTime::now()),
        };
        let rewrite = ResponseRewrite {
            framing: self.going.framing(length),
            persistence: Persistence::of(self.closes, asked.version),
            date,
            append: append.as_deref().unwrap_or_default().as_bytes(),
        };
        scratch.out.clear();
        write_response(&mut scratch.out, text, head, &rewrite);
    }

    /// Sends content, with what was kept back before it. Adds to `given` how many bytes that were.
    pub(in crate::exchange) fn data(
        &self,
        scratch: &mut Scratch,
        content: &[u8],
        given: &mut u64,
    ) -> Sent {
        let behind = self.going.write_before(&mut scratch.out, content.len());
        let pieces = [scratch.out.as_slice(), content, behind];
        *given = given.saturating_add(total(&pieces));
        let sent = self.client.send(pieces);
        scratch.out.clear();
        sent
    }

    /// Sends the last content and the end of the response.
    pub(in crate::exchange) fn finish(
        &self,
        scratch: &mut Scratch,
        content: &[u8],
        trailers: &[u8],
        mut exchange: E,
    ) {
        // A mere end is kept where the client has no room for it; anything else may be long.
        let is_short = scratch.out.is_empty() && content.is_empty() && trailers.is_empty();
        let behind = self.going.write_before(&mut scratch.out, content.len());
        let before = scratch.out.len();
        scratch.out.extend_from_slice(behind);
        self.going.write_end(&mut scratch.out, trailers);
        let (before, behind) = scratch.out.split_at(before);
        let pieces = [before, content, behind];
        exchange.count(total(&pieces));
        let without = if is_short {
            Without::Keep
        } else {
            Without::Wait
        };
        self.client.finish(pieces, self.closes, without, exchange);
        scratch.out.clear();
    }

    /// The response broke off, and the client has to see that it did.
    pub(in crate::exchange) fn cut(&self, exchange: E) {
        let is_hard = self.going.ends_with_connection()
            || matches!(
                exchange.fault(),
                // After a panic nothing is known of what went out. And a client that has said that
                // it sends no more is not to wait for an end that looks like one.
                Some(Fault::Internal | Fault::ClientGoneData)
            );
        self.client.cut(is_hard, exchange);
    }

    /// Sends a response that was made here. Returns whether the connection ends with it.
    pub(in crate::exchange) fn answer(
        &self,
        answer: &Answer,
        page: Option<&ErrorPage>,
        closes: bool,
        asked: Asked,
        mut exchange: E,
    ) -> bool {
        let closes = closes || self.must_close(asked);
        let bytes = self.render(answer, page, asked, closes);
        exchange.count(bytes.len() as u64);
        self.client
            .finish([&bytes[..]], closes, Without::Keep, exchange);
        closes
    }

    /// Writes a response that was made here to the socket itself, before TLS has said anything, and
    /// ends the connection. Waits for the client at most this long.
    pub(in crate::exchange) fn answer_in_plain(
        &self,
        answer: &Answer,
        page: Option<&ErrorPage>,
        patience: Duration,
        asked: Asked,
        mut exchange: E,
    ) {
        let bytes = self.render(answer, page, asked, true);
        let stream = self.client.stream();
        let until = after(Instant::now(), patience);
        let mut left = &bytes[..];
        while let Some(patience) = until.checked_duration_since(Instant::now())
            && !left.is_empty()
            && stream.set_write_timeout(patience).is_ok()
            && let Ok(written) = stream.write(left)
        {
            left = left.get(written..).unwrap_or_default();
        }
        exchange.count(bytes.len().saturating_sub(left.len()) as u64);
        exchange.complete();
        stream.shutdown(std::net::Shutdown::Write);
    }

    fn must_close(&self, asked: Asked) -> bool {
        !asked.keep_alive || self.client.must_close()
    }

    /// `page` is the cluster's; where there is none, the listener's takes its place.
    fn render(
        &self,
        answer: &Answer,
        page: Option<&ErrorPage>,
        asked: Asked,
        closes: bool,
    ) -> Vec<u8> {
        let of_listener = || ErrorPage::find(&self.client.listener().error_pages, answer.status);
        let mut bytes = Vec::with_capacity(512);
        render(
            &mut bytes,
            answer,
            page.or_else(of_listener),
            asked.method == Method::Head,
            Persistence::of(closes, asked.version),
            DateCache::default().at(SystemTime::now()),
        );
        bytes
    }
}

fn total(pieces: &[&[u8]]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}
