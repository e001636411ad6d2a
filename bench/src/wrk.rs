//! wrk, which makes the load of the closed loops: its arguments and its output.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::cases::Closed;
use crate::child::{self, Running};
use crate::contenders::Front;
use crate::load::Measured;
use crate::problem::{Interrupt, Outcome, Problem, about};
use crate::results::{Errors, PERCENTILES};

const SCRIPT: &str = include_str!("../wrk.lua");
/// Requests that take longer count as errors. wrk's own limit of 2 s is what slow proxies reach at
/// 4096 clients.
const TIMEOUT: &str = "10s";

/// wrk, and the script that prints its findings.
#[derive(Debug)]
pub(crate) struct Wrk {
    program: PathBuf,
    script: PathBuf,
}

impl Wrk {
    /// Returns `None` where wrk is not installed.
    pub(crate) fn find(folder: &Path) -> Outcome<Option<Self>> {
        let Some(program) = child::find("wrk") else {
            return Ok(None);
        };
        let script = folder.join("wrk.lua");
        std::fs::write(&script, SCRIPT).map_err(about("wrk.lua"))?;
        Ok(Some(Self { program, script }))
    }

    /// Runs wrk once.
    pub(crate) fn run(
        &self,
        load: &Closed,
        front: &Front,
        time: Duration,
        interrupt: &Interrupt,
    ) -> Outcome<Measured> {
        let url = match (load.tls, front.https) {
            (false, _) => format!("http://{}{}", front.http, load.path),
            (true, Some(https)) => format!("https://{https}{}", load.path),
            (true, None) => return Err(Problem::new("the contender has no TLS")),
        };
        let percentiles: Vec<_> = PERCENTILES.iter().map(ToString::to_string).collect();
        let mut command = Command::new(&self.program);
        command
            .args(["--threads", &load.threads.to_string()])
            .args(["--connections", &load.connections.to_string()])
            .args(["--duration", &format!("{}s", time.as_secs().max(1))])
            .args(["--timeout", TIMEOUT, "--script"])
            .arg(&self.script)
            .args([
                url.as_str(),
                "--",
                if load.body.is_some() { "POST" } else { "GET" },
            ])
            .arg(load.body.unwrap_or(0).to_string())
            .arg(if load.close { "close" } else { "keep" })
            .env("BENCH_PERCENTILES", percentiles.join(","))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = Running::start(&mut command)?;
        // wrk prints less than a pipe takes.
        let status = running
            .wait(time + Duration::from_secs(30), interrupt)
            .map_err(|problem| match problem {
                Problem::Interrupted => problem,
                Problem::Failed(text) => Problem::Failed(format!("wrk {text}")),
            })?;
        let (mut said, mut complained) = (String::new(), String::new());
        if let Some(out) = &mut running.child().stdout {
            out.read_to_string(&mut said)?;
        }
        if let Some(err) = &mut running.child().stderr {
            err.read_to_string(&mut complained)?;
        }
        if !status.success() {
            return Err(Problem::new(format!("wrk: {}", complained.trim())));
        }
        parse(&said)
    }
}

/// The line that the script prints.
#[derive(Debug, Deserialize)]
struct Line {
    duration_us: u64,
    requests: u64,
    latency_us: Vec<u64>,
    errors: Errors,
}

/// Finds the script's line in wrk's output.
fn parse(said: &str) -> Outcome<Measured> {
    let line = said
        .lines()
        .find(|line| line.starts_with('{'))
        .ok_or_else(|| Problem::new(format!("wrk printed no result: {}", said.trim())))?;
    let line: Line = serde_json::from_str(line).map_err(about("the result of wrk"))?;
    if line.duration_us == 0 || line.latency_us.len() != PERCENTILES.len() {
        return Err(Problem::new("wrk measured nothing"));
    }
    Ok(Measured {
        seconds: line.duration_us as f64 / 1e6,
        requests: line.requests,
        // Without a request wrk prints 0.
        latency_us: if line.requests > 0 {
            line.latency_us
        } else {
            Vec::new()
        },
        errors: line.errors,
        resumed: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = concat!(
        r#"Running 1s test @ http://127.0.0.1:21918/1k.png
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.83ms    0.97ms  12.01ms   89.20%
  24012 requests in 1.01s, 29.15MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
Requests/sec:  23681.15
{"duration_us":2000000,"requests":24012,"bytes":30567276,"#,
        r#""latency_us":[1,2,3,4,5,6,7,8,9,10,11,12],"#,
        r#""errors":{"connect":0,"read":3,"write":0,"status":2,"timeout":1}}"#,
        "\n"
    );

    #[test]
    fn what_wrk_says_is_read() {
        let found = parse(SAID).unwrap();
        assert_eq!((found.requests, found.seconds), (24_012, 2.0));
        assert_eq!(found.rate(), 12_006.0);
        assert_eq!(found.latency_us[7], 8);
        assert_eq!(
            (found.errors.read, found.errors.status, found.errors.sum()),
            (3, 2, 6)
        );
    }

    #[test]
    fn a_run_without_responses_has_no_latency() {
        let found = parse(&SAID.replace("\"requests\":24012", "\"requests\":0")).unwrap();
        assert_eq!(
            (found.requests, found.rate(), found.latency_us.len()),
            (0, 0.0, 0)
        );
    }

    #[test]
    fn what_it_does_not_say_is_told() {
        let without = SAID.lines().take(6).collect::<Vec<_>>().join("\n");
        assert!(
            parse(&without)
                .unwrap_err()
                .to_string()
                .contains("24012 requests in")
        );
        assert!(parse("{\"duration_us\":1}").is_err());
        let short = SAID.replace("11,12", "11");
        assert!(parse(&short).is_err());
    }
}
