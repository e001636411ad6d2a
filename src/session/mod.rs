//! The front: doors, and one thread for each client that comes in.

mod body;
mod cipher;
mod door;
mod front;
mod greet;
mod h1;
mod handshake;
mod head;
mod input;
mod linger;
mod malformed;
mod misplaced;
mod places;
mod reader;
mod room;
mod tunnel;

pub use door::Door;
pub use front::Front;
