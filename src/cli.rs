//! The command line, and the commands that do not run the balancer.

mod certificate;
mod release;
mod routes;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use juggler::app::Source;
use juggler::config::{self, Overrides, Problem, Severity};
use juggler::plan::Plan;

/// Exit status: something is wrong with the configuration or a file.
const PROBLEM: u8 = 1;
/// Exit status: the command line itself is wrong. Clap uses the same one.
const USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  juggler --listen 127.0.0.1:8080 --server 127.0.0.1:6901 --server 127.0.0.1:6902
      Two servers take turns. No file is read.
  juggler --listen '*:8080' --server 127.0.0.1:6901 --capacity 2 --access-log
      Never more than two requests at once at the server; one line for each on standard output.
  juggler certificate --out certs --name shop.example.org
  juggler --https '*:8443' --certificate certs/server.crt --key certs/server.key -s 127.0.0.1:6901
      HTTPS in, HTTP out.
  juggler check --config juggler.toml && juggler --config juggler.toml
      All mistakes at once, each with its line and a hint; or run it.
  juggler config reference | less
      Everything that a file can say.

Exit status: 0 is well, 1 is a problem, 2 is a wrong command line.";

/// A fixed-worker-pool HTTP load balancer: every server sees the same few warm connections
///
/// Without --config, --listen, --https or --server it reads juggler_config/juggler.toml of the tree
/// that the executable lies in (bin/juggler), else /etc/juggler/juggler.toml.
#[derive(Debug, Parser)]
#[command(name = "juggler", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Where the configuration comes from, and what the command line changes in it.
#[derive(Args, Debug, Default)]
struct Settings {
    /// Configuration file
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Accept clients at ADDR (127.0.0.1:8080, [::1]:8080, *:8080, unix:/path); replaces the file's
    /// listeners
    #[arg(long, short, value_name = "ADDR")]
    listen: Vec<String>,
    /// Accept clients with HTTPS at ADDR; replaces the file's listeners
    #[arg(long, value_name = "ADDR", requires_all = ["certificate", "key"])]
    https: Vec<String>,
    /// Certificate for --https, PEM
    #[arg(long, value_name = "FILE", requires = "https")]
    certificate: Option<String>,
    /// Private key for --https, PEM
    #[arg(long, value_name = "FILE", requires = "https")]
    key: Option<String>,
    /// Send requests to the server at ADDR (127.0.0.1:6901, app.example.org:80, unix:/path);
    /// replaces the file's clusters and routes
    #[arg(long, short, value_name = "ADDR")]
    server: Vec<String>,
    /// Connections to each server, and so the most requests at once there
    #[arg(long, value_name = "N")]
    capacity: Option<u64>,
    /// Most clients at once
    #[arg(long, value_name = "N")]
    max_sessions: Option<u64>,
    /// Most requests at once, including waiting ones
    #[arg(long, value_name = "N")]
    max_requests: Option<u64>,
    /// Access log: stdout, off or a file
    #[arg(
        long,
        value_name = "TARGET",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "stdout"
    )]
    access_log: Option<String>,
    /// Write a line of figures this often (5s); off is never
    #[arg(long, value_name = "TIME")]
    summary: Option<String>,
    /// How long a stop waits for requests in progress
    #[arg(long, value_name = "TIME")]
    drain: Option<String>,
    /// Least level of messages: error, warn, info, debug, trace, off
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// User to become once everything is bound
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration and print all problems; needs neither network nor free ports
    Check(Settings),
    /// Check the configuration and print which request goes where
    Routes(Settings),
    /// Print which servers are kept offline until an operator releases them
    Held(Settings),
    /// Let a server that is kept offline be used again
    Release(release::Options),
    /// About configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make a self-signed certificate with its key, for trying out HTTPS
    Certificate(certificate::Options),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every key with its values, its default and its meaning
    Reference {
        /// As Markdown: docs/configuration.md
        #[arg(long)]
        markdown: bool,
    },
}

/// What is left to do.
#[allow(missing_debug_implementations, reason = "a source has no form")]
pub(crate) enum Task {
    /// Run the balancer with this plan.
    Run(Box<Plan>, Source),
    /// Nothing; end with this status.
    Done(ExitCode),
}

/// Runs the command of the command line. Without a command, reads the plan.
pub(crate) fn start(cli: Cli) -> Task {
    match cli.command {
        None => match cli.settings.plan() {
            Ok(plan) => {
                let settings = cli.settings;
                Task::Run(Box::new(plan), Box::new(move || settings.load_as(true)))
            }
            Err(problems) => Task::Done(ExitCode::from(status(&problems))),
        },
        Some(Command::Check(settings)) => Task::Done(check(&settings)),
        Some(Command::Routes(settings)) => Task::Done(match settings.plan() {
            Ok(plan) => {
                print(&routes::table(&plan));
                ExitCode::SUCCESS
            }
            Err(_) => ExitCode::from(PROBLEM),
        }),
        Some(Command::Held(settings)) => Task::Done(match settings.plan() {
            Ok(plan) => tell(release::list(&plan)),
            Err(_) => ExitCode::from(PROBLEM),
        }),
        Some(Command::Release(options)) => Task::Done(match options.settings.plan() {
            Ok(plan) => tell(release::run(&plan, &options)),
            Err(_) => ExitCode::from(PROBLEM),
        }),
        Some(Command::Config(ConfigCommand::Reference { markdown })) => {
            print(&if markdown {
                config::reference::markdown()
            } else {
                config::reference::text()
            });
            Task::Done(ExitCode::SUCCESS)
        }
        Some(Command::Certificate(options)) => Task::Done(tell(certificate::make(&options))),
    }
}

/// Prints the result or the error.
fn tell(result: Result<String, String>) -> ExitCode {
    match result {
        Ok(said) => {
            print(&said);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(PROBLEM)
        }
    }
}

fn check(settings: &Settings) -> ExitCode {
    let Ok(plan) = settings.plan() else {
        return ExitCode::from(PROBLEM);
    };
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    let servers: usize = plan
        .clusters
        .iter()
        .map(|cluster| cluster.servers.len())
        .sum();
    let workers: usize = plan
        .clusters
        .iter()
        .flat_map(|cluster| &cluster.servers)
        .map(|server| server.capacity)
        .sum();
    print(&format!(
        "configuration is good: {}, {}, {}, {}, {} to servers\n",
        count(plan.listeners.len(), "listener"),
        count(plan.routes.iter().count(), "route"),
        count(plan.clusters.len(), "cluster"),
        count(servers, "server"),
        count(workers, "connection"),
    ));
    ExitCode::SUCCESS
}

impl Settings {
    /// Reads and checks the configuration.
    fn load(&self) -> config::Outcome {
        self.load_as(false)
    }

    /// [`Self::load`] for a start, or for a reload of a running balancer.
    fn load_as(&self, is_reload: bool) -> config::Outcome {
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

    /// Reads and checks the configuration, and prints its problems.
    fn plan(&self) -> Result<Plan, Vec<Problem>> {
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

/// Returns the exit status. It is [`USAGE`] if all problems are those of the command line.
fn status(problems: &[Problem]) -> u8 {
    let errors = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error);
    if errors.clone().all(|problem| problem.file.is_none()) {
        USAGE
    } else {
        PROBLEM
    }
}

fn report(problems: &[Problem]) {
    for problem in problems {
        complain(&problem.to_string());
    }
}

/// Prints a line on standard error. There is no place to report a failure of that.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints on standard output. A reader that stops early (`| head`) is not an error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn settings(arguments: &[&str]) -> Settings {
        Cli::try_parse_from([&["juggler"], arguments].concat())
            .unwrap()
            .settings
    }

    #[test]
    fn clap_finds_no_mistake() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_alone_make_a_plan() {
        let settings = settings(&[
            "--listen",
            "127.0.0.1:8080",
            "--listen",
            "[::1]:8080",
            "--server",
            "127.0.0.1:6901",
            "--server",
            "127.0.0.1:6902",
            "--capacity",
            "2",
            "--access-log",
            "--summary",
            "5s",
            "--max-sessions",
            "100",
        ]);
        let (plan, warnings) = settings.load().unwrap();
        assert_eq!(warnings, []);
        assert_eq!(plan.listeners.len(), 1);
        assert_eq!(plan.listeners[0].bind.len(), 2);
        assert_eq!(plan.clusters[0].servers.len(), 2);
        assert!(
            plan.clusters[0]
                .servers
                .iter()
                .all(|server| server.capacity == 2)
        );
        assert_eq!(plan.clusters[0].queue_limit, 100);
        assert_eq!(plan.process.max_requests, 100);
        assert_eq!(
            plan.process.summary,
            Some(std::time::Duration::from_secs(5))
        );
        assert_eq!(
            plan.process.log.access.map(|access| access.path),
            Some(None)
        );
    }

    #[test]
    fn an_access_log_has_an_optional_target() {
        assert_eq!(
            settings(&["--access-log"]).access_log.as_deref(),
            Some("stdout")
        );
        assert_eq!(
            settings(&["--access-log=/var/log/j.log"])
                .access_log
                .as_deref(),
            Some("/var/log/j.log")
        );
        assert_eq!(settings(&[]).access_log, None);
    }

    #[test]
    fn wrong_flags_are_wrong_usage() {
        for arguments in [
            &["--listen", "nonsense", "--server", "127.0.0.1:6901"][..],
            &["--listen", "127.0.0.1:8080"],
            &["--server", "127.0.0.1:6901"],
            &["--listen", "127.0.0.1:8080", "--server", "127.0.0.1:8080"],
            &[
                "--listen",
                "127.0.0.1:8080",
                "--server",
                "127.0.0.1:6901",
                "--capacity",
                "0",
            ],
        ] {
            let problems = settings(arguments).load().unwrap_err();
            assert_eq!(status(&problems), USAGE, "{arguments:?}: {problems:?}");
        }
        for arguments in [
            &["--capacity", "x"][..],
            &["--https", "127.0.0.1:8443"],
            &["--key", "x"],
            &["--no-such"],
        ] {
            assert!(
                Cli::try_parse_from([&["juggler"], arguments].concat()).is_err(),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn commands_take_the_same_settings() {
        for command in [
            &["check"][..],
            &["routes"],
            &["held"],
            &["release", "shop/one"],
        ] {
            let settings = ["--config", "x.toml", "--listen", "*:1"];
            let cli = Cli::try_parse_from([&["juggler"], command, &settings].concat()).unwrap();
            let settings = match cli.command {
                Some(
                    Command::Check(settings) | Command::Routes(settings) | Command::Held(settings),
                ) => settings,
                Some(Command::Release(options)) => options.settings,
                other => panic!("{other:?}"),
            };
            assert_eq!(settings.config, Some("x.toml".into()));
            assert_eq!(settings.listen, ["*:1"]);
        }
    }
}
