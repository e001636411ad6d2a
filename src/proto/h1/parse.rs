//! Heads into ranges.

use crate::http::{Method, RequestHead, ResponseHead};

use super::{HeadLimits, Malformed};

/// Parses exactly one whole request head, as [`super::HeadScanner`] found it (no empty lines before it).
pub fn parse_request(head: &[u8], limits: &HeadLimits, out: &mut RequestHead) -> Result<(), Malformed> {
    let _ = (head, limits, out);
    todo!()
}

/// Parses exactly one whole response head to a request of this method.
pub fn parse_response(head: &[u8], method: Method, limits: &HeadLimits, out: &mut ResponseHead) -> Result<(), Malformed> {
    let _ = (head, method, limits, out);
    todo!()
}
