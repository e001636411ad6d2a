//! The command line, and the commands that do not run the balancer.

mod certificate;
mod output;
mod release;
mod routes;
mod settings;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use juggler::app::Source;
use juggler::config::{self, Problem, Severity};
use juggler::plan::Plan;

use output::{complain, print};
use settings::Settings;

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
    /// Check the configuration and run nothing, as `juggler check` does
    #[arg(short = 't', long = "check")]
    check: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration and print all problems; needs neither network nor free ports
    Check(CheckOptions),
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

#[derive(Debug, Args)]
struct CheckOptions {
    /// The file to check, in place of --config
    #[arg(conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
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
        None if cli.check => Task::Done(check(&cli.settings)),
        None => match cli.settings.plan() {
            Ok(plan) => {
                let settings = cli.settings;
                Task::Run(Box::new(plan), Box::new(move || settings.load_as(true)))
            }
            Err(problems) => Task::Done(ExitCode::from(status(&problems))),
        },
        Some(Command::Check(CheckOptions { file, mut settings })) => {
            settings.config = file.or(settings.config);
            Task::Done(check(&settings))
        }
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
        "{}: configuration is good: {}, {}, {}, {}, {} to servers\n",
        settings.source(),
        count(plan.listeners.len(), "listener"),
        count(plan.routes.iter().count(), "route"),
        count(plan.clusters.len(), "cluster"),
        count(servers, "server"),
        count(workers, "connection"),
    ));
    ExitCode::SUCCESS
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
                Some(Command::Check(options)) => options.settings,
                Some(Command::Routes(settings) | Command::Held(settings)) => settings,
                Some(Command::Release(options)) => options.settings,
                other => panic!("{other:?}"),
            };
            assert_eq!(settings.config, Some("x.toml".into()));
            assert_eq!(settings.listen, ["*:1"]);
        }
    }
}
