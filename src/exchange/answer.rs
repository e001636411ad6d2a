//! Responses that are made here: short, plain, and with the reason.

use std::borrow::Cow;

use crate::fault::Fault;
use crate::http::Method;

/// A response that is made here.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Why, if it is about a failure.
    pub fault: Option<Fault>,
    /// `Retry-After` of a 503, in seconds.
    pub retry_after: u32,
    /// `Location`, where there is one.
    pub location: Option<Vec<u8>>,
    /// It names the methods that are served (`Allow`).
    pub(super) allow: bool,
    /// What it says in plain text.
    pub(super) text: Cow<'static, str>,
}

impl Answer {
    /// Tells a failure.
    pub fn fault(fault: Fault) -> Self {
        Self {
            status: fault.status(),
            fault: Some(fault),
            retry_after: 1,
            location: None,
            allow: false,
            text: Cow::Borrowed(fault.text()),
        }
    }

    /// What it says in plain text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Tells a failure, and what exactly is the cause if that is known.
    pub fn because(fault: Fault, cause: Option<&'static str>) -> Self {
        let answer = Self::fault(fault);
        match cause {
            Some(cause) => Self {
                text: Cow::Owned(format!("{}: {cause}", fault.text())),
                ..answer
            },
            None => answer,
        }
    }

    /// The balancer is well, or about to stop.
    pub fn health(draining: bool) -> Self {
        let (status, text) = if draining {
            (503, "draining")
        } else {
            (200, "ok")
        };
        Self {
            status,
            fault: None,
            retry_after: 1,
            location: None,
            allow: false,
            text: Cow::Borrowed(text),
        }
    }

    /// Go there instead, with the same method.
    pub fn redirect(location: Vec<u8>) -> Self {
        Self {
            status: 308,
            fault: None,
            retry_after: 1,
            location: Some(location),
            allow: false,
            text: Cow::Borrowed("this is served over https"),
        }
    }

    /// An OPTIONS or TRACE that may not be passed on any more (`Max-Forwards: 0`, RFC 9110 §7.6.2).
    ///
    /// TRACE is not answered with what came (RFC 9110 §9.3.8): that would show a script in a
    /// browser, or the client of a proxy before us, fields that were not meant for it.
    pub fn last_hop(method: Method) -> Self {
        let answer = match method {
            Method::Trace => Self::fault(Fault::TraceEnds),
            _ => Self {
                status: 200,
                fault: None,
                text: Cow::Borrowed("the request was to go no further"),
                ..Self::health(false)
            },
        };
        Self {
            allow: true,
            ..answer
        }
    }
}
