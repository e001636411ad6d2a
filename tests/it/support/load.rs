//! Clients in a closed loop: each sends its next request as soon as it has the response to the one
//! before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::{Client, PATIENCE, Response, eventually};

/// The outcome of one request.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    /// The request's path, which no other request has.
    pub(crate) path: String,
    /// `None` when the connection ended instead.
    pub(crate) response: Option<Response>,
}

impl Answered {
    /// The response's status; 0 when there was no response.
    pub(crate) fn status(&self) -> u16 {
        self.response.as_ref().map_or(0, |response| response.status)
    }
}

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Answered>>>,
}

impl Load {
    /// Starts `clients` clients, which send what `request` makes for each path.
    pub(crate) fn start(
        address: &str,
        clients: usize,
        request: impl Fn(&str) -> String + Clone + Send + 'static,
    ) -> Self {
        let (stop, count) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let start = |client: usize| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            let (address, request) = (address.to_owned(), request.clone());
            thread::spawn(move || {
                let mut connection = Client::connect(&address);
                let mut all = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let path = format!("/{client}-{}", all.len());
                    let sent = connection.try_send(request(&path));
                    let response = sent.and_then(|()| connection.try_read_response(false)).ok();
                    if response.as_ref().is_none_or(Response::closes) {
                        connection = Client::connect(&address);
                    }
                    all.push(Answered { path, response });
                    count.fetch_add(1, Ordering::Relaxed);
                }
                all
            })
        };
        Self {
            clients: (0..clients).map(start).collect(),
            stop,
            count,
        }
    }

    /// Clients that send GET requests.
    pub(crate) fn of_gets(address: &str, clients: usize) -> Self {
        Self::start(address, clients, |path| {
            format!("GET {path} HTTP/1.1\r\nHost: load\r\n\r\n")
        })
    }

    /// Clients that send POST requests.
    pub(crate) fn of_posts(address: &str, clients: usize) -> Self {
        Self::start(address, clients, |path| {
            format!("POST {path} HTTP/1.1\r\nHost: load\r\nContent-Length: 4\r\n\r\nbody")
        })
    }

    /// How many requests have ended so far.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until `more` further requests have ended.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, more: usize) {
        let wanted = self.count() + more;
        eventually(PATIENCE, &format!("{more} more requests"), || {
            self.count() >= wanted
        });
    }

    /// Ends the load and returns the outcome of every request.
    #[track_caller]
    pub(crate) fn end(self) -> Vec<Answered> {
        self.stop.store(true, Ordering::Relaxed);
        let clients = self.clients.into_iter();
        clients.flat_map(|client| client.join().unwrap()).collect()
    }

    /// Ends the load and expects status 200 for every request. Returns the number of requests.
    #[track_caller]
    pub(crate) fn end_without_failure(self) -> usize {
        let all = self.end();
        let failed: Vec<_> = all.iter().filter(|one| one.status() != 200).collect();
        assert!(
            failed.is_empty(),
            "{} of {}, the first: {:?}",
            failed.len(),
            all.len(),
            failed[0]
        );
        all.len()
    }
}
