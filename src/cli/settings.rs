//! Where the configuration comes from.

use std::path::{Path, PathBuf};

use clap::Args;
use juggler::config::{self, Overrides, Problem, Severity};
use juggler::plan::Plan;

use super::output::{complain, report};

/// Where the configuration comes from, and what the command line changes in it.
#[derive(Args, Debug, Default)]
pub(super) struct Settings {
    /// Configuration file
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Accept clients at ADDR (127.0.0.1:8080, [::1]:8080, *:8080, unix:/path); replaces the file's
    /// listeners
    #[arg(long, short, value_name = "ADDR")]
    pub(super) listen: Vec<String>,
    /// Accept clients with HTTPS at ADDR; replaces the file's listeners
    #[arg(long, value_name = "ADDR", requires_all = ["certificate", "key"])]
    pub(super) https: Vec<String>,
    /// Certificate for --https, PEM
    #[arg(long, value_name = "FILE", requires = "https")]
    pub(super) certificate: Option<String>,
    /// Private key for --https, PEM
    #[arg(long, value_name = "FILE", requires = "https")]
    pub(super) key: Option<String>,
    /// Send requests to the server at ADDR (127.0.0.1:6901, app.example.org:80, unix:/path);
    /// replaces the file's clusters and routes
    #[arg(long, short, value_name = "ADDR")]
    pub(super) server: Vec<String>,
    /// Connections to each server, and so the most requests at once there
    #[arg(long, value_name = "N")]
    pub(super) capacity: Option<u64>,
    /// Most clients at once
    #[arg(long, value_name = "N")]
    pub(super) max_sessions: Option<u64>,
    /// Most requests at once, including waiting ones
    #[arg(long, value_name = "N")]
    pub(super) max_requests: Option<u64>,
    /// Access log: stdout, off or a file
    #[arg(
        long,
        value_name = "TARGET",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "stdout"
    )]
    pub(super) access_log: Option<String>,
    /// Write a line of figures this often (5s); off is never
    #[arg(long, value_name = "TIME")]
    pub(super) summary: Option<String>,
    /// How long a stop waits for requests in progress
    #[arg(long, value_name = "TIME")]
    pub(super) drain: Option<String>,
    /// Least level of messages: error, warn, info, debug, trace, off
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
    /// User to become once everything is bound
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
}

impl Settings {
    /// Reads and checks the configuration.
    pub(super) fn load(&self) -> config::Outcome {
        self.load_as(false)
    }

    /// [`Self::load`] for a start, or for a reload of a running balancer.
    pub(super) fn load_as(&self, is_reload: bool) -> config::Outcome {
        let overrides = self.overrides(is_reload);
        match &self.config {
            Some(file) => config::load(file, &overrides),
            None if overrides.stand_alone() => config::from_flags(&overrides),
            None => match default_file() {
                Ok(file) => config::load(&file, &overrides),
                Err(problem) => Err(vec![*problem]),
            },
        }
    }

    /// What is read: the file, or the command line alone.
    pub(super) fn source(&self) -> String {
        let file = match &self.config {
            Some(file) => Some(file.clone()),
            None if self.overrides(false).stand_alone() => None,
            None => default_file().ok(),
        };
        file.map_or_else(
            || "the command line".to_owned(),
            |file| file.display().to_string(),
        )
    }

    /// Reads and checks the configuration, and prints its problems.
    pub(super) fn plan(&self) -> Result<Plan, Vec<Problem>> {
        match self.load() {
            Ok((plan, warnings)) => {
                report(&warnings);
                Ok(plan)
            }
            Err(problems) => {
                report(&problems);
                let errors = problems
                    .iter()
                    .filter(|problem| problem.severity == Severity::Error)
                    .count();
                if errors > 1 {
                    complain(&format!("{errors} problems"));
                }
                Err(problems)
            }
        }
    }

    fn overrides(&self, is_reload: bool) -> Overrides {
        Overrides {
            listen: self.listen.clone(),
            https: self.https.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            servers: self.server.clone(),
            capacity: self.capacity,
            user: self.user.clone(),
            max_sessions: self.max_sessions,
            max_requests: self.max_requests,
            drain: self.drain.clone(),
            summary: self.summary.clone(),
            access_log: self.access_log.clone(),
            log_level: self.log_level.clone(),
            is_reload,
        }
    }
}

/// Returns the file that is read without options.
fn default_file() -> Result<PathBuf, Box<Problem>> {
    let tree = std::env::current_exe().ok();
    let in_tree = tree
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent);
    let mut candidates: Vec<PathBuf> = in_tree
        .map(|tree| tree.join("juggler_config/juggler.toml"))
        .into_iter()
        .collect();
    candidates.push("/etc/juggler/juggler.toml".into());
    candidates
        .iter()
        .find(|file| file.exists())
        .cloned()
        .ok_or_else(|| {
            let looked: Vec<_> = candidates
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            Box::new(Problem {
                severity: Severity::Error,
                file: None,
                position: None,
                key: String::new(),
                message: format!("found no configuration: neither {}", looked.join(" nor ")),
                hint: Some("give one with --config, or use --listen and --server".to_owned()),
            })
        })
}
