//! What becomes of an exchange that no thread holds any more.

use std::sync::Arc;

use crate::base::panic_points::Point;
use crate::fault::Fault;

use super::answer::Answer;
use super::exchange::Exchange;
use super::lost::Orphan;
use super::registry::Listed;

impl Orphan for Exchange {
    fn end(mut self: Box<Self>) {
        let losses = self.losses;
        self.losses += 1;
        match losses {
            0 => self.end_lost(),
            1 => {
                // Without a byte, and without waiting for a thread that writes: that may be what
                // has panicked.
                Arc::clone(self.client()).abandon(Fault::Internal);
                self.fault = Some(Fault::Internal);
                (*self).complete();
            }
            // Not even that can be done.
            _ => (*self).forget(),
        }
    }
}

impl Exchange {
    fn end_lost(mut self) {
        self.fault = Some(Fault::Internal);
        Point::AnswerLost.pass();
        match self.client().progress_of(self.id) {
            // Its turn has not come, or is over.
            None => self.complete(),
            Some(true) => self.cut(),
            Some(false) => {
                self.answer(&Answer::fault(Fault::Internal), None, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::exchange::played::{PlayedClient, hub};
    use crate::http::Length;
    use crate::proto::h1::{HeadLimits, parse_response};

    use super::super::client::Scratch;
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// Says the head of a response, and the first of its content.
    fn begin(exchange: &mut Exchange) {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        let limits = HeadLimits {
            head: 100,
            fields: 10,
            target: 100,
        };
        let mut head = crate::http::ResponseHead::default();
        parse_response(text, crate::http::Method::Get, &limits, &mut head).unwrap();
        let mut scratch = Scratch::default();
        exchange.say_head(&mut scratch, text, &head, Length::Known(9));
        let _ = exchange.say(&mut scratch, b"four");
    }

    #[test]
    fn an_exchange_that_is_dropped_is_answered_with_500() {
        let hub = hub();
        let client = PlayedClient::new(&hub);
        drop(client.ask(GET, b""));
        assert_eq!(client.received(), "", "not by the thread that dropped it");
        hub.answer_lost();
        assert!(client.received().starts_with("HTTP/1.1 500 "));
        assert_eq!(hub.accounts.process().requests, 1);
    }

    #[test]
    fn an_exchange_that_is_dropped_amid_its_response_is_cut() {
        let hub = hub();
        let client = PlayedClient::new(&hub);
        let mut exchange = client.ask(GET, b"");
        begin(&mut exchange);
        drop(exchange);
        hub.answer_lost();
        assert!(client.received().ends_with("four") && client.is_reset());
        assert_eq!(client.gone(), Some(Fault::Internal));
        assert_eq!(hub.accounts.process().requests, 1);
    }

    #[test]
    fn an_exchange_that_is_lost_again_costs_its_client_and_is_counted_once() {
        let hub = hub();
        let client = PlayedClient::new(&hub);
        let mut exchange = client.ask(GET, b"");
        exchange.losses = 1;
        drop(exchange);
        hub.answer_lost();
        assert_eq!(client.received(), "");
        assert_eq!(client.gone(), Some(Fault::Internal));
        assert_eq!(hub.accounts.process().requests, 1);
        // And if even that cannot be done it is forgotten.
        let client = PlayedClient::new(&hub);
        let mut exchange = client.ask(GET, b"");
        exchange.losses = 2;
        drop(exchange);
        hub.answer_lost();
        assert_eq!(client.gone(), None);
        assert_eq!(hub.accounts.process().requests, 1);
    }
}
