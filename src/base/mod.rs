//! What knows nothing of HTTP or sockets: buffers, dates, units.

pub mod buffers;
pub mod date;
pub mod units;
