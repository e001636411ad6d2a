//! The results: one JSON with everything needed to judge them and to render the report again.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::contenders::Contender;
use crate::problem::{Outcome, about};

/// The percentiles of the latency in each run.
pub(crate) const PERCENTILES: [f64; 12] = [
    1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0,
];

/// Raised when fields change their meaning.
pub(crate) const FORMAT: u32 = 1;

/// All results of one benchmark.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) format: u32,
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    /// The percentiles that `latency_us` of each run has.
    pub(crate) percentiles: Vec<f64>,
    /// What is missing, and why.
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) notes: Vec<String>,
    pub(crate) syscalls: Vec<Syscalls>,
    pub(crate) runs: Vec<Run>,
}

/// The machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) system: String,
    pub(crate) open_files: u64,
    /// Kernel settings that matter here, with their values.
    pub(crate) sysctl: Vec<(String, String)>,
    /// Programs and their versions.
    pub(crate) versions: Vec<(String, String)>,
}

/// The settings of the benchmark.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) rounds: u32,
    /// The number of finished rounds.
    pub(crate) rounds_done: u32,
    pub(crate) seconds: f64,
    pub(crate) quick: bool,
    pub(crate) cases: Vec<String>,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) server_ports: Vec<u16>,
}

/// A contender that could not take part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    pub(crate) contender: Option<Contender>,
    /// `None` means all cases.
    pub(crate) case: Option<String>,
    pub(crate) why: String,
}

/// System calls, counted in a pass of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Syscalls {
    pub(crate) case: String,
    pub(crate) contender: Contender,
    pub(crate) requests: u64,
    pub(crate) calls: u64,
}

/// Failed requests, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Errors {
    pub(crate) connect: u64,
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) status: u64,
    pub(crate) timeout: u64,
}

impl Errors {
    pub(crate) fn sum(&self) -> u64 {
        self.connect + self.read + self.write + self.status + self.timeout
    }
}

/// One run of one contender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) round: u32,
    pub(crate) case: String,
    pub(crate) contender: Contender,
    /// Place in the order of its round, from 0.
    pub(crate) place: usize,
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    /// Requests per second.
    pub(crate) rate: f64,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) latency_us: Vec<u64>,
    pub(crate) errors: Errors,
    /// User and system time, microseconds for each request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) cpu_us: Option<f64>,
    /// Resident memory before the first client, and at its peak.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) rest_kib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) peak_kib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) threads: Option<u64>,
    /// Context switches for each request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) switches: Option<f64>,
    /// Connections to the servers towards the end of the run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) server_connections: Option<u64>,
    /// Connections that the servers accepted during the run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) server_accepted: Option<u64>,
    /// Requests per second that the load aimed at (open loop).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) offered: Option<f64>,
    /// Requests per second that the contender bears (open loop). The weakest contender sets the
    /// rate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) capacity: Option<f64>,
    /// Requests per second without the clients beside the load, right before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) without: Option<f64>,
    /// The number of clients beside the load.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) held: Option<u64>,
    /// Memory for each of these clients.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) held_kib: Option<f64>,
    /// The share of handshakes that were resumed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) resumed: Option<f64>,
}

impl Run {
    /// A percentile of the latency, in microseconds.
    pub(crate) fn percentile(&self, percentile: f64) -> Option<f64> {
        let index = PERCENTILES.iter().position(|known| *known == percentile)?;
        self.latency_us.get(index).map(|us| *us as f64)
    }
}

impl Results {
    pub(crate) fn read(file: &Path) -> Outcome<Self> {
        let text = fs::read(file).map_err(about(file.display()))?;
        serde_json::from_slice(&text).map_err(about(file.display()))
    }

    /// One line for each run: compact, and a diff of two benchmarks shows the changes.
    pub(crate) fn to_json(&self) -> Outcome<String> {
        let all = serde_json::to_value(self).map_err(about("JSON"))?;
        let mut text = String::from("{");
        let Some(fields) = all.as_object() else {
            return Ok(all.to_string());
        };
        // In the order of the structure, which a JSON map does not keep.
        for (n, key) in [
            "format",
            "machine",
            "settings",
            "percentiles",
            "left_out",
            "notes",
        ]
        .iter()
        .enumerate()
        {
            let value = fields
                .get(*key)
                .map(ToString::to_string)
                .unwrap_or_default();
            let _ = write!(text, "{}\n{key:?}: {value}", if n == 0 { "" } else { "," });
        }
        let lines = |lines: Vec<String>| lines.join(",\n");
        let syscalls = self
            .syscalls
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>();
        let runs = self
            .runs
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>();
        let _ = write!(
            text,
            ",\n\"syscalls\": [\n{}\n]",
            lines(syscalls.map_err(about("JSON"))?)
        );
        let _ = write!(
            text,
            ",\n\"runs\": [\n{}\n]\n}}\n",
            lines(runs.map_err(about("JSON"))?)
        );
        Ok(text)
    }

    pub(crate) fn write(&self, file: &Path) -> Outcome<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(about(folder.display()))?;
        }
        fs::write(file, self.to_json()?).map_err(about(file.display()))
    }
}
