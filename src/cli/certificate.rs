//! `juggler certificate`: makes a self-signed certificate for trying out HTTPS.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

/// Some clients refuse a longer validity.
const VALID_DAYS: u32 = 825;

/// Which certificate to make.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Folder for server.crt and server.key; made if it does not exist
    #[arg(long, value_name = "DIR", default_value = "certs")]
    out: PathBuf,
    /// Further name or address of the certificate, besides localhost, 127.0.0.1, ::1 and this
    /// host's name
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

/// Makes both files. Returns what was made, in words.
pub(super) fn make(options: &Options) -> Result<String, String> {
    let (chain, key) = (
        options.out.join("server.crt"),
        options.out.join("server.key"),
    );
    for file in [&chain, &key] {
        if !options.force && file.exists() {
            return Err(format!(
                "{} is there already\n  hint: --force overwrites it",
                file.display()
            ));
        }
    }
    let names = names(&options.name);
    let (certificate_pem, key_pem) =
        generate(&names).map_err(|error| format!("no certificate can be made: {error}"))?;
    fs::create_dir_all(&options.out)
        .map_err(|error| format!("{}: {error}", options.out.display()))?;
    // The key comes first, because a certificate that exists promises that its key exists too.
    for (file, content, mode) in [(&key, key_pem, 0o600), (&chain, certificate_pem, 0o644)] {
        write(&options.out, file, &content, mode, options.force)
            .map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
    }
    Ok(format!(
        "made {} and {} (mode 0600)\n  good for {}\n  valid for {VALID_DAYS} days, signed by \
         itself: clients must be told to trust it (curl --cacert {})\n",
        chain.display(),
        key.display(),
        names.join(", "),
        chain.display(),
    ))
}

/// Returns all names of the certificate, each once.
fn names(further: &[String]) -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    // A host name that cannot stand in a certificate is left out instead of causing an error.
    let usable = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    for name in usable.then(|| host.to_owned()).iter().chain(further) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Returns certificate and key in PEM.
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a command for people, with lengths of its own"
)]
fn generate(names: &[String]) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(names.to_vec())?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, "Juggler, self-signed");
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // The validity begins an hour ago, for clients whose clock is behind.
    let start = SystemTime::now() - Duration::from_secs(3600);
    parameters.not_before = start.into();
    parameters.not_after = (start + Duration::from_secs(24 * 3600) * VALID_DAYS).into();
    let certificate = parameters.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes a file whole or not at all. Its mode is never wider than `mode`.
fn write(folder: &Path, file: &Path, content: &str, mode: u32, force: bool) -> io::Result<()> {
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(content.as_bytes())?;
    temporary
        .as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    if force {
        temporary.persist(file)
    } else {
        temporary.persist_noclobber(file)
    }
    .map(drop)
    .map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use juggler::config::{Overrides, from_flags};

    fn options(out: &Path, force: bool) -> Options {
        Options {
            out: out.to_owned(),
            name: vec!["shop.example.org".into(), "localhost".into()],
            force,
        }
    }

    #[test]
    fn what_is_made_can_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("certs");
        let said = make(&options(&out, false)).unwrap();
        assert!(said.contains("localhost, 127.0.0.1, ::1"), "{said}");
        assert!(said.contains("shop.example.org"), "{said}");
        let mode = |name: &str| out.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("server.crt"), mode("server.key")), (0o644, 0o600));
        let overrides = Overrides {
            https: vec!["127.0.0.1:8443".into()],
            certificate: Some(out.join("server.crt").display().to_string()),
            key: Some(out.join("server.key").display().to_string()),
            servers: vec!["127.0.0.1:6901".into()],
            ..Overrides::default()
        };
        let (plan, warnings) = from_flags(&overrides).unwrap();
        assert!(plan.listeners[0].tls.is_some());
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn nothing_is_overwritten_unasked() {
        let folder = tempfile::tempdir().unwrap();
        make(&options(folder.path(), false)).unwrap();
        let before = fs::read(folder.path().join("server.key")).unwrap();
        assert!(
            make(&options(folder.path(), false))
                .unwrap_err()
                .contains("--force")
        );
        assert_eq!(fs::read(folder.path().join("server.key")).unwrap(), before);
        make(&options(folder.path(), true)).unwrap();
        assert_ne!(fs::read(folder.path().join("server.key")).unwrap(), before);
    }
}
