//! What knows nothing of HTTP or sockets: addresses, buffers, dates, moments, units.

pub mod address;
pub mod buffers;
pub mod date;
pub mod text;
pub mod time;
pub mod units;
