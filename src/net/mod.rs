//! Sockets: listening, connecting, streams, TLS settings. Std's own types, with the few options
//! that std has no word for.

pub mod bell;
pub mod connect;
pub mod listen;
pub mod resolve;
pub mod stream;
pub mod tls;

pub use stream::Stream;
