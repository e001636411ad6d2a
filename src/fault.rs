//! The table of failures: for each, the status that the client gets, the two letters for the log,
//! and the reason in words.
//!
//! The letters follow HAProxy's termination codes. First: who ended it (`C` client, `S` server, `P`
//! the proxy refused, `R` a resource was lacking, `I` internal, `c`/`s` a timeout on that side).
//! Second: where it was (`R` request, `Q` queue, `C` connection, `H` response head, `D` data).

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $status:literal $flags:literal $text:literal;)*) => {
        /// Why an exchange did not end well.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Status of the answer; 499 where nobody is left to be answered (as nginx logs it).
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Two letters for the access log.
            pub fn flags(self) -> &'static str {
                match self { $(Self::$name => $flags,)* }
            }

            /// The reason, as the client and the log read it.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

faults! {
    /// A request that breaks the rules of the protocol.
    BadRequest 400 "PR" "the request is malformed";
    /// Plain HTTP where TLS has to come first.
    HttpToTls 400 "PR" "plain HTTP was sent to an HTTPS port";
    /// TLS where plain HTTP is spoken.
    TlsToPlain 400 "PR" "TLS was sent to a plain HTTP port";
    /// No route matches.
    NoRoute 404 "PR" "no route leads from this host and path to a cluster";
    /// A TRACE that was to go no further.
    TraceEnds 405 "PR" "a TRACE that ends here is not answered";
    /// The request head did not come in time.
    HeaderTimeout 408 "cR" "the request head took too long";
    /// The request body did not come in time.
    BodyTimeout 408 "cR" "the request body took too long";
    /// The request body is longer than allowed.
    BodyTooLarge 413 "PR" "the request body is too large";
    /// The target is longer than allowed.
    TargetTooLong 414 "PR" "the request target is too long";
    /// Expect asks for something else than 100-continue.
    ExpectationFailed 417 "PR" "the expectation cannot be met";
    /// The head is longer than allowed, or has more fields.
    HeadTooLarge 431 "PR" "the request head is too large";
    /// A client left before its request was whole.
    ClientGoneRequest 499 "CR" "the client left while it sent its request";
    /// A client left while its request waited.
    ClientGoneQueue 499 "CQ" "the client left while its request was queued";
    /// A client left while the server worked.
    ClientGoneHead 499 "CH" "the client left before the response came";
    /// A client left while it was being answered.
    ClientGoneData 499 "CD" "the client left while the response was sent";
    /// A client took its response too slowly.
    SlowClient 499 "cD" "the client read its response too slowly";
    /// A client that stood still in its request gave way to others.
    GaveWayRequest 503 "RR" "room was short, and the request had not gone on for a while";
    /// A client that stood still in its response gave way to others.
    GaveWayResponse 499 "RD" "room was short, and the client had not read on for a while";
    /// A panic, caught.
    Internal 500 "IR" "an internal error";
    /// A method or transfer coding that is not there.
    NotImplemented 501 "PR" "the method or transfer coding is not implemented";
    /// The server broke the connection while the request was sent.
    SendFailed 502 "SD" "the server closed the connection while the request was sent";
    /// The server closed the connection and sent nothing back.
    ResponseMissing 502 "SH" "the server closed the connection without a response";
    /// The response is no HTTP, or its length can be understood in two ways.
    ResponseMalformed 502 "PH" "the server's response is malformed";
    /// The server's head is too large.
    ResponseTooLarge 502 "PH" "the server's response head is too large";
    /// The server switched to a protocol that nobody asked for.
    UnaskedUpgrade 502 "PH" "the server switched protocols without being asked";
    /// The response broke off.
    ResponseCut 502 "SD" "the server broke off its response";
    /// A 5xx of the server, with `on_5xx = "bad_gateway"`.
    ServerError 502 "SH" "the server answered with an error";
    /// The server refuses connections.
    ConnectFailed 503 "SC" "no connection to a server could be made";
    /// No server can be reached.
    NoServer 503 "SC" "no server can be reached";
    /// The cluster is drained or disabled.
    Disabled 503 "PR" "the cluster is switched off";
    /// The queue is full.
    QueueFull 503 "PQ" "too many requests are waiting";
    /// The client has its part of the queue.
    ClientQueueFull 503 "PQ" "too many requests of this client are waiting";
    /// By what waits before it, the request would not be answered within its client's deadline.
    Hopeless 503 "PQ" "the request's deadline cannot be met";
    /// More requests at once than allowed.
    TooManyRequests 503 "PR" "too many requests at once";
    /// Neither buffer nor spool had room.
    NoBuffer 503 "RR" "no buffer is free";
    /// The balancer stops.
    Draining 503 "PR" "the balancer is shutting down";
    /// The request waited too long.
    QueueTimeout 504 "sQ" "the request waited too long for a server";
    /// The time that its client gave it was over.
    DeadlinePassed 504 "sQ" "the request's deadline has passed";
    /// The server did not take the request in time.
    SendTimeout 504 "sD" "the server did not take the request in time";
    /// The server did not answer in time.
    ResponseTimeout 504 "sH" "the server did not answer in time";
    /// The server stalled in the middle of its response.
    ReadTimeout 504 "sD" "the server stalled in the middle of its response";
    /// HTTP of another version.
    VersionNotSupported 505 "PR" "the HTTP version is not supported";
}

impl Fault {
    /// Whether no cluster ever answers with it: it comes before a route is chosen, or from a fault
    /// of the program itself.
    pub fn is_of_listener(self) -> bool {
        matches!(
            self,
            Self::ExpectationFailed
                | Self::HeaderTimeout
                | Self::HttpToTls
                | Self::Internal
                | Self::NoRoute
                | Self::NotImplemented
                | Self::TargetTooLong
                | Self::TlsToPlain
                | Self::TraceEnds
                | Self::VersionNotSupported
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_manual_lists_every_fault() {
        let manual = include_str!("../docs/operations.md");
        let (_, rest) = manual.split_once("kept by a test) -->\n").unwrap();
        let (table, _) = rest.split_once("<!-- faults:end -->").unwrap();
        let mut expected = String::from("| status | end | reason |\n| --- | --- | --- |\n");
        for fault in Fault::ALL {
            expected.push_str(&format!(
                "| {} | `{}` | {} |\n",
                fault.status(),
                fault.flags(),
                fault.text()
            ));
        }
        assert_eq!(
            table, expected,
            "the table in docs/operations.md should be:\n{expected}"
        );
    }
}
