//! Changes to a running dispatcher. No waiting or served job is lost by a change.

use std::time::Instant;

use super::{
    Admin, Bucket, BucketId, Change, Dispatcher, Outcome, Refusal, Rejection, Role, ServerChange,
    ServerId, WorkerId,
};

impl<J> Dispatcher<J> {
    /// Changes the cluster, or returns why it cannot be changed.
    pub fn apply(&mut self, change: Change, now: Instant) -> Result<Outcome<J>, Rejection> {
        let mut outcome = Outcome::default();
        match change {
            Change::AddServer(new) => {
                let server = self.servers.add(new);
                self.staff(server, &mut outcome);
                outcome.server = Some(server);
            }
            Change::SetServer(server, change) => {
                self.known(server)?;
                let stays = self.servers.is_protected(server) && change.protected != Some(false);
                if stays && change.role == Some(Role::Terminating) {
                    return Err(Rejection::Protected);
                }
                self.servers.change(server, change);
                self.staff(server, &mut outcome);
            }
            Change::RemoveServer(server) => {
                self.known(server)?;
                if self.servers.is_protected(server) {
                    return Err(Rejection::Protected);
                }
                let role = Some(Role::Terminating);
                self.servers.change(
                    server,
                    ServerChange {
                        role,
                        ..ServerChange::default()
                    },
                );
                self.staff(server, &mut outcome);
            }
            Change::AddBucket(parent, bucket) => {
                let bucket = self.buckets.add(parent, bucket)?;
                self.forget_pace(bucket);
                outcome.bucket = Some(bucket);
            }
            Change::SetBucket(id, bucket) => self.buckets.set(id, bucket)?,
            Change::RemoveBucket(bucket) => self.remove_bucket(bucket)?,
            Change::SetSchedule(schedule) => {
                self.settings.schedule = schedule;
                self.servers.set_schedule(schedule);
            }
            Change::SetLending(lending) => {
                self.settings.lending = lending;
                self.buckets.set_lending(lending);
            }
            Change::SetBinding { early } => self.set_binding(early),
            Change::SetQueue {
                limit,
                wait_for_server,
            } => {
                self.settings.queue_limit = limit;
                self.settings.wait_for_server = wait_for_server;
            }
            Change::SetRetries { floor, share } => self.budget.set(floor, share),
            Change::SetAdmin(admin) => {
                self.admin = admin;
                if admin == Admin::Disabled {
                    self.refuse_all(Refusal::Disabled, &mut outcome.handout.refused);
                }
            }
            Change::Close => {
                self.closed = true;
                self.refuse_all(Refusal::Closed, &mut outcome.handout.refused);
            }
        }
        self.settle(now, &mut outcome.handout);
        Ok(outcome)
    }

    /// Removes a worker that has ended after its dismissal. A worker may also end without a
    /// dismissal (by accident); its jobs must be given back by [`Self::next`] before.
    pub fn gone(&mut self, worker: WorkerId, now: Instant) -> Outcome<J> {
        let mut outcome = Outcome::default();
        if let Some(server) = self.servers.remove_worker(worker) {
            self.staff(server, &mut outcome);
        }
        self.settle(now, &mut outcome.handout);
        outcome
    }

    fn known(&self, server: ServerId) -> Result<(), Rejection> {
        if !self.servers.exists(server) {
            Err(Rejection::UnknownServer)
        } else if self.servers.role(server) == Role::Terminating {
            Err(Rejection::Terminating)
        } else {
            Ok(())
        }
    }

    /// Brings the number of a server's workers to the wanted one, and updates what depends on it.
    fn staff(&mut self, server: ServerId, outcome: &mut Outcome<J>) {
        // At the end no worker is replaced.
        let may_start = !self.closed;
        let gone = (self.servers).staff(
            server,
            may_start,
            &mut outcome.started,
            &mut outcome.dismissed,
        );
        self.adapt();
        if gone {
            self.forget(server);
        }
    }

    /// Ends the avoidance of a server that is gone.
    fn forget(&mut self, server: ServerId) {
        let Self {
            queue,
            resting,
            buckets,
            ..
        } = self;
        resting.forget(server);
        queue.move_all(|waiting| {
            if waiting.ticket.avoid != Some(server) {
                return false;
            }
            buckets.leave(waiting.ticket.bucket, waiting.is_open());
            waiting.ticket.avoid = None;
            buckets.join(waiting.ticket.bucket, waiting.is_open());
            true
        });
    }

    fn set_binding(&mut self, early: bool) {
        if self.settings.early_binding == early {
            return;
        }
        self.settings.early_binding = early;
        self.servers.set_binding(early);
        if !early {
            self.open_bound(None);
        }
        // Entitled jobs have claims only if any slot that becomes free helps them.
        self.buckets.set_claiming(!early);
    }

    fn remove_bucket(&mut self, bucket: BucketId) -> Result<(), Rejection> {
        let heir = self.buckets.heir(bucket)?;
        let Self {
            queue,
            resting,
            buckets,
            servers,
            ..
        } = self;
        resting.move_all(bucket, heir);
        queue.move_all(|waiting| {
            if waiting.ticket.bucket != bucket {
                return false;
            }
            buckets.leave(bucket, waiting.is_open());
            waiting.ticket.bucket = heir;
            buckets.join(heir, waiting.is_open());
            true
        });
        servers.move_running(bucket, heir);
        buckets.remove(bucket);
        Ok(())
    }
}

/// The settings of a bucket without limits.
impl Default for Bucket {
    fn default() -> Self {
        Self {
            assured: super::Share::Part(0.0),
            ceiling: super::Share::Part(1.0),
            queue_limit: usize::MAX,
        }
    }
}
