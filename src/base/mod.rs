//! What knows nothing of HTTP or sockets: buffers, dates, moments, units.

pub mod buffers;
pub mod date;
pub mod text;
pub mod time;
pub mod units;
