//! HTTP/1.x (RFC 9112). Requests are parsed strictly: what two parsers could read differently is
//! refused, never repaired. Responses may have the oddities that every balancer delivers, and are
//! rewritten.

mod chunked;
mod coming;
mod going;
mod malformed;
mod parse;
mod response;
mod scan;
mod syntax;
mod write;

pub use chunked::{ChunkEvent, ChunkedDecoder};
pub use coming::{Coming, Step};
pub use going::Going;
pub use malformed::{HeadLimits, Malformed};
pub use parse::parse_request;
pub use response::parse_response;
pub use scan::HeadScanner;
pub use syntax::is_token;
pub use write::{
    Persistence, RequestRewrite, ResponseRewrite, write_chunk_size, write_last_chunk,
    write_request, write_response,
};

#[cfg(test)]
mod tests;
