//! What the command line says, and how it goes before the file.

use std::fmt::Write as _;

use super::problem::Problem;

/// What flags say, as it was written. It takes the same way as the file and is checked by the same
/// rules; where a flag is given, what the file says in its place is not even looked at.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Replace all listeners by one plain one on these addresses (and the one of `https`, if any).
    pub listen: Vec<String>,
    /// Replace all listeners by one with TLS on these addresses (and the one of `listen`, if any).
    pub https: Vec<String>,
    /// Certificate chain for `https`.
    pub certificate: Option<String>,
    /// Private key for `https`.
    pub key: Option<String>,
    /// Replace all clusters and routes by one cluster of these.
    pub servers: Vec<String>,
    /// Replaces the capacity of every server.
    pub capacity: Option<u64>,
    /// Replaces `process.user`.
    pub user: Option<String>,
    /// Replaces `process.max_sessions`.
    pub max_sessions: Option<u64>,
    /// Replaces `process.max_requests`.
    pub max_requests: Option<u64>,
    /// Replaces `process.drain`.
    pub drain: Option<String>,
    /// Replaces `process.summary`.
    pub summary: Option<String>,
    /// Replaces `log.access`.
    pub access_log: Option<String>,
    /// Replaces `log.level`.
    pub log_level: Option<String>,
    /// The program runs by an older plan, and may have dropped the rights that reading a private
    /// key takes: that is no error then.
    pub is_reload: bool,
}

/// Which flag is meant by a part of a key of the text from [`Overrides::as_toml`].
pub(super) const FLAGS: &[(&str, &str)] = &[
    (".certificates[0].chain", "--certificate"),
    (".certificates[0].key", "--key"),
    ("listener[0].bind", "--listen"),
    ("listener[1].bind", "--https"),
    (".address", "--server"),
    ("cluster[0].capacity", "--capacity"),
    ("process.user", "--user"),
    ("process.max_sessions", "--max-sessions"),
    ("process.max_requests", "--max-requests"),
    ("process.drain", "--drain"),
    ("process.summary", "--summary"),
    ("log.access", "--access-log"),
    ("log.level", "--log-level"),
];

impl Overrides {
    /// Returns whether they say where clients come in or where requests go, so that no file is
    /// needed.
    pub fn stand_alone(&self) -> bool {
        self.replace_listeners() || !self.servers.is_empty()
    }

    /// Returns whether the file's listeners do not count.
    pub(super) fn replace_listeners(&self) -> bool {
        !self.listen.is_empty() || !self.https.is_empty()
    }

    /// All of it as a configuration.
    pub(super) fn as_toml(&self) -> String {
        let mut out = String::from("[process]\n");
        line(&mut out, "user", self.user.as_deref().map(quoted));
        line(
            &mut out,
            "max_sessions",
            self.max_sessions.map(|count| count.to_string()),
        );
        line(
            &mut out,
            "max_requests",
            self.max_requests.map(|count| count.to_string()),
        );
        line(&mut out, "drain", self.drain.as_deref().map(quoted));
        line(&mut out, "summary", self.summary.as_deref().map(quoted));
        out.push_str("[log]\n");
        line(&mut out, "access", self.access_log.as_deref().map(quoted));
        line(&mut out, "level", self.log_level.as_deref().map(quoted));
        if !self.listen.is_empty() {
            out.push_str("[[listener]]\nname = \"http\"\n");
            line(&mut out, "bind", Some(list(&self.listen)));
        }
        if !self.https.is_empty() {
            out.push_str("[[listener]]\nname = \"https\"\n");
            line(&mut out, "bind", Some(list(&self.https)));
            out.push_str("[[listener.tls.certificates]]\n");
            line(&mut out, "chain", self.certificate.as_deref().map(quoted));
            line(&mut out, "key", self.key.as_deref().map(quoted));
        }
        if !self.servers.is_empty() || self.capacity.is_some() {
            out.push_str("[[cluster]]\nname = \"servers\"\n");
            line(
                &mut out,
                "capacity",
                self.capacity.map(|count| count.to_string()),
            );
        }
        for server in &self.servers {
            out.push_str("[[cluster.server]]\n");
            line(&mut out, "address", Some(quoted(server)));
        }
        out
    }

    /// Says of a problem in that text which flag it is about.
    pub(super) fn name_the_flag(&self, problem: Problem) -> Problem {
        let named = |key: &str| {
            // The first listener is the one with TLS if it is the only one.
            let (_, flag) = FLAGS.iter().find(|(part, _)| key.contains(part))?;
            Some(if *flag == "--listen" && self.listen.is_empty() {
                "--https"
            } else {
                flag
            })
        };
        let mut message = problem.message;
        for (part, _) in FLAGS {
            // "is already cluster[0].server[1].address in line 9": lines of a text that nobody has
            // written.
            if let (Some(start), Some(flag)) = (message.find(part), named(part)) {
                let start = message[..start].rfind(' ').map_or(start, |space| space + 1);
                message.truncate(start);
                message.push_str("another ");
                message.push_str(flag);
            }
        }
        let key = named(&problem.key).unwrap_or_default().to_owned();
        Problem {
            position: None,
            key,
            message,
            ..problem
        }
    }
}

fn line(out: &mut String, key: &str, value: Option<String>) {
    if let Some(value) = value {
        let _ = writeln!(out, "{key} = {value}");
    }
}

fn list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
