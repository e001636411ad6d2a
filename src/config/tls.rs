//! Looks at a certificate's files, so that a wrong one is told before the first client finds out.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::problem::{Complaint, Location};
use super::reader::Table;
use crate::net::tls::dns_names;

/// One of the two files of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Chain,
    Key,
}

/// What is to be said about a certificate's files.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Not there at all.
    pub(super) missing: Vec<Part>,
    /// There, and we have no right to read it.
    pub(super) forbidden: Vec<(Part, Complaint)>,
    /// There, and of no use.
    pub(super) errors: Vec<(Part, Complaint)>,
    /// Of use, but.
    pub(super) warnings: Vec<(Part, Complaint)>,
    /// The server's own certificate.
    pub(super) leaf: Option<CertificateDer<'static>>,
}

/// Reads both files and holds them against each other.
pub(super) fn check(chain: &Path, key: &Path) -> Findings {
    let mut findings = Findings::default();
    let certificates = findings.read(Part::Chain, chain).and_then(|pem| {
        let certificates = certificates(&pem);
        findings.keep(Part::Chain, certificates)
    });
    let private_key = findings.read(Part::Key, key).and_then(|pem| {
        let private_key = private_key(&pem);
        findings.keep(Part::Key, private_key)
    });
    if findings.missing.is_empty()
        && std::fs::metadata(key).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
    {
        let complaint = Complaint::new(format!("{} can be read by every user", key.display()));
        findings
            .warnings
            .push((Part::Key, complaint.hint("chmod 600 it")));
    }
    findings.leaf = certificates
        .as_ref()
        .and_then(|chain| chain.first().cloned());
    if let (Some(certificates), Some(private_key)) = (certificates, private_key) {
        findings.compare(chain, certificates, private_key);
    }
    findings
}

/// Which certificate of a listener is served for which name: the first that has it.
#[derive(Debug, Default)]
pub(super) struct Served {
    certificates: Vec<(CertificateDer<'static>, Location)>,
    /// By the certificates' places in that list.
    names: HashMap<String, usize>,
}

impl Served {
    /// Adds the certificate of this table, and warns if clients will never or not always get it.
    pub(super) fn add(&mut self, table: &Table<'_>, leaf: CertificateDer<'static>) {
        let names = dns_names(&leaf);
        let taken: Vec<_> = names
            .iter()
            .filter(|name| self.names.contains_key(*name))
            .collect();
        let place = table.place_of("chain");
        let problems = table.problems();
        let is_first = self.certificates.is_empty();
        if let Some((_, first)) = self.certificates.iter().find(|(other, _)| *other == leaf) {
            let complaint = Complaint::new(format!(
                "is never served: it is the certificate of {}",
                problems.as_in(first)
            ));
            problems.warning(&place, complaint.hint("leave one of the two out"));
        } else if names.is_empty() && !is_first {
            let complaint = Complaint::new(
                "is never served: it has no DNS name (subjectAltName) that a client could ask for",
            );
            let hint = "a common name alone does not count; only the first certificate is served \
                        without a name of its own";
            problems.warning(&place, complaint.hint(hint));
        } else if let Some(name) = taken.first() {
            let first = self
                .names
                .get(*name)
                .and_then(|first| self.certificates.get(*first));
            let first = first
                .map(|(_, place)| problems.as_in(place))
                .unwrap_or_default();
            let list = taken
                .iter()
                .map(|name| format!("\"{name}\""))
                .collect::<Vec<_>>()
                .join(", ");
            let never = if taken.len() == names.len() {
                "is never served"
            } else {
                "is not served for all of its names"
            };
            let complaint =
                Complaint::new(format!("{never}: {first} has {list} too, and comes first"));
            problems.warning(&place, complaint);
        }
        let number = self.certificates.len();
        for name in names {
            self.names.entry(name).or_insert(number);
        }
        self.certificates.push((leaf, place));
    }
}

impl Findings {
    fn read(&mut self, part: Part, path: &Path) -> Option<Vec<u8>> {
        match std::fs::read(path) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.missing.push(part);
                None
            }
            Err(error) => {
                let complaint =
                    Complaint::new(format!("{} cannot be read: {error}", path.display()));
                if error.kind() == io::ErrorKind::PermissionDenied {
                    self.forbidden.push((part, complaint));
                } else {
                    self.errors.push((part, complaint));
                }
                None
            }
        }
    }

    fn keep<T>(&mut self, part: Part, result: Result<T, Complaint>) -> Option<T> {
        result
            .map_err(|complaint| self.errors.push((part, complaint)))
            .ok()
    }

    fn compare(
        &mut self,
        chain: &Path,
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) {
        let key = match aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(key)
        {
            Ok(key) => key,
            Err(error) => {
                self.errors.push((
                    Part::Key,
                    Complaint::new(format!("holds a private key of no use: {error}")),
                ));
                return;
            }
        };
        match CertifiedKey::new(certificates, key).keys_match() {
            // A key that cannot tell its public half is not known to be wrong.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => (),
            Err(Error::InconsistentKeys(_)) => {
                let complaint = Complaint::new(format!(
                    "is not the key of the certificate in {}",
                    chain.display()
                ));
                self.errors.push((
                    Part::Key,
                    complaint.hint("the server's own certificate must be the first in there"),
                ));
            }
            Err(error) => {
                self.errors.push((
                    Part::Chain,
                    Complaint::new(format!("holds a certificate of no use: {error}")),
                ));
            }
        }
    }
}

fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Complaint> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let certificates = certificates.map_err(|error| bad_pem(&error))?;
    if !certificates.is_empty() {
        return Ok(certificates);
    }
    Err(if !holds(content, "-----BEGIN") {
        Complaint::new("is not PEM").hint("openssl x509 -inform der -in FILE -out FILE.pem")
    } else if holds(content, "PRIVATE KEY-----") {
        Complaint::new("holds no certificate")
            .hint("it holds a private key: are chain and key the wrong way round?")
    } else {
        Complaint::new("holds no certificate")
    })
}

fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, Complaint> {
    match PrivateKeyDer::from_pem_slice(content) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(if !holds(content, "-----BEGIN") {
            Complaint::new("is not PEM").hint("openssl pkey -inform der -in FILE -out FILE.pem")
        } else if holds(content, "ENCRYPTED PRIVATE KEY-----") {
            Complaint::new("holds an encrypted private key")
                .hint("openssl pkey -in FILE -out FILE.plain")
        } else if holds(content, "BEGIN CERTIFICATE-----") {
            Complaint::new("holds no private key")
                .hint("it holds a certificate: are chain and key the wrong way round?")
        } else {
            Complaint::new("holds no private key")
        }),
        Err(error) => Err(bad_pem(&error)),
    }
}

fn bad_pem(error: &pem::Error) -> Complaint {
    Complaint::new(format!("is not valid PEM: {error}"))
}

fn holds(content: &[u8], part: &str) -> bool {
    memchr::memmem::find(content, part.as_bytes()).is_some()
}
