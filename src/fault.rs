//! The table of failures. For each: the status that the client gets, the two letters for the log,
//! where it can arise, who is to blame, whether the request may be tried again, what it shows of
//! the server, and the reason in words.
//!
//! The letters follow HAProxy's termination codes. First: who ended it (`C` client, `S` server, `P`
//! the proxy refused, `R` a resource was lacking, `I` internal, `c`/`s` a timeout on that side).
//! Second: where it was (`R` request, `Q` queue, `C` connection, `H` response head, `D` data).

use std::fmt;

/// Where a fault can arise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Before a route is chosen, or in the program itself: no cluster ever responds with it.
    Listener,
    /// Once the cluster is known, too.
    Cluster,
}

/// What is to blame for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client, by what it asked for or how it behaved.
    Client,
    /// A server, or the way to it.
    Server,
    /// No party alone: more was asked for at once than there is room or time for.
    Load,
    /// The balancer: it is at fault itself, or does what its operator wants.
    Balancer,
}

impl fmt::Display for Blame {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Load => "load",
            Self::Balancer => "balancer",
        })
    }
}

/// Whether a request may be sent again after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// No. The server may still be at work on it, would fail again, or no server was concerned.
    Never,
    /// The server may have acted on it: only if its method is idempotent (RFC 9110 §9.2.2).
    IfIdempotent,
    /// No server has seen anything of it.
    Always,
}

impl fmt::Display for Repeat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Never => "no",
            Self::IfIdempotent => "if idempotent",
            Self::Always => "yes",
        })
    }
}

/// What a failed exchange or probe shows of the server: the class of evidence that health checks
/// count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// No connection could be made.
    Connect,
    /// The connection broke.
    Broken,
    /// There was no response in time.
    Timeout,
    /// What came was no HTTP.
    Protocol,
    /// The server said that something is wrong with it (5xx).
    Status,
}

impl FaultClass {
    /// The number of classes; `class as usize` is less.
    pub const COUNT: usize = 5;
}

impl fmt::Display for FaultClass {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Connect => "no connection could be made",
            Self::Broken => "the connection broke",
            Self::Timeout => "no answer in time",
            Self::Protocol => "the answer was no HTTP",
            Self::Status => "the server answered with an error",
        })
    }
}

macro_rules! evidence {
    (Nothing) => {
        None
    };
    ($class:ident) => {
        Some(FaultClass::$class)
    };
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $status:literal $flags:literal
       $scope:ident $blame:ident $repeat:ident $evidence:ident $text:literal;)*) => {
        /// Why an exchange, or one attempt at it, did not end well.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Status of the response; 499 where no client is left to get one (as nginx logs it).
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Two letters for the access log.
            pub fn flags(self) -> &'static str {
                match self { $(Self::$name => $flags,)* }
            }

            /// Where it can arise.
            pub fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope,)* }
            }

            /// What is to blame.
            pub fn blame(self) -> Blame {
                match self { $(Self::$name => Blame::$blame,)* }
            }

            /// Returns whether a request that a server may have seen may be sent again.
            pub fn repeat(self) -> Repeat {
                match self { $(Self::$name => Repeat::$repeat,)* }
            }

            /// What it shows of the server; `None` if nothing.
            pub fn evidence(self) -> Option<FaultClass> {
                match self { $(Self::$name => evidence!($evidence),)* }
            }

            /// The reason, as the client and the log read it.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

// Name, status, letters; scope, blame, whether to repeat, evidence; text.
faults! {
    /// A request that breaks the rules of the protocol.
    BadRequest 400 "PR" Cluster Client Never Nothing
        "the request is malformed";
    /// Plain HTTP where TLS has to come first.
    HttpToTls 400 "PR" Listener Client Never Nothing
        "plain HTTP was sent to an HTTPS port";
    /// TLS where plain HTTP is spoken.
    TlsToPlain 400 "PR" Listener Client Never Nothing
        "TLS was sent to a plain HTTP port";
    /// No route matches.
    NoRoute 404 "PR" Listener Client Never Nothing
        "no route leads from this host and path to a cluster";
    /// A TRACE that was to go no further.
    TraceEnds 405 "PR" Listener Client Never Nothing
        "a TRACE that ends here is not answered";
    /// The request head did not come in time.
    HeaderTimeout 408 "cR" Listener Client Never Nothing
        "the request head took too long";
    /// The request body did not come in time.
    BodyTimeout 408 "cR" Cluster Client Never Nothing
        "the request body took too long";
    /// The request body is longer than allowed.
    BodyTooLarge 413 "PR" Cluster Client Never Nothing
        "the request body is too large";
    /// The target is longer than allowed.
    TargetTooLong 414 "PR" Listener Client Never Nothing
        "the request target is too long";
    /// Expect asks for something else than 100-continue.
    ExpectationFailed 417 "PR" Listener Client Never Nothing
        "the expectation cannot be met";
    /// The head is longer than allowed, or has more fields.
    HeadTooLarge 431 "PR" Cluster Client Never Nothing
        "the request head is too large";
    /// A client left before its request was whole.
    ClientGoneRequest 499 "CR" Cluster Client Never Nothing
        "the client left while it sent its request";
    /// A client left while its request waited.
    ClientGoneQueue 499 "CQ" Cluster Client Never Nothing
        "the client left while its request was queued";
    /// A client left while the server worked.
    ClientGoneHead 499 "CH" Cluster Client Never Nothing
        "the client left before the response came";
    /// A client left while it was being answered.
    ClientGoneData 499 "CD" Cluster Client Never Nothing
        "the client left while the response was sent";
    /// A client took its response too slowly.
    SlowClient 499 "cD" Cluster Client Never Nothing
        "the client read its response too slowly";
    /// A client that stood still in its request gave way to others.
    GaveWayRequest 503 "RR" Cluster Load Never Nothing
        "room was short, and the request had not gone on for a while";
    /// A client that stood still in its response gave way to others.
    GaveWayResponse 499 "RD" Cluster Load Never Nothing
        "room was short, and the client had not read on for a while";
    /// A panic, caught.
    Internal 500 "IR" Listener Balancer Never Nothing
        "an internal error";
    /// A method or transfer coding that is not there.
    NotImplemented 501 "PR" Listener Client Never Nothing
        "the method or transfer coding is not implemented";
    /// The server broke the connection while the request was sent.
    SendFailed 502 "SD" Cluster Server IfIdempotent Broken
        "the server closed the connection while the request was sent";
    /// The server closed the connection and sent nothing back.
    ResponseMissing 502 "SH" Cluster Server IfIdempotent Broken
        "the server closed the connection without a response";
    /// The response is no HTTP, or its length can be understood in two ways.
    ResponseMalformed 502 "PH" Cluster Server Never Protocol
        "the server's response is malformed";
    /// The server's head is too large.
    ResponseTooLarge 502 "PH" Cluster Server Never Protocol
        "the server's response head is too large";
    /// The server switched to a protocol that was not asked for.
    UnaskedUpgrade 502 "PH" Cluster Server Never Protocol
        "the server switched protocols without being asked";
    /// The response broke off.
    ResponseCut 502 "SD" Cluster Server Never Broken
        "the server broke off its response";
    /// A 5xx of the server, with `on_5xx = "bad_gateway"`.
    ServerError 502 "SH" Cluster Server IfIdempotent Status
        "the server answered with an error";
    /// The server refuses connections.
    ConnectFailed 503 "SC" Cluster Server Always Connect
        "no connection to a server could be made";
    /// No server can be reached.
    NoServer 503 "SC" Cluster Server Never Nothing
        "no server can be reached";
    /// The cluster is drained or disabled.
    Disabled 503 "PR" Cluster Balancer Never Nothing
        "the cluster is switched off";
    /// The queue is full.
    QueueFull 503 "PQ" Cluster Load Never Nothing
        "too many requests are waiting";
    /// The client has its part of the queue.
    ClientQueueFull 503 "PQ" Cluster Client Never Nothing
        "too many requests of this client are waiting";
    /// By what waits before it, the request would not be answered within its client's deadline.
    Hopeless 503 "PQ" Cluster Load Never Nothing
        "the request's deadline cannot be met";
    /// More requests at once than allowed.
    TooManyRequests 503 "PR" Cluster Load Never Nothing
        "too many requests at once";
    /// The lane has no place for a stream.
    LaneFull 503 "PR" Cluster Load Never Nothing
        "too many streams at once";
    /// Neither buffer nor spool had room.
    NoBuffer 503 "RR" Cluster Load Never Nothing
        "no buffer is free";
    /// The balancer stops.
    Draining 503 "PR" Cluster Balancer Never Nothing
        "the balancer is shutting down";
    /// The request waited too long.
    QueueTimeout 504 "sQ" Cluster Load Never Nothing
        "the request waited too long for a server";
    /// The time that its client gave it was over.
    DeadlinePassed 504 "sQ" Cluster Load Never Nothing
        "the request's deadline has passed";
    /// The server did not take the request in time.
    SendTimeout 504 "sD" Cluster Server Never Timeout
        "the server did not take the request in time";
    /// The server did not answer in time.
    ResponseTimeout 504 "sH" Cluster Server Never Timeout
        "the server did not answer in time";
    /// The server stalled in the middle of its response.
    ReadTimeout 504 "sD" Cluster Server Never Timeout
        "the server stalled in the middle of its response";
    /// HTTP of another version.
    VersionNotSupported 505 "PR" Listener Client Never Nothing
        "the HTTP version is not supported";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_manual_lists_every_fault() {
        let manual = include_str!("../docs/operations.md");
        let (_, rest) = manual
            .split_once("<!-- faults:begin (kept by a test) -->\n")
            .unwrap();
        let (table, _) = rest.split_once("<!-- faults:end -->").unwrap();
        let mut expected = String::from(
            "| status | end | reason | cause | tried again |\n| --- | --- | --- | --- | --- |\n",
        );
        for fault in Fault::ALL {
            expected.push_str(&format!(
                "| {} | `{}` | {} | {} | {} |\n",
                fault.status(),
                fault.flags(),
                fault.text(),
                fault.blame(),
                fault.repeat()
            ));
        }
        assert_eq!(
            table, expected,
            "the table in docs/operations.md should be:\n{expected}"
        );
    }

    #[test]
    fn only_a_server_that_is_to_blame_is_shown_in_a_bad_light() {
        for &fault in Fault::ALL {
            // `NoServer` is about all servers and so is no evidence against one.
            let is_about_one = fault.blame() == Blame::Server && fault != Fault::NoServer;
            assert_eq!(fault.evidence().is_some(), is_about_one, "{fault:?}");
            if let Some(class) = fault.evidence() {
                assert!((class as usize) < FaultClass::COUNT, "{fault:?}");
            }
        }
    }

    #[test]
    fn only_what_a_server_has_failed_at_is_repeated() {
        let repeated: Vec<_> = (Fault::ALL.iter())
            .filter(|fault| fault.repeat() != Repeat::Never)
            .collect();
        assert_eq!(
            repeated,
            [
                &Fault::SendFailed,
                &Fault::ResponseMissing,
                &Fault::ServerError,
                &Fault::ConnectFailed
            ]
        );
        for fault in repeated {
            assert_eq!(fault.blame(), Blame::Server);
            let is_unsent = fault.evidence() == Some(FaultClass::Connect);
            assert_eq!(fault.repeat() == Repeat::Always, is_unsent, "{fault:?}");
        }
    }

    #[test]
    fn the_letters_agree_with_the_blame() {
        for &fault in Fault::ALL {
            let first = fault.flags().as_bytes()[0];
            let fits = match fault.blame() {
                Blame::Client => matches!(first, b'C' | b'c' | b'P'),
                // `P`: the proxy refused what the server sent.
                Blame::Server => matches!(first, b'S' | b's' | b'P'),
                Blame::Load => matches!(first, b'R' | b'P' | b's'),
                Blame::Balancer => matches!(first, b'I' | b'P'),
            };
            assert!(fits, "{fault:?}");
            if fault.status() == 499 {
                assert!(matches!(fault.blame(), Blame::Client | Blame::Load));
            }
        }
    }
}
