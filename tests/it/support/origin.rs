//! A server that does what the test scripts, however wrong that is.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::client::is_reset;
use super::message::{Request, read_request, read_request_body, read_request_head};
use super::{PATIENCE, eventually};

type Script = dyn Fn(&mut OriginConn, usize) + Send + Sync;

/// A scripted server on a port of its own.
pub(crate) struct Origin {
    address: SocketAddr,
    listener: Option<TcpListener>,
    script: Arc<Script>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<BTreeMap<usize, TcpStream>>,
    ever: AtomicUsize,
    most: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    failures: Mutex<Vec<String>>,
}

impl Origin {
    /// Starts a server. The script runs once for each connection, in a thread of its own, with the
    /// connection's number counted from 0. When the script returns, the connection is closed.
    pub(crate) fn start(script: impl Fn(&mut OriginConn, usize) + Send + Sync + 'static) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut origin = Self {
            address,
            listener: None,
            script: Arc::new(script),
            shared: Arc::default(),
        };
        origin.restart();
        origin
    }

    /// A server that answers every request with 200 and this body, in order, until the client
    /// closes.
    pub(crate) fn answering(body: &'static str) -> Self {
        Self::start(move |conn, _| {
            while conn.request().is_some() {
                conn.answer(200, body);
            }
        })
    }

    /// The address on which the server listens or did listen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens again on the same port as before.
    pub(crate) fn restart(&mut self) {
        assert!(self.listener.is_none(), "the server is not stopped");
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        // The port may belong to another program's client for a moment.
        eventually(PATIENCE, "bound", || {
            socket.bind(&self.address.into()).is_ok()
        });
        socket.listen(1024).unwrap();
        let listener = TcpListener::from(socket);
        self.address = listener.local_addr().unwrap();
        self.listener = Some(listener.try_clone().unwrap());
        let (script, shared) = (Arc::clone(&self.script), Arc::clone(&self.shared));
        thread::spawn(move || accept(&listener, &script, &shared));
    }

    /// Refuses connections from now on. Open ones stay.
    pub(crate) fn refuse(&mut self) {
        if let Some(listener) = self.listener.take() {
            // Wakes the accepting thread, which then drops the last handle.
            SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
            drop(listener);
            let address = self.address;
            eventually(PATIENCE, "refused", || {
                TcpStream::connect(address)
                    .is_err_and(|problem| problem.kind() == io::ErrorKind::ConnectionRefused)
            });
        }
    }

    /// Refuses connections from now on and closes the open ones.
    pub(crate) fn stop(&mut self) {
        self.refuse();
        self.close_all();
    }

    /// Closes the open connections.
    pub(crate) fn close_all(&self) {
        for stream in self.shared.open.lock().unwrap().values() {
            // The other side may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many connections are open.
    pub(crate) fn connections_now(&self) -> usize {
        self.shared.open.lock().unwrap().len()
    }

    /// How many connections there were so far.
    pub(crate) fn connections_ever(&self) -> usize {
        self.shared.ever.load(Ordering::SeqCst)
    }

    /// The most connections that were open at once.
    pub(crate) fn connections_most(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// Waits until `count` connections are open.
    #[track_caller]
    pub(crate) fn wait_for_connections(&self, count: usize) {
        eventually(PATIENCE, &format!("{count} connections"), || {
            self.connections_now() == count
        });
    }

    /// The whole requests so far, in the order of their completion.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The only request so far.
    #[track_caller]
    pub(crate) fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.into_iter().next().unwrap()
    }

    /// Waits until there were `count` requests.
    #[track_caller]
    pub(crate) fn wait_for_requests(&self, count: usize) {
        eventually(PATIENCE, &format!("{count} requests"), || {
            self.shared.requests.lock().unwrap().len() >= count
        });
    }

    /// Forgets the requests so far.
    pub(crate) fn forget(&self) {
        self.shared.requests.lock().unwrap().clear();
    }

    /// Expects that no script has panicked so far.
    #[track_caller]
    pub(crate) fn assert_no_failures(&self) {
        let failures = self.shared.failures.lock().unwrap();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            let _ = SockRef::from(listener).shutdown(Shutdown::Both);
        }
        self.close_all();
    }
}

fn accept(listener: &TcpListener, script: &Arc<Script>, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nodelay(true).unwrap();
        let number = {
            let mut open = shared.open.lock().unwrap();
            let number = shared.ever.fetch_add(1, Ordering::SeqCst);
            open.insert(number, stream.try_clone().unwrap());
            shared.most.fetch_max(open.len(), Ordering::SeqCst);
            number
        };
        let (script, shared) = (Arc::clone(script), Arc::clone(shared));
        thread::spawn(move || {
            let mut conn = OriginConn {
                stream,
                buffer: Vec::new(),
                number,
                shared: Arc::clone(&shared),
            };
            let result = catch_unwind(AssertUnwindSafe(|| script(&mut conn, number)));
            // The second handle goes first, so that the count falls before the other side can see
            // the end.
            shared.open.lock().unwrap().remove(&number);
            if let Err(problem) = result {
                let text = problem.downcast_ref::<String>().cloned();
                let text =
                    text.or_else(|| problem.downcast_ref::<&str>().map(|&text| text.to_owned()));
                shared
                    .failures
                    .lock()
                    .unwrap()
                    .push(text.unwrap_or_default());
            }
        });
    }
}

/// One connection of an [`Origin`].
pub(crate) struct OriginConn {
    stream: TcpStream,
    buffer: Vec<u8>,
    number: usize,
    shared: Arc<Shared>,
}

impl OriginConn {
    /// Reads a whole request, however long that takes; `None` when the other side closes instead.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let mut stream = &self.stream;
        let request = read_request(&mut self.buffer, &mut |buffer: &mut Vec<u8>| {
            more(&mut stream, buffer)
        });
        self.record(request)
    }

    /// Reads a request's head alone. The list of requests has it only after its body was read.
    pub(crate) fn request_head(&mut self) -> Option<Request> {
        let mut stream = &self.stream;
        match read_request_head(&mut self.buffer, &mut |buffer: &mut Vec<u8>| {
            more(&mut stream, buffer)
        }) {
            Err(problem) if is_reset(&problem) => None,
            head => head.unwrap_or_else(|problem| panic!("connection {}: {problem}", self.number)),
        }
    }

    /// Reads the body that belongs to this head.
    pub(crate) fn request_body(&mut self, mut head: Request) -> Option<Request> {
        let mut stream = &self.stream;
        let read = read_request_body(&mut head, &mut self.buffer, &mut |buffer: &mut Vec<u8>| {
            more(&mut stream, buffer)
        });
        self.record(read.map(|()| Some(head)))
    }

    fn record(&self, request: io::Result<Option<Request>>) -> Option<Request> {
        match request {
            Ok(Some(mut request)) => {
                request.connection = self.number;
                self.shared.requests.lock().unwrap().push(request.clone());
                Some(request)
            }
            Ok(None) => None,
            Err(problem)
                if is_reset(&problem) || problem.kind() == io::ErrorKind::UnexpectedEof =>
            {
                None
            }
            Err(problem) => panic!("connection {}: {problem}", self.number),
        }
    }

    /// Sends bytes. A client that has left is no failure.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The test looks at what the other side makes of it.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends a response with this body.
    pub(crate) fn answer(&mut self, status: u16, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!(
            "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send([head.as_bytes(), body].concat());
    }

    /// Ends the sending side.
    pub(crate) fn shutdown_write(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Makes the close after the script a reset.
    pub(crate) fn reset(&self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        // The other handle would delay the reset.
        self.shared.open.lock().unwrap().remove(&self.number);
    }

    /// Waits until the other side closes the connection. True for a reset, and for a close with
    /// unread bytes of ours, which looks the same.
    pub(crate) fn wait_for_close(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        let mut bytes = [0; 16 * 1024];
        loop {
            let left = end
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(got) => self.buffer.extend_from_slice(&bytes[..got]),
                Err(problem) if is_reset(&problem) => return true,
                Err(problem) => panic!("connection {} was not closed: {problem}", self.number),
            }
        }
    }

    /// Bytes that came and are not part of a request.
    pub(crate) fn leftover(&self) -> &[u8] {
        &self.buffer
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// This connection's number, counted from 0.
    pub(crate) fn number(&self) -> usize {
        self.number
    }
}

fn more(stream: &mut &TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut bytes = [0; 32 * 1024];
    let got = stream.read(&mut bytes)?;
    buffer.extend_from_slice(&bytes[..got]);
    Ok(got)
}
