//! A probe that a worker makes over its own connection, or over a new one in its place.

use std::sync::Arc;
use std::time::Instant;

use crate::health::{FaultClass, ProbeId};
use crate::plan::{HttpProbe, Probe};
use crate::upstream::connection::Connection;
use crate::upstream::question::{Question, Wrong, deadline};

use super::state::Worker;

impl Worker {
    /// Makes a probe and reports how it went. Returns whether the connection is still good.
    pub(super) fn probe(&mut self, connection: &mut Connection, id: ProbeId) -> bool {
        let plan = Arc::clone(&self.cluster().plan());
        let until = deadline(&plan);
        let (result, is_good) = match &plan.health.probe {
            Probe::Tcp => match self.connect_anew(connection) {
                Ok(()) => (Ok(()), true),
                Err(wrong) => (Err(wrong), false),
            },
            Probe::Http(probe) => match self.ask(connection, probe, until) {
                Ok(is_whole) => (Ok(()), is_whole),
                // The connection may still carry the rest of a response that was wrong.
                Err(wrong) => (Err(wrong), false),
            },
        };
        if !is_good {
            // Whatever still comes over it is the response to no other request.
            connection.link().break_off();
        }
        self.overseer().probed(&self.server, id, result);
        is_good
    }

    /// Makes a probe for a worker that has no connection, over one for that alone.
    pub(super) fn probe_unconnected(&mut self, id: ProbeId) {
        match self.connect(None) {
            Ok(mut connection) => {
                if self.cluster().plan().health.probe == Probe::Tcp {
                    self.overseer().probed(&self.server, id, Ok(()));
                } else {
                    self.probe(&mut connection, id);
                }
            }
            Err(error) => {
                let wrong = (FaultClass::Connect, error.to_string());
                self.overseer().probed(&self.server, id, Err(wrong));
            }
        }
    }

    /// Puts another connection in the place of this one, which is closed first: there is never one
    /// more than the server's capacity.
    fn connect_anew(&self, connection: &mut Connection) -> Result<(), Wrong> {
        self.slot().forget_connection();
        connection.link().break_off();
        match self.connect(None) {
            Ok(new) => {
                *connection = new;
                Ok(())
            }
            Err(error) => Err((FaultClass::Connect, error.to_string())),
        }
    }

    fn ask(
        &self,
        connection: &mut Connection,
        probe: &HttpProbe,
        until: Instant,
    ) -> Result<bool, Wrong> {
        if !connection.is_quiet() {
            // The server has closed it while it was idle, which says nothing of its health.
            self.connect_anew(connection)?;
        }
        Question::new(until).ask(connection, probe)
    }
}
