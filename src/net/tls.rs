//! TLS settings towards clients: certificates by name, versions, resumption.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::plan::{Certificate, Tls};

/// Sessions remembered for resumption by clients that do not take tickets.
const REMEMBERED_SESSIONS: usize = 16 * 1024;

/// Why a certificate cannot be used, as a sentence with the file's name.
#[derive(Debug)]
pub struct BadCertificate(String);

impl fmt::Display for BadCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BadCertificate {}

/// Returns the one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The TLS settings of a listener.
#[derive(Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// The chains of the certificates, in order.
    chains: Vec<Vec<CertificateDer<'static>>>,
    only_tls13: bool,
}

impl ServerTls {
    /// Reads the certificates. If they and the settings equal those of `old`, `old` is returned, so
    /// that sessions and tickets of its clients stay valid. Otherwise these end with `old`, so that
    /// a client cannot resume what a removed certificate vouched for.
    pub fn read(tls: &Tls, old: Option<&Arc<Self>>) -> Result<Arc<Self>, BadCertificate> {
        let provider = provider();
        let keys = tls
            .certificates
            .iter()
            .map(|files| certified_key(files, &provider));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        // A key fits its chain, so comparing the chains is enough.
        let chains: Vec<_> = keys.iter().map(|key| key.cert.clone()).collect();
        if let Some(old) = old
            && old.chains == chains
            && old.only_tls13 == tls.only_tls13
        {
            return Ok(Arc::clone(old));
        }
        Ok(Arc::new(Self {
            config: server_config(tls, Names::of(keys), provider)?,
            chains,
            only_tls13: tls.only_tls13,
        }))
    }

    /// Makes the server's side of a new connection.
    pub fn connection(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(Arc::clone(&self.config))
    }
}

fn server_config(
    tls: &Tls,
    resolver: Names,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, BadCertificate> {
    let versions: &[_] = if tls.only_tls13 {
        &[&version::TLS13]
    } else {
        &[&version::TLS13, &version::TLS12]
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| BadCertificate(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(REMEMBERED_SESSIONS);
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()
        .map_err(|error| BadCertificate(error.to_string()))?;
    config.send_tls13_tickets = 2;
    // The provider orders by strength and speed; a client need not.
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// Chooses the certificate by the name that the client asks for.
#[derive(Debug)]
struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// The first certificate, for unknown names and for clients that send no name.
    default: Option<Arc<CertifiedKey>>,
}

impl Names {
    fn of(keys: Vec<CertifiedKey>) -> Self {
        let mut names = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default: None,
        };
        for key in keys.into_iter().map(Arc::new) {
            for name in key.cert.first().map_or_else(Vec::new, dns_names) {
                // The first certificate with a name keeps the name.
                match name.strip_prefix("*.") {
                    Some(parent) => names
                        .wildcard
                        .entry(parent.to_owned())
                        .or_insert_with(|| Arc::clone(&key)),
                    None => names.exact.entry(name).or_insert_with(|| Arc::clone(&key)),
                };
            }
            names.default.get_or_insert(key);
        }
        names
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let parent = name.split_once('.').map(|(_, parent)| parent);
            self.exact
                .get(&name)
                .or_else(|| self.wildcard.get(parent?))
                .cloned()
        });
        found.or_else(|| self.default.clone())
    }
}

fn certified_key(
    files: &Certificate,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, BadCertificate> {
    let chain_name = files.chain.display();
    let key_name = files.key.display();
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.chain)
        .and_then(Iterator::collect)
        .map_err(|error| BadCertificate(format!("{chain_name}: {error}")))?;
    if chain.is_empty() {
        return Err(BadCertificate(format!(
            "{chain_name}: no certificate in this file"
        )));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| BadCertificate(format!("{key_name}: {error}")))?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| BadCertificate(format!("{key_name}: does not fit {chain_name}: {error}")))
}

/// Returns the names for which a certificate is valid, in lower case: those of the extension
/// `subjectAltName` (RFC 9525 §6.3), not the subject's common name.
pub fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    match webpki::EndEntityCert::try_from(certificate) {
        Ok(certificate) => certificate
            .valid_dns_names()
            .map(str::to_ascii_lowercase)
            .collect(),
        Err(_) => Vec::new(),
    }
}
