//! A carrier: a thread that goes on with one long response where a worker stopped, at the client's
//! pace.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::exchange::{Exchange, Scratch};
use crate::fault::Fault;
use crate::threads::{self, Kind};

use super::connection::Connection;
use super::lane::InLane;
use super::relay::{Passage, Relay};
use super::tunnel::{self, Far};

/// What a carrier goes on with.
#[derive(Debug)]
pub(super) struct Load {
    /// The exchange, whose response has begun.
    pub(super) exchange: Exchange,
    /// The connection that the rest of the response comes over.
    pub(super) connection: Connection,
    /// Its place in the lane.
    pub(super) place: InLane,
    /// How long the server may say nothing.
    pub(super) patience: Duration,
    /// `cluster/server`, for messages.
    pub(super) name: String,
    /// The server has switched protocols: the rest is no response, but a tunnel's.
    pub(super) tunnel: Option<Arc<Far>>,
}

/// Starts a carrier. The load comes back if no thread can be had.
pub(super) fn start(load: Load) -> Result<(), Box<Load>> {
    let name = format!("c-{}", load.exchange.id);
    let handed = Arc::new(Mutex::new(Some(Box::new(load))));
    let taken = Arc::clone(&handed);
    let started = threads::spawn(Kind::Carrier, name, move || {
        // Not in the `if`: the lock would be held to the end of the response.
        let load = taken.lock().take();
        if let Some(load) = load {
            carry(*load);
        }
    });
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            log::warn!("a long response stays with its worker: no thread can be started: {error}");
            handed.lock().take().map_or(Ok(()), Err)
        }
    }
}

fn carry(load: Load) {
    let Load {
        exchange,
        mut connection,
        place,
        patience,
        name,
        tunnel,
    } = load;
    // The client is waited for from here on. What it has not taken stays with the server.
    exchange.stop_spooling();
    if let Some(far) = tunnel {
        return tunnel::carry(exchange, connection, &place, &far, patience);
    }
    let mut scratch = Scratch::default();
    let mut held = Some(exchange);
    let passage = Relay::by_carrier(&mut scratch, patience).body(&mut connection, &mut held);
    let Some(mut exchange) = held else {
        return;
    };
    let fault = match (place.fault(), passage) {
        (Some(fault), _) => fault,
        (None, Passage::Broken(fault)) => {
            log::info!("{name}: {}", fault.text());
            fault
        }
        (None, _) => Fault::Internal,
    };
    exchange.fault = Some(exchange.gone().unwrap_or(fault));
    exchange.cut();
}
