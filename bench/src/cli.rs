//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::cases::{self, CASES, Case};
use crate::contenders::{Contender, Site};
use crate::machine;
use crate::problem::{Interrupt, Outcome, Problem, about};
use crate::progress::{Progress, print};
use crate::report;
use crate::results::{FORMAT, PERCENTILES, Results, Settings};
use crate::run::{Plan, Runner};
use crate::wrk::Wrk;

const EXAMPLES: &str = "\
Examples (from the root of the tree, after `make`):
  juggler-bench                                       all cases, 5 rounds, about 35 minutes; \
                        writes docs/benchmarks.md
  juggler-bench --quick                               about 3 minutes; prints the report, writes \
                        to target/bench
  juggler-bench --cases c64,https --rounds 9 --out target/bench
  juggler-bench --contenders juggler,nginx --cases c1024 --out target/bench
  juggler-bench report --out target/bench             the report again, from \
                        target/bench/benchmarks/results.json

Ctrl-C ends it, with all that it started; the report then is of what was done until then.
Nothing else should run meanwhile: pairing helps against drift, not against other programs.";

/// Measures juggler against nginx and HAProxy, in pairs, and writes a report.
#[derive(Debug, Parser)]
#[command(
    name = "juggler-bench",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
    /// List cases and contenders
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure (the default without a command)
    Run(RunOptions),
    /// Render the report again, from the JSON of an earlier run
    Report {
        /// Folder with benchmarks/results.json, which also gets benchmarks.md
        #[arg(long, value_name = "DIR", default_value = "docs")]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunOptions {
    /// How often each contender runs in each case [default: 5; 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Length of a run; at least 10 at 4096 connections [default: 3; 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Cases, with commas between; --list shows them [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = case)]
    cases: Vec<&'static Case>,
    /// Contenders, with commas between; --list shows them [default: all]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    contenders: Vec<Contender>,
    /// Fewer cases, shorter runs, and the report printed too
    #[arg(long)]
    quick: bool,
    /// Folder for benchmarks.md and benchmarks/ [default: docs; target/bench with --quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The program to measure
    #[arg(long, value_name = "FILE", default_value = "bin/juggler")]
    juggler: PathBuf,
    /// The program that holds idle clients
    #[arg(long, value_name = "FILE", default_value = "bin/test_server")]
    test_server: PathBuf,
}

fn case(id: &str) -> Result<&'static Case, String> {
    cases::by_id(id).ok_or_else(|| {
        let ids: Vec<_> = CASES.iter().map(|case| case.id).collect();
        format!("there are {}", ids.join(", "))
    })
}

/// Carries out the command line.
pub(crate) fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        list();
        return Ok(());
    }
    match arguments.command {
        Some(Command::Report { out }) => {
            let results = Results::read(&json(&out))?;
            report::write(&results, &out)
        }
        Some(Command::Run(options)) => run(options),
        None => run(arguments.run),
    }
}

fn list() {
    print("Cases (* also in --quick):");
    for case in CASES {
        let contenders: Vec<_> = case
            .contenders
            .iter()
            .map(|contender| contender.id())
            .collect();
        print(&format!(
            "  {:<18}{} {}",
            case.id,
            if case.quick { "*" } else { " " },
            case.title
        ));
        print(&format!("  {:<20}{}", "", contenders.join(", ")));
    }
    print("Contenders:");
    for contender in Contender::ALL {
        print(&format!(
            "  {:<20}{}",
            contender.id(),
            contender.description()
        ));
    }
}

fn json(out: &Path) -> PathBuf {
    out.join("benchmarks/results.json")
}

fn run(options: RunOptions) -> Outcome<()> {
    let found = |file: &Path| {
        file.canonicalize().map_err(|_| {
            let file = file.display();
            Problem::new(format!(
                "{file} is not there: run `make` first, from the root of the tree (or say where \
                 it is)"
            ))
        })
    };
    let (juggler, test_server) = (found(&options.juggler)?, found(&options.test_server)?);
    let interrupt = Interrupt::install()?;
    let files = machine::raise_file_limit();
    let out = options.out.unwrap_or_else(|| {
        PathBuf::from(if options.quick {
            "target/bench"
        } else {
            "docs"
        })
    });
    let chosen = if options.cases.is_empty() {
        CASES
            .iter()
            .filter(|case| case.quick || !options.quick)
            .collect()
    } else {
        options.cases
    };
    let contenders = if options.contenders.is_empty() {
        Contender::ALL.to_vec()
    } else {
        options.contenders
    };
    let plan = Plan {
        rounds: options.rounds.unwrap_or(if options.quick { 1 } else { 5 }),
        seconds: options.seconds.unwrap_or(if options.quick { 2 } else { 3 }),
        quick: options.quick,
        cases: chosen,
        contenders,
        json: json(&out),
    };

    let folder = tempfile::Builder::new()
        .prefix("juggler-bench-")
        .tempdir()
        .map_err(about("a folder"))?;
    let site = Site::prepare(folder.path(), &juggler, &test_server, files)?;
    let results = Results {
        format: FORMAT,
        machine: machine::describe(&juggler, files),
        settings: Settings {
            rounds: plan.rounds,
            rounds_done: 0,
            seconds: plan.seconds as f64,
            quick: plan.quick,
            cases: plan.cases.iter().map(|case| case.id.to_owned()).collect(),
            contenders: plan.contenders.clone(),
            server_ports: site.servers.to_vec(),
        },
        percentiles: PERCENTILES.to_vec(),
        ..Results::default()
    };
    let mut runner = Runner {
        plan,
        wrk: Wrk::find(folder.path())?,
        site,
        interrupt,
        results,
        progress: Progress::new(),
    };
    let ended = runner.run();
    let results = runner.results;
    if !results.runs.is_empty() {
        report::write(&results, &out)?;
        if results.settings.quick {
            print(&report::text(&results));
        }
        print(&format!(
            "bench: the report is {}",
            out.join("benchmarks.md").display()
        ));
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_made() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_go_with_and_without_the_command() {
        for line in [
            &["x", "--cases", "c1,https"][..],
            &["x", "run", "--cases", "c1,https"],
        ] {
            let arguments = Arguments::try_parse_from(line).unwrap();
            let options = match arguments.command {
                Some(Command::Run(options)) => options,
                _ => arguments.run,
            };
            let ids: Vec<_> = options.cases.iter().map(|case| case.id).collect();
            assert_eq!(ids, ["c1", "https"]);
        }
        let problem = Arguments::try_parse_from(["x", "--cases", "c2"])
            .unwrap_err()
            .to_string();
        assert!(problem.contains("c4096"), "{problem}");
    }
}
