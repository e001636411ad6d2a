//! Load, and a server that measures it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Client, Gate, Origin};

/// A server that takes a fixed time for each request, responds with its name, and counts what it
/// does at once.
///
/// Requests for `/held...` wait at a gate instead. The server counts a request as ended *before* it
/// sends the response, because the next one may come in before the count falls.
pub(crate) struct Station {
    name: &'static str,
    origin: Origin,
    gate: Gate,
    desk: Arc<Desk>,
}

struct Desk {
    /// In microseconds.
    service: AtomicU32,
    state: Mutex<State>,
}

struct State {
    since: Instant,
    total: Row,
    by_path: BTreeMap<String, Row>,
}

/// What was done for one path, or for all.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// How many at once, now.
    pub(crate) now: usize,
    /// How many at once, at most.
    pub(crate) most: usize,
    /// How many have ended.
    pub(crate) served: usize,
    /// How many at once, on average over time.
    pub(crate) mean: f64,
    changed: Instant,
    busy: f64,
}

impl Row {
    fn new(at: Instant) -> Self {
        Self {
            now: 0,
            most: 0,
            served: 0,
            mean: 0.0,
            changed: at,
            busy: 0.0,
        }
    }

    fn pass(&mut self, at: Instant) {
        self.busy += self.now as f64 * (at - self.changed).as_secs_f64();
        self.changed = at;
    }

    fn begin(&mut self) {
        self.pass(Instant::now());
        self.now += 1;
        self.most = self.most.max(self.now);
    }

    fn end(&mut self) {
        self.pass(Instant::now());
        self.now -= 1;
        self.served += 1;
    }

    fn forget(&mut self, at: Instant) {
        *self = Self {
            now: self.now,
            most: self.now,
            ..Self::new(at)
        };
    }

    fn look(&self, since: Instant) -> Self {
        let mut row = self.clone();
        let now = Instant::now();
        row.pass(now);
        row.mean = row.busy / (now - since).as_secs_f64().max(1e-9);
        row
    }
}

impl Station {
    /// Starts a server that takes this long for a request.
    pub(crate) fn start(name: &'static str, service: Duration) -> Self {
        let now = Instant::now();
        let desk = Arc::new(Desk {
            service: AtomicU32::new(service.as_micros().try_into().unwrap()),
            state: Mutex::new(State {
                since: now,
                total: Row::new(now),
                by_path: BTreeMap::new(),
            }),
        });
        let gate = Gate::new();
        let (serving, held) = (Arc::clone(&desk), gate.clone());
        let origin = Origin::start(move |conn, _| {
            while let Some(request) = conn.request() {
                serving.note(&request.target, Row::begin);
                if request.target.starts_with("/held") {
                    held.wait();
                } else {
                    thread::sleep(Duration::from_micros(
                        serving.service.load(Ordering::Relaxed).into(),
                    ));
                }
                serving.note(&request.target, Row::end);
                conn.answer(200, name);
            }
        });
        Self {
            name,
            origin,
            gate,
            desk,
        }
    }

    /// Returns `N` servers without delay, named `s0`, `s1`, `s2` and so on.
    pub(crate) fn quick<const N: usize>() -> [Self; N] {
        let names = ["s0", "s1", "s2", "s3"];
        std::array::from_fn(|index| Self::start(names[index], Duration::ZERO))
    }

    /// Sets the time that the server takes from now on.
    pub(crate) fn set_service(&self, service: Duration) {
        let service = service.as_micros().try_into().unwrap();
        self.desk.service.store(service, Ordering::Relaxed);
    }

    /// The gate at which requests for `/held...` wait.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The scripted server below.
    pub(crate) fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    /// The server's name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The server's address.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.origin.address()
    }

    /// Waits until `count` connections are open.
    #[track_caller]
    pub(crate) fn wait_for_connections(&self, count: usize) {
        self.origin.wait_for_connections(count);
    }

    /// The targets of the whole requests so far, in order.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.origin
            .requests()
            .into_iter()
            .map(|request| request.target)
            .collect()
    }

    /// Starts counting anew. Requests in progress count as begun now.
    pub(crate) fn begin(&self) {
        self.origin.forget();
        let now = Instant::now();
        let mut state = self.desk.state.lock().unwrap();
        state.since = now;
        state.total.forget(now);
        state.by_path.values_mut().for_each(|row| row.forget(now));
    }

    /// What was done for all paths since counting began.
    pub(crate) fn total(&self) -> Row {
        let state = self.desk.state.lock().unwrap();
        state.total.look(state.since)
    }

    /// What was done for this path since counting began.
    pub(crate) fn of(&self, path: &str) -> Row {
        let state = self.desk.state.lock().unwrap();
        let row = state.by_path.get(path).cloned();
        row.unwrap_or_else(|| Row::new(state.since))
            .look(state.since)
    }
}

impl Desk {
    fn note(&self, target: &str, what: fn(&mut Row)) {
        let mut state = self.state.lock().unwrap();
        what(&mut state.total);
        match state.by_path.get_mut(target) {
            Some(row) => what(row),
            None => what(
                state
                    .by_path
                    .entry(target.to_owned())
                    .or_insert_with(|| Row::new(Instant::now())),
            ),
        }
    }
}

/// A GET of this path, with these field lines (each with its CRLF).
pub(crate) fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

/// The time to measure. `JUGGLER_TEST_STRETCH` multiplies it, for figures that go into documents.
pub(crate) fn span(milliseconds: u64) -> Duration {
    let stretch = std::env::var("JUGGLER_TEST_STRETCH")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_millis(milliseconds * stretch.unwrap_or(1))
}

/// The outcome of a request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// When the request was sent.
    pub(crate) sent: Instant,
    /// The time until the response was whole.
    pub(crate) took: Duration,
    pub(crate) status: u16,
    /// The response's body.
    pub(crate) text: String,
}

/// The outcomes of many requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replies(pub(crate) Vec<Reply>);

impl Replies {
    /// The outcomes with this status.
    pub(crate) fn with(&self, status: u16) -> Self {
        Self(
            self.0
                .iter()
                .filter(|reply| reply.status == status)
                .cloned()
                .collect(),
        )
    }

    /// The outcomes that ended after `from` and no later than `to`.
    pub(crate) fn ended_between(&self, from: Instant, to: Instant) -> Self {
        let ended = |reply: &&Reply| (from..to).contains(&(reply.sent + reply.took));
        Self(self.0.iter().filter(ended).cloned().collect())
    }

    /// How many outcomes there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time within which this part of them ended.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let mut times: Vec<_> = self.0.iter().map(|reply| reply.took).collect();
        times.sort_unstable();
        let place = (times.len() as f64 * part) as usize;
        times
            .get(place.min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Expects status 200 for all.
    #[track_caller]
    pub(crate) fn expect_good(&self) {
        let bad = self.0.iter().find(|reply| reply.status != 200);
        assert!(bad.is_none(), "{bad:?}, and {} in all", self.len());
        assert!(self.len() > 0, "there were no requests");
    }
}

/// Clients that each send a request, read its response, and send the next at once.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Reply>>>,
}

impl Load {
    /// Starts `clients` clients that send this request. `{n}` in it is the client's number.
    pub(crate) fn start(address: impl Display, clients: usize, request: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |number: usize| {
            let request = request.replace("{n}", &number.to_string());
            let (stop, address) = (Arc::clone(&stop), address.to_string());
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut replies = Vec::new();
                while !stop.load(Ordering::Relaxed)
                    && replies.last().is_none_or(|reply: &Reply| reply.status > 0)
                {
                    replies.push(ask(&mut client, &request));
                }
                replies
            })
        };
        let clients = (0..clients).map(start).collect();
        Self { stop, clients }
    }

    /// Lets each client end its request, and returns all outcomes.
    #[track_caller]
    pub(crate) fn end(mut self) -> Replies {
        self.stop.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut self.clients);
        Replies(
            clients
                .into_iter()
                .flat_map(|client| client.join().unwrap())
                .collect(),
        )
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends this request `rate` times a second for this time, evenly and independent of the responses,
/// as long as one of the clients is free.
#[track_caller]
pub(crate) fn offer(
    address: impl Display,
    clients: usize,
    rate: f64,
    long: Duration,
    request: &str,
) -> Replies {
    let (began, turns) = (Instant::now(), Arc::new(AtomicU32::new(0)));
    let start = |_| {
        let (turns, address, request) =
            (Arc::clone(&turns), address.to_string(), request.to_owned());
        thread::spawn(move || {
            let mut client = Client::connect(address);
            let mut replies = Vec::new();
            loop {
                let at = Duration::from_secs_f64(
                    f64::from(turns.fetch_add(1, Ordering::Relaxed)) / rate,
                );
                if at >= long
                    || replies
                        .last()
                        .is_some_and(|reply: &Reply| reply.status == 0)
                {
                    return replies;
                }
                thread::sleep((began + at).saturating_duration_since(Instant::now()));
                replies.push(ask(&mut client, &request));
            }
        })
    };
    let clients: Vec<_> = (0..clients).map(start).collect();
    Replies(
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect(),
    )
}

/// Sends a request and reads its response. Status 0 means that there was none and that the
/// connection is of no more use.
fn ask(client: &mut Client, request: &str) -> Reply {
    let sent = Instant::now();
    let response = client
        .try_send(request)
        .and_then(|()| client.try_read_response(false));
    let (status, text) = match response {
        Ok(response) => (response.status, response.text()),
        Err(problem) => (0, problem.to_string()),
    };
    Reply {
        sent,
        took: sent.elapsed(),
        status,
        text,
    }
}
