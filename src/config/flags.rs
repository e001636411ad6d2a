//! What the command line says, and how it goes before the file.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::problem::Problem;
use super::process::AccessTarget;
use crate::plan::{BindAddress, Certificate, ServerAddress};

/// What flags say. Where one is given, what the file says in its place is not even looked at.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Replaces all listeners by one plain one (and the one in `https`, if any).
    pub listen: Vec<BindAddress>,
    /// Replaces all listeners by one with TLS (and the one in `listen`, if any).
    pub https: Option<Https>,
    /// Replaces all clusters and routes by one cluster of these.
    pub servers: Vec<ServerAddress>,
    /// Replaces the capacity of every server.
    pub capacity: Option<usize>,
    /// Replaces `process.user`.
    pub user: Option<String>,
    /// Replaces `process.max_sessions`.
    pub max_sessions: Option<usize>,
    /// Replaces `process.max_requests`.
    pub max_requests: Option<usize>,
    /// Replaces `process.drain`.
    pub drain: Option<Duration>,
    /// Replaces `process.summary`; `Some(None)` is off.
    pub summary: Option<Option<Duration>>,
    /// Replaces `log.access`.
    pub access: Option<AccessTarget>,
    /// Replaces `log.level`.
    pub log_level: Option<log::LevelFilter>,
}

/// A listener with TLS from flags.
#[derive(Clone, Debug)]
pub struct Https {
    /// Where it is bound.
    pub bind: Vec<BindAddress>,
    /// Its certificate.
    pub certificate: Certificate,
}

impl Overrides {
    /// Whether they say where clients come in or where requests go, so that no file is needed.
    pub fn stand_alone(&self) -> bool {
        self.replaces_listeners() || !self.servers.is_empty()
    }

    /// Whether the file's listeners do not count.
    pub(super) fn replaces_listeners(&self) -> bool {
        !self.listen.is_empty() || self.https.is_some()
    }

    /// The listeners and servers as a configuration.
    pub(super) fn as_toml(&self) -> String {
        let mut text = String::new();
        if !self.listen.is_empty() {
            let _ = write!(text, "[[listener]]\nname = \"http\"\nbind = {}\n", binds(&self.listen));
        }
        if let Some(https) = &self.https {
            let _ = write!(
                text,
                "[[listener]]\nname = \"https\"\nbind = {}\ntls.certificates = [{{ chain = {}, key = {} }}]\n",
                binds(&https.bind),
                quoted_path(&https.certificate.chain),
                quoted_path(&https.certificate.key),
            );
        }
        if !self.servers.is_empty() {
            text.push_str("[[cluster]]\nname = \"servers\"\n");
        }
        for server in &self.servers {
            let address = match server {
                ServerAddress::Tcp(address) => address.to_string(),
                ServerAddress::Unix(path) => format!("unix:{}", path.display()),
            };
            let _ = write!(text, "[[cluster.server]]\naddress = {}\n", quoted(&address));
        }
        text
    }
}

fn binds(addresses: &[BindAddress]) -> String {
    let addresses: Vec<_> = addresses
        .iter()
        .map(|address| match address {
            BindAddress::Tcp(address) => quoted(&address.to_string()),
            BindAddress::Unix { path } => quoted(&format!("unix:{}", path.display())),
        })
        .collect();
    format!("[{}]", addresses.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// Says of a problem in the text from [`Overrides::as_toml`] which flag it is about.
pub(super) fn name_the_flag(problem: Problem) -> Problem {
    let flags = [
        (".certificates[0].chain", "--certificate"),
        (".certificates[0].key", "--key"),
        (".bind", "--listen"),
        (".address", "--server"),
    ];
    let flag = flags
        .into_iter()
        .find(|(part, _)| problem.key.contains(part))
        .map(|(_, flag)| flag.to_owned());
    Problem {
        position: None,
        key: flag.unwrap_or_default(),
        ..problem
    }
}
