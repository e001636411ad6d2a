//! Sockets: listening, connecting, streams, TLS settings. These are the types of std, with a few
//! options that std lacks.

pub mod bell;
pub mod connect;
pub mod listen;
pub mod resolve;
pub mod stream;
pub mod tls;

pub use stream::Stream;
