//! The client side: opens many connections and keeps them, as idle browsers do.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::stream::{Stream, Waited};

/// A client address has about 28,000 ports by default. Beyond this number the next address is used.
const PER_ADDRESS: usize = 20_000;

/// Long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Opens connections, requests `path` once on each, prints `held N`, and keeps them until standard
/// input ends. Then prints how many of them the server has closed meanwhile.
pub(crate) fn hold(address: &str, count: usize, path: &str, tls: bool) -> io::Result<()> {
    crate::system::raise_file_limit();
    let address = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("the name has no address"))?;
    let tls = if tls { Some(tls_config()?) } else { None };
    let started = Instant::now();
    let mut held = Vec::with_capacity(count);
    for index in 0..count {
        let one = Held::open(address, index, tls.as_ref())
            .and_then(|mut one| one.ask(path).map(|()| one))
            .map_err(|problem| {
                crate::system::named(&format_args!("connection {index}"), &problem)
            })?;
        held.push(one);
    }
    println!(
        "held {count} after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let lost = held.iter().filter(|one| one.is_lost()).count();
    println!("lost {lost}");
    Ok(())
}

enum Held {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Held {
    fn open(
        address: SocketAddr,
        index: usize,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let IpAddr::V4(ip) = address.ip()
            && ip.is_loopback()
        {
            // Not 127.0.0.1, whose ports are for other load at the same time. The port is chosen on
            // connect, because another socket may have just used the same port to another address.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            let source = 2 + u8::try_from(index / PER_ADDRESS).unwrap_or(u8::MAX - 2);
            socket.bind(&SocketAddr::from(([127, 0, 0, source], 0)).into())?;
        }
        socket.connect_timeout(&address.into(), LIMIT)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(match tls {
            None => Self::Plain(stream),
            Some(config) => {
                let name = ServerName::IpAddress(address.ip().into());
                let connection =
                    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Self::Tls(Box::new(StreamOwned::new(connection, stream)))
            }
        })
    }

    /// Sends a request and reads the response to its end.
    fn ask(&mut self, path: &str) -> io::Result<()> {
        let stream: &mut dyn ReadWrite = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut **stream,
        };
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: hold\r\n\r\n").as_bytes())?;
        stream.flush()?;
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "closed instead of an answer",
                ));
            }
            got.extend_from_slice(&buffer[..n]);
            if let Some(whole) = length(&got)?
                && got.len() >= whole
            {
                return Ok(());
            }
        }
    }

    fn is_lost(&self) -> bool {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        };
        // Bytes after the response are session tickets, or the alert before the close.
        stream.try_clone().map_or(true, |stream| {
            Stream::Tcp(stream).wait(Duration::ZERO) == Waited::Gone
        })
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// Returns the length of a response from first to last byte. It relies on Content-Length, which all
/// responses requested here have.
fn length(response: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&response[..end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200 ") {
        return Err(io::Error::other(
            head.lines().next().unwrap_or("").to_owned(),
        ));
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| io::Error::other("a response without Content-Length"))?;
    Ok(Some(end + 4 + length))
}

fn tls_config() -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Accepts any certificate: this client measures memory, not trust.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
