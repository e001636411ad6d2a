//! The table of every key: declared here, once, and nowhere else. The reader takes types, limits
//! and defaults from it, and so does the documentation, so that neither can be wrong about the
//! other.

mod cluster;
mod health;
mod listener;
mod parts;
mod process;
mod sections;
mod sharing;

pub(super) use health::{CLASSES, HEALTH};
pub(super) use sections::{SECTIONS, section};
