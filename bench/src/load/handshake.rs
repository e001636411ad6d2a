//! A TLS connection for each request: handshake, one response, close. With and without resumption.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme,
    StreamOwned,
};

use super::Measured;
use super::latencies::Latencies;
use super::response::{Progress, Response};
use crate::problem::{Interrupt, Outcome, Problem, about};
use crate::results::Errors;

const LIMIT: Duration = Duration::from_secs(10);

/// A load of handshakes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshakes<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'a str,
    pub(crate) threads: usize,
    /// Whether clients use tickets of the connection before.
    pub(crate) resume: bool,
    pub(crate) time: Duration,
}

/// The findings of one thread.
struct Found {
    latencies: Latencies,
    requests: u64,
    resumed: u64,
    errors: Errors,
}

impl Handshakes<'_> {
    /// Runs the load.
    pub(crate) fn run(&self, interrupt: &Interrupt) -> Outcome<Measured> {
        let started = Instant::now();
        let found: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|_| scope.spawn(|| self.client(started, interrupt)))
                .collect();
            threads
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect()
        });
        let mut all = Found::new()?;
        for one in found {
            let one = one.map_err(|_| Problem::new("a client has panicked"))??;
            all.latencies.add(&one.latencies);
            all.requests += one.requests;
            all.resumed += one.resumed;
            all.errors.connect += one.errors.connect;
            all.errors.read += one.errors.read;
            all.errors.status += one.errors.status;
        }
        interrupt.check()?;
        Ok(Measured {
            seconds: started.elapsed().as_secs_f64(),
            requests: all.requests,
            latency_us: all.latencies.percentiles(),
            errors: all.errors,
            resumed: Some(all.resumed as f64 / all.requests.max(1) as f64),
        })
    }

    fn client(&self, started: Instant, interrupt: &Interrupt) -> Outcome<Found> {
        // The thread has tickets of its own, so other threads have no effect.
        let config = config(self.resume)?;
        let mut found = Found::new()?;
        while started.elapsed() < self.time && interrupt.check().is_ok() {
            let from = started.elapsed();
            let Ok(stream) = TcpStream::connect_timeout(&self.address, LIMIT) else {
                found.errors.connect += 1;
                continue;
            };
            match self.exchange(stream, &config) {
                Ok((ok, kind)) => {
                    found.latencies.record(from, started.elapsed());
                    found.requests += 1;
                    found.resumed += u64::from(kind == Some(HandshakeKind::Resumed));
                    found.errors.status += u64::from(!ok);
                }
                Err(_) => found.errors.read += 1,
            }
        }
        Ok(found)
    }

    /// Returns whether the response was good, and the kind of handshake.
    fn exchange(
        &self,
        stream: TcpStream,
        config: &Arc<ClientConfig>,
    ) -> io::Result<(bool, Option<HandshakeKind>)> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let connection =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        write!(
            stream,
            "GET {} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n",
            self.path
        )?;
        stream.flush()?;
        let mut response = Response::default();
        let mut buffer = [0; 4096];
        loop {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Progress::Done { ok } = response.take(&buffer[..n])? {
                return Ok((ok, stream.conn.handshake_kind()));
            }
        }
    }
}

impl Found {
    fn new() -> Outcome<Self> {
        Ok(Self {
            latencies: Latencies::new()?,
            requests: 0,
            resumed: 0,
            errors: Errors::default(),
        })
    }
}

fn config(resume: bool) -> Outcome<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    // The same group for all: some contenders have no other that is as fast.
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(about("TLS"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.resumption = if resume {
        Resumption::in_memory_sessions(32)
    } else {
        Resumption::disabled()
    };
    Ok(Arc::new(config))
}

/// Takes any certificate, because the clients' work is not measured and should be small.
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
