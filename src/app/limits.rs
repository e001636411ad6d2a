//! What the system bears. One thread for each client means files, threads and memory maps, and
//! running out of the last ends the process: a thread that cannot map its signal stack aborts
//! everything. So the limits are looked at before, and kept to.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::base::descriptors;
use crate::plan::Plan;

/// Descriptors for everything but clients and workers: logs, listeners, spool files of the unlucky.
const OTHER_FILES: u64 = 256;

/// Of these so many are there in any case.
const FEW_FILES: usize = 64;

/// Of these so many are kept back for files.
const KEPT_FILES: usize = 32;

/// Memory maps of one thread: its stack, its signal stack, and a guard before each.
const MAPS_OF_A_THREAD: u64 = 4;

/// Memory maps of the program itself, its libraries and its heaps.
const OTHER_MAPS: u64 = 1500;

/// Threads of the rest of the machine.
const OTHER_THREADS: u64 = 512;

/// Couriers never wait for a client, only for the spool's disk: a few of them keep a disk busy.
const COURIERS: u64 = 8;

/// How many of what there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Session threads.
    pub(super) sessions: usize,
    /// Couriers.
    pub(super) couriers: usize,
}

/// What limits the number of threads or clients, and what to raise.
struct Bound {
    most: u64,
    name: &'static str,
    advice: &'static str,
}

impl Limits {
    /// Raises the file limit as far as allowed, and finds how much of what the plan asks for is
    /// possible. Says so if it is less, and other than it was `before`.
    pub(super) fn find(plan: &Plan, before: Option<Self>) -> Self {
        let workers = workers(plan) as u64;
        let wanted = plan.process.max_sessions as u64;
        // Its connection, its bell, and what is kept back for its next connection.
        let worker_files = 3 * workers;
        // A client may have a file in the spool as well.
        let files = raise_files(2 * wanted + worker_files + OTHER_FILES);
        keep_back(usize::try_from(workers).unwrap_or(usize::MAX), files);
        let bounds = [
            Bound {
                most: files.saturating_sub(worker_files + OTHER_FILES),
                name: "the limit of open files",
                advice: "raise it with LimitNOFILE= in the systemd unit or `ulimit -n`",
            },
            of_threads(
                threads_by_maps(),
                workers,
                "vm.max_map_count",
                "raise it with sysctl to 8 times max_sessions",
            ),
            of_threads(
                number("/proc/sys/kernel/threads-max").map(|all| all.saturating_sub(OTHER_THREADS)),
                workers,
                "kernel.threads-max",
                "raise it with sysctl",
            ),
            of_threads(
                number("/proc/sys/kernel/pid_max").map(|all| all.saturating_sub(OTHER_THREADS)),
                workers,
                "kernel.pid_max",
                "raise it with sysctl",
            ),
            of_threads(
                threads_of_user(plan),
                workers,
                "the limit of processes",
                "raise it with LimitNPROC= or `ulimit -u`",
            ),
            of_threads(
                threads_of_control_group(),
                workers,
                "the control group's pids.max",
                "set TasksMax=infinity in the systemd unit",
            ),
        ];
        let mut sessions = wanted;
        let mut told = Vec::new();
        for bound in bounds {
            if bound.most < sessions {
                sessions = bound.most.max(1);
                told.push(format!(
                    "max_sessions is lowered from {wanted} to {sessions} by {}: {}",
                    bound.name, bound.advice
                ));
            }
        }
        let sessions = usize::try_from(sessions.max(1)).unwrap_or(usize::MAX);
        let found = Self {
            sessions,
            couriers: COURIERS as usize,
        };
        if before != Some(found) {
            told.iter().for_each(|line| log::warn!("{line}"));
        }
        found
    }
}

/// Workers of all servers.
fn workers(plan: &Plan) -> usize {
    let servers = plan.clusters.iter().flat_map(|cluster| &cluster.servers);
    servers.map(|server| server.capacity).sum()
}

/// Keeps descriptors back from clients: one for each worker's next connection, and some for files.
/// Where there are few in all, it is a part of what workers and the rest leave, so that clients
/// have most of that.
fn keep_back(workers: usize, files: u64) {
    let left = usize::try_from(files)
        .unwrap_or(usize::MAX)
        .saturating_sub(2 * workers + FEW_FILES);
    descriptors::SERVERS.resize(workers.min(left / 4));
    descriptors::FILES.resize(KEPT_FILES.min(left / 8));
}

/// How many sessions leave room for workers and couriers among so many threads.
fn of_threads(
    threads: Option<u64>,
    workers: u64,
    name: &'static str,
    advice: &'static str,
) -> Bound {
    let most = threads.map_or(u64::MAX, |threads| {
        let left = threads.saturating_sub(workers);
        left - COURIERS.min(left / 2)
    });
    Bound { most, name, advice }
}

fn threads_by_maps() -> Option<u64> {
    // A twentieth is left alone: nothing ever spawns near the limit.
    Some(
        number("/proc/sys/vm/max_map_count")?.saturating_sub(OTHER_MAPS) / MAPS_OF_A_THREAD / 20
            * 19,
    )
}

fn threads_of_user(plan: &Plan) -> Option<u64> {
    // The limit is not root's, but it is that of whom root becomes.
    if nix::unistd::geteuid().is_root() && plan.process.user.is_none() {
        return None;
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC).ok()?;
    let _as_far_as_allowed = setrlimit(Resource::RLIMIT_NPROC, hard, hard);
    let now = getrlimit(Resource::RLIMIT_NPROC).map_or(soft, |(soft, _)| soft);
    Some(now.saturating_sub(OTHER_THREADS / 4))
}

fn threads_of_control_group() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    number(&format!("/sys/fs/cgroup{path}/pids.max")).map(|all| all.saturating_sub(16))
}

/// Raises the limit of open files, beyond the hard one if we may, and answers what it is.
fn raise_files(wanted: u64) -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    if hard < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return wanted;
    }
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard;
    }
    soft
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
