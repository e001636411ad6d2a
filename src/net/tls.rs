//! Settings of TLS towards clients: certificates by name, versions, resumption.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::plan::{Certificate, Tls};

/// Sessions remembered for resumption, for clients that take no tickets.
const REMEMBERED_SESSIONS: usize = 16 * 1024;

/// Why a certificate cannot be used, as one sentence with the file's name.
#[derive(Debug)]
pub struct BadCertificate(String);

impl fmt::Display for BadCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BadCertificate {}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Reads the certificates and makes rustls' settings of them.
pub fn server_config(tls: &Tls) -> Result<Arc<ServerConfig>, BadCertificate> {
    let provider = provider();
    let resolver = Names::read(&tls.certificates, &provider)?;
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
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| BadCertificate(error.to_string()))?;
    config.send_tls13_tickets = 2;
    Ok(Arc::new(config))
}

/// Chooses the certificate by the name that the client asks for.
#[derive(Debug)]
struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// For unknown names and for clients that send none: the first.
    default: Option<Arc<CertifiedKey>>,
}

impl Names {
    fn read(certificates: &[Certificate], provider: &CryptoProvider) -> Result<Self, BadCertificate> {
        let mut names = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default: None,
        };
        for certificate in certificates {
            let key = Arc::new(certified_key(certificate, provider)?);
            for name in dns_names(&key) {
                // The first certificate that has a name keeps it.
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
        Ok(names)
    }
}

    // The provider's order is by strength and speed; a client's need not be.
    config.ignore_client_order = true;
impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let parent = name.split_once('.').map(|(_, parent)| parent);
            self.exact.get(&name).or_else(|| self.wildcard.get(parent?)).cloned()
        });
        found.or_else(|| self.default.clone())
    }
}

fn certified_key(files: &Certificate, provider: &CryptoProvider) -> Result<CertifiedKey, BadCertificate> {
    let chain_name = files.chain.display();
    let key_name = files.key.display();
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.chain)
        .and_then(Iterator::collect)
        .map_err(|error| BadCertificate(format!("{chain_name}: {error}")))?;
    if chain.is_empty() {
        return Err(BadCertificate(format!("{chain_name}: no certificate in this file")));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| BadCertificate(format!("{key_name}: {error}")))?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| BadCertificate(format!("{key_name}: does not fit {chain_name}: {error}")))
}

fn dns_names(key: &CertifiedKey) -> Vec<String> {
    let Ok(first) = key.end_entity_cert() else {
        return Vec::new();
    };
    match webpki::EndEntityCert::try_from(first) {
        Ok(certificate) => certificate.valid_dns_names().map(str::to_ascii_lowercase).collect(),
        Err(_) => Vec::new(),
    }
}
