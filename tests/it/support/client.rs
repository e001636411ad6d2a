//! A client that sends exactly the given bytes and reads strictly.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::message::{Response, read_response};

/// A connection to the balancer (or to any server).
pub(crate) struct Client {
    wire: Wire,
    buffer: Vec<u8>,
    patience: Duration,
}

enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<rustls::StreamOwned<ClientConnection, Transport>>),
}

/// The socket below TLS. With `drip` it sends every byte in a packet of its own.
struct Transport {
    stream: TcpStream,
    drip: bool,
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = if self.drip {
            bytes.len().min(1)
        } else {
            bytes.len()
        };
        self.stream.write(&bytes[..most])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Client {
    /// Connects to `HOST:PORT` or `unix:/path`.
    #[track_caller]
    pub(crate) fn connect(address: impl Display) -> Self {
        Self::try_connect(&address)
            .unwrap_or_else(|problem| panic!("connect to {address}: {problem}"))
    }

    /// Connects; returns the error where that fails.
    pub(crate) fn try_connect(address: impl Display) -> io::Result<Self> {
        let address = address.to_string();
        let wire = match address.strip_prefix("unix:") {
            Some(path) => Wire::Unix(UnixStream::connect(path)?),
            None => Wire::Tcp(connect_tcp(&address)?),
        };
        Ok(Self {
            wire,
            buffer: Vec::new(),
            patience: PATIENCE,
        })
    }

    /// Connects from 127.0.0.`number`, as another client.
    #[track_caller]
    pub(crate) fn connect_as(number: u8, address: impl Display) -> Self {
        let to: SocketAddr = address.to_string().parse().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, number], 0)).into())
            .unwrap();
        socket.connect(&to.into()).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        Self::from_tcp(socket.into())
    }

    /// Takes over a connection that exists already.
    pub(crate) fn from_tcp(stream: TcpStream) -> Self {
        Self {
            wire: Wire::Tcp(stream),
            buffer: Vec::new(),
            patience: PATIENCE,
        }
    }

    /// Connects with TLS; the handshake is complete on return.
    #[track_caller]
    pub(crate) fn tls(address: impl Display, config: &Arc<ClientConfig>, name: &str) -> Self {
        Self::try_tls(&address, config, name, false)
            .unwrap_or_else(|problem| panic!("TLS to {address}: {problem}"))
    }

    /// Connects with TLS. With `drip` each byte of the handshake (and only of the handshake) is
    /// sent alone.
    pub(crate) fn try_tls(
        address: impl Display,
        config: &Arc<ClientConfig>,
        name: &str,
        drip: bool,
    ) -> io::Result<Self> {
        let stream = connect_tcp(&address.to_string())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut connection =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut transport = Transport { stream, drip };
        while connection.is_handshaking() {
            connection.complete_io(&mut transport)?;
        }
        transport.drip = false;
        let wire = Wire::Tls(Box::new(rustls::StreamOwned::new(connection, transport)));
        Ok(Self {
            wire,
            buffer: Vec::new(),
            patience: PATIENCE,
        })
    }

    /// The TLS state of this client.
    #[track_caller]
    pub(crate) fn tls_connection(&mut self) -> &mut ClientConnection {
        match &mut self.wire {
            Wire::Tls(stream) => &mut stream.conn,
            _ => panic!("not a TLS client"),
        }
    }

    /// Limits every later wait of this client to this time.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The client's own address.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.tcp().local_addr().unwrap()
    }

    /// Sends bytes at once.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes)
            .unwrap_or_else(|problem| panic!("send: {problem}"));
    }

    /// Sends bytes; returns the error where that fails.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let patience = Some(self.patience);
        match &mut self.wire {
            Wire::Tcp(stream) => {
                stream.set_write_timeout(patience)?;
                stream.write_all(bytes.as_ref())
            }
            Wire::Unix(stream) => {
                stream.set_write_timeout(patience)?;
                stream.write_all(bytes.as_ref())
            }
            Wire::Tls(stream) => {
                stream.sock.stream.set_write_timeout(patience)?;
                stream.write_all(bytes.as_ref())?;
                stream.flush()
            }
        }
    }

    /// Sends every byte in a packet of its own (in a TLS record of its own).
    #[track_caller]
    pub(crate) fn send_slowly(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
    }

    /// Sends in two pieces, the second a moment after the first.
    #[track_caller]
    pub(crate) fn send_split(&mut self, bytes: impl AsRef<[u8]>, at: usize) {
        let (first, second) = bytes.as_ref().split_at(at);
        self.send(first);
        // The pause lets nothing happen. It makes the server read the two pieces apart most of the
        // time.
        std::thread::sleep(Duration::from_millis(2));
        self.send(second);
    }

    /// Reads the next response.
    #[track_caller]
    pub(crate) fn read_response(&mut self) -> Response {
        self.try_read_response(false)
            .unwrap_or_else(|problem| panic!("no response: {problem}"))
    }

    /// Reads the next response, as the response to a HEAD.
    #[track_caller]
    pub(crate) fn read_head_response(&mut self) -> Response {
        self.try_read_response(true)
            .unwrap_or_else(|problem| panic!("no response: {problem}"))
    }

    /// Reads the next response; returns the error where there is none.
    pub(crate) fn try_read_response(&mut self, to_head: bool) -> io::Result<Response> {
        let end = Instant::now() + self.patience;
        let wire = &mut self.wire;
        read_response(
            &mut self.buffer,
            &mut |buffer: &mut Vec<u8>| wire.read(buffer, end),
            to_head,
        )
    }

    /// Sends a request and reads its response.
    #[track_caller]
    pub(crate) fn exchange(&mut self, request: impl AsRef<[u8]>) -> Response {
        let to_head = request.as_ref().starts_with(b"HEAD ");
        self.send(request);
        self.try_read_response(to_head)
            .unwrap_or_else(|problem| panic!("no response: {problem}"))
    }

    /// GETs a path on this connection.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    /// POSTs bytes to a path on this connection.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> Response {
        let body = body.as_ref();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.exchange([head.as_bytes(), body].concat())
    }

    /// Waits for some bytes and returns all unread bytes that are here. They are empty at the end.
    #[track_caller]
    pub(crate) fn read_some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            let end = Instant::now() + self.patience;
            self.wire
                .read(&mut self.buffer, end)
                .unwrap_or_else(|problem| panic!("read: {problem}"));
        }
        std::mem::take(&mut self.buffer)
    }

    /// Reads what comes in one piece; returns the error where nothing comes.
    pub(crate) fn try_read_a_little(&mut self) -> io::Result<usize> {
        self.buffer.clear();
        self.wire
            .read(&mut self.buffer, Instant::now() + self.patience)
    }

    /// Reads until `count` unread bytes are here.
    #[track_caller]
    pub(crate) fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        let end = Instant::now() + self.patience;
        while self.buffer.len() < count {
            let got = self
                .wire
                .read(&mut self.buffer, end)
                .unwrap_or_else(|problem| panic!("read: {problem}"));
            assert!(
                got > 0,
                "ended after {} of {count} bytes",
                self.buffer.len()
            );
        }
        self.buffer.drain(..count).collect()
    }

    /// Reads until the connection ends properly and returns the bytes.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        self.try_read_to_end()
            .unwrap_or_else(|(problem, got)| panic!("read after {} bytes: {problem}", got.len()))
    }

    /// Reads until the connection ends. The error carries the bytes that came before it.
    pub(crate) fn try_read_to_end(&mut self) -> Result<Vec<u8>, (io::Error, Vec<u8>)> {
        let end = Instant::now() + self.patience;
        loop {
            match self.wire.read(&mut self.buffer, end) {
                Ok(0) => return Ok(std::mem::take(&mut self.buffer)),
                Ok(_) => {}
                Err(problem) => return Err((problem, std::mem::take(&mut self.buffer))),
            }
        }
    }

    /// Expects a proper end of the connection, and no bytes before it.
    #[track_caller]
    pub(crate) fn expect_closed(&mut self) {
        let rest = self.read_to_end();
        assert!(
            rest.is_empty(),
            "not closed, but {:?}",
            String::from_utf8_lossy(&rest)
        );
    }

    /// Expects the end of the connection, proper or by a reset, and no bytes before it.
    #[track_caller]
    pub(crate) fn expect_gone(&mut self) {
        let rest = match self.try_read_to_end() {
            Ok(rest) => rest,
            Err((problem, rest)) if is_reset(&problem) => rest,
            Err((problem, _)) => panic!("not gone: {problem}"),
        };
        assert!(
            rest.is_empty(),
            "not gone, but {:?}",
            String::from_utf8_lossy(&rest)
        );
    }

    /// Expects any end of the connection, and no bytes before it.
    #[track_caller]
    pub(crate) fn expect_gone_or_cut(&mut self) {
        let rest = match self.try_read_to_end() {
            Ok(rest) => rest,
            Err((problem, rest))
                if is_reset(&problem) || problem.kind() == io::ErrorKind::UnexpectedEof =>
            {
                rest
            }
            Err((problem, _)) => panic!("not gone: {problem}"),
        };
        assert!(
            rest.is_empty(),
            "not gone, but {:?}",
            String::from_utf8_lossy(&rest)
        );
    }

    /// Expects an end that shows a cut: a reset, or no `close_notify`. Returns the bytes before it.
    #[track_caller]
    pub(crate) fn expect_cut(&mut self) -> Vec<u8> {
        match self.try_read_to_end() {
            Err((problem, rest))
                if is_reset(&problem) || problem.kind() == io::ErrorKind::UnexpectedEof =>
            {
                rest
            }
            Err((problem, _)) => panic!("not cut: {problem}"),
            Ok(rest) => panic!("a proper end after {} bytes", rest.len()),
        }
    }

    /// Expects that nothing comes for this time and that the connection stays open.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self, long: Duration) {
        let got = self.wire.read(&mut self.buffer, Instant::now() + long);
        let quiet = got.as_ref().is_err_and(is_timeout) && self.buffer.is_empty();
        assert!(
            quiet,
            "not silent: {got:?} {:?}",
            String::from_utf8_lossy(&self.buffer)
        );
    }

    /// The bytes behind the last message that was read.
    pub(crate) fn leftover(&self) -> &[u8] {
        &self.buffer
    }

    /// Ends the client's sending side (FIN; with TLS, `close_notify` before it).
    #[track_caller]
    pub(crate) fn shutdown_write(&mut self) {
        if let Wire::Tls(stream) = &mut self.wire {
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
        SockRef::from(&self.fd()).shutdown(Shutdown::Write).unwrap();
    }

    /// Closes the connection by a reset.
    pub(crate) fn reset(self) {
        SockRef::from(&self.fd())
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// Makes the kernel's receive buffer as small as possible, so that a slow reader is felt early.
    pub(crate) fn small_receive_buffer(&self) {
        self.receive_buffer(4096);
    }

    /// Sets the size of the kernel's receive buffer. Below one packet of 64 KiB reading is slow,
    /// too.
    pub(crate) fn receive_buffer(&self, size: usize) {
        SockRef::from(&self.fd())
            .set_recv_buffer_size(size)
            .unwrap();
    }

    /// Returns two clients of one connection, for reading in one thread and writing in another.
    #[track_caller]
    pub(crate) fn split(self) -> (TcpStream, TcpStream) {
        let stream = self.tcp().try_clone().unwrap();
        (stream.try_clone().unwrap(), stream)
    }

    #[track_caller]
    fn tcp(&self) -> &TcpStream {
        match &self.wire {
            Wire::Tcp(stream) => stream,
            Wire::Tls(stream) => &stream.sock.stream,
            Wire::Unix(_) => panic!("not a TCP client"),
        }
    }

    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match &self.wire {
            Wire::Tcp(stream) => stream.as_fd(),
            Wire::Unix(stream) => stream.as_fd(),
            Wire::Tls(stream) => stream.sock.stream.as_fd(),
        }
    }
}

impl Wire {
    /// Appends the next bytes to the buffer.
    fn read(&mut self, buffer: &mut Vec<u8>, end: Instant) -> io::Result<usize> {
        let mut bytes = [0; 32 * 1024];
        // A timeout of zero would mean none.
        let left = Some(
            end.saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1)),
        );
        let got = match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(left)?;
                stream.read(&mut bytes)
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(left)?;
                stream.read(&mut bytes)
            }
            Self::Tls(stream) => {
                stream.sock.stream.set_read_timeout(left)?;
                stream.read(&mut bytes)
            }
        };
        match got {
            Ok(got) => {
                buffer.extend_from_slice(&bytes[..got]);
                Ok(got)
            }
            // With a timeout, a process that was stopped for a moment gets this error.
            Err(problem) if problem.kind() == io::ErrorKind::Interrupted => self.read(buffer, end),
            Err(problem) => Err(problem),
        }
    }
}

fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Returns whether the other side cut the connection.
pub(crate) fn is_reset(problem: &io::Error) -> bool {
    matches!(
        problem.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Returns whether nothing came in time.
pub(crate) fn is_timeout(problem: &io::Error) -> bool {
    matches!(
        problem.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
