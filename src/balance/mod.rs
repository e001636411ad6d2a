//! The dispatcher: which worker serves which request, and when. Pure: no threads, no sockets, no
//! clock, and generic over the job.

mod bits;
mod bucket;
mod budget;
mod change;
mod dispatcher;
mod drain;
mod fenwick;
mod heap;
mod ids;
mod job;
mod queue;
mod random;
mod reconfigure;
mod resting;
mod scheduler;
mod servers;
mod settings;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use bucket::BucketCounts;
pub use change::{
    Admin, Bucket, Change, Health, Lending, NewServer, Outcome, Rejection, Role, Schedule,
    ServerChange, Share,
};
pub use dispatcher::Dispatcher;
pub use ids::{BucketId, ServerId, WorkerId};
pub use job::{Cancelled, Handout, LinkState, Offer, Refusal, Ticket, Verdict};
pub use settings::{Counts, ServerCounts, Settings};
