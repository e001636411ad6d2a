//! The program's life: what is started in which order, what commands do, how it ends.

mod commands;
mod doors;
mod drain;
mod limits;
mod logging;
mod losses;
mod privileges;
mod reload;
mod render;
mod retired;
mod run;
mod running;
mod signals;
mod start;
mod summary;
mod systemd;
mod tick;
mod view;

pub use commands::{Command, Control, Effect, Outcome, Reason};
pub use run::run;
pub use running::Source;
pub use view::{ListenerView, ProcessView, View};
