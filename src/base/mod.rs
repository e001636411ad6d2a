//! What needs neither HTTP nor sockets: addresses, alarms, buffers, dates, descriptors, moments,
//! units, a switch for tests.

pub mod address;
pub mod alarm;
pub mod buffers;
pub mod date;
pub mod descriptors;
pub mod panic_points;
pub mod text;
pub mod time;
pub mod units;
pub mod words;
