//! The machine: all that a reader needs to judge the figures, and no path or name of the machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::child;
use crate::results::Machine;

/// Raises the limit of open files as far as the system allows, also for child programs. Returns the
/// limit.
pub(crate) fn raise_file_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Describes this machine.
pub(crate) fn describe(juggler: &Path, open_files: u64) -> Machine {
    let read = |file: &str| {
        fs::read_to_string(file)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal", ':');
    let memory_kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
    let mut versions = Vec::new();
    let mut add = |name: &str, version: Option<String>| {
        let version = version.unwrap_or_else(|| "not installed".to_owned());
        versions.push((name.to_owned(), version));
    };
    add("juggler", juggler_version(juggler));
    for (name, argument) in [
        ("nginx", "-v"),
        ("haproxy", "-v"),
        ("wrk", "-v"),
        ("strace", "-V"),
    ] {
        add(
            name,
            child::find(name).and_then(|program| child::version(&program, argument)),
        );
    }
    add("rustc", child::version(Path::new("rustc"), "-V"));
    let sysctl = [
        "net.core.somaxconn",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_tw_reuse",
        "net.ipv4.tcp_congestion_control",
        "vm.max_map_count",
    ];
    Machine {
        date: child::version(Path::new("date"), "+%F").unwrap_or_default(),
        cores: thread::available_parallelism().map_or(1, usize::from),
        processor: field(&read("/proc/cpuinfo"), "model name", ':'),
        memory_mib: memory_kib / 1024,
        kernel: read("/proc/sys/kernel/osrelease"),
        system: field(&read("/etc/os-release"), "PRETTY_NAME", '=')
            .trim_matches('"')
            .to_owned(),
        open_files,
        sysctl: sysctl
            .iter()
            .map(|name| {
                let value = read(&format!("/proc/sys/{}", name.replace('.', "/")));
                ((*name).to_owned(), value.replace('\t', " "))
            })
            .collect(),
        versions,
    }
}

/// The program's version, and the commit where there is one.
fn juggler_version(juggler: &Path) -> Option<String> {
    let version = child::version(juggler, "--version")?;
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok();
    let commit = output
        .filter(|output| output.status.success())
        .map(|output| output.stdout);
    Some(match commit {
        Some(commit) => format!("{version} ({})", String::from_utf8_lossy(&commit).trim()),
        None => version,
    })
}

/// The value of the first line that starts with this key.
fn field(text: &str, key: &str, separator: char) -> String {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 85\nmodel name\t: Some: CPU\nmodel name\t: another\n";
        assert_eq!(field(text, "model name", ':'), "Some: CPU");
        assert_eq!(field(text, "name", ':'), "");
        assert_eq!(field("A=\"b c\"", "A", '='), "\"b c\"");
    }
}
