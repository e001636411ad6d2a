//! A door: a bound address where clients come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::exchange::OpenListener;
use crate::net::listen::Acceptor;
use crate::net::tls::ServerTls;
use crate::plan::BindAddress;

/// A bound address, and how to treat the clients that come in there.
#[derive(Debug)]
pub struct Door {
    acceptor: Acceptor,
    /// The address as it was asked for.
    address: BindAddress,
    listener: ArcSwap<OpenListener>,
    tls: ArcSwapOption<ServerTls>,
    /// Threads in `accept()`.
    waiting: AtomicUsize,
    /// This door is shut. Others may be open.
    is_locked: AtomicBool,
}

impl Door {
    /// A door that is not open yet.
    pub fn new(
        acceptor: Acceptor,
        address: BindAddress,
        listener: Arc<OpenListener>,
        tls: Option<Arc<ServerTls>>,
    ) -> Self {
        Self {
            acceptor,
            address,
            listener: ArcSwap::new(listener),
            tls: ArcSwapOption::new(tls),
            waiting: AtomicUsize::new(0),
            is_locked: AtomicBool::new(false),
        }
    }

    /// The socket.
    pub fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    /// The address as it was asked for.
    pub fn address(&self) -> &BindAddress {
        &self.address
    }

    /// The listener, for clients that come now.
    pub fn listener(&self) -> Arc<OpenListener> {
        self.listener.load_full()
    }

    /// The TLS settings for clients that come now, if they come over TLS.
    pub fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.load_full()
    }

    /// Has these settings for clients that come from now on.
    pub fn set(&self, listener: Arc<OpenListener>, tls: Option<Arc<ServerTls>>) {
        self.listener.store(listener);
        self.tls.store(tls);
    }

    /// The door may be opened again.
    pub fn unlock(&self) {
        self.is_locked.store(false, Ordering::Release);
    }

    /// No thread accepts here any more, once it has seen this.
    pub(super) fn lock(&self) {
        self.is_locked.store(true, Ordering::Release);
    }

    /// Returns whether the door is shut.
    pub(super) fn is_locked(&self) -> bool {
        self.is_locked.load(Ordering::Acquire)
    }

    /// Threads that wait here for a client.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// One more thread waits here.
    pub(super) fn begin_wait(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }

    /// A thread waits no longer. Returns how many others do.
    pub(super) fn end_wait(&self) -> usize {
        self.waiting
            .fetch_sub(1, Ordering::AcqRel)
            .saturating_sub(1)
    }

    /// A thread waits no longer, if more than `enough` wait. Returns whether they did.
    pub(super) fn end_wait_beyond(&self, enough: usize) -> bool {
        let fewer = |waiting: usize| (waiting > enough).then(|| waiting.saturating_sub(1));
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer)
            .is_ok()
    }
}
