//! What the kernel knows about a contender's processes, which are all processes of a group.

use std::collections::{HashMap, HashSet};
use std::fs;

/// The processes of a group. Empty for a group that has ended.
pub(crate) fn members(group: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat_field(&stat, 5) == Some(u64::from(group)) && !is_dead(&stat)
        })
        .collect()
}

/// A field of /proc/PID/stat by its number in proc(5). The second field is the name, which may have
/// blanks and brackets.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

/// Returns whether the process has ended and only its parent's wait is missing.
fn is_dead(stat: &str) -> bool {
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| matches!(rest.trim_start().chars().next(), Some('Z' | 'X')))
}

/// User and system time of all processes together, in clock ticks. The time of ended threads is
/// included.
pub(crate) fn cpu_ticks(pids: &[u32]) -> u64 {
    pids.iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok())
        .map(|stat| stat_field(&stat, 14).unwrap_or(0) + stat_field(&stat, 15).unwrap_or(0))
        .sum()
}

/// Clock ticks per second.
pub(crate) fn ticks_per_second() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten();
    ticks
        .and_then(|ticks| i32::try_from(ticks).ok())
        .map_or(100.0, f64::from)
}

/// The sum of a field of /proc/PID/status.
fn status_sum(pids: &[u32], key: &str) -> u64 {
    pids.iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|status| status_field(&status, key))
        .sum()
}

fn status_field(status: &str, key: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Present resident memory, in KiB. Shared memory counts for each process.
pub(crate) fn resident_kib(pids: &[u32]) -> u64 {
    status_sum(pids, "VmRSS")
}

/// Peak resident memory since `forget_peak`, in KiB.
pub(crate) fn peak_kib(pids: &[u32]) -> u64 {
    status_sum(pids, "VmHWM")
}

/// Restarts the peak from the present memory.
pub(crate) fn forget_peak(pids: &[u32]) {
    for pid in pids {
        // Other users' processes do not allow this; these are ours.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

/// Context switches so far, for each present thread.
pub(crate) fn switches(pids: &[u32]) -> HashMap<u32, u64> {
    let mut found = HashMap::new();
    for pid in pids {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let Some(id) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Ok(status) = fs::read_to_string(task.path().join("status")) {
                let sum = status_field(&status, "voluntary_ctxt_switches").unwrap_or(0)
                    + status_field(&status, "nonvoluntary_ctxt_switches").unwrap_or(0);
                found.insert(id, sum);
            }
        }
    }
    found
}

/// How many switches lie between the two readings. Those of threads that ended in between are lost.
pub(crate) fn switches_between(before: &HashMap<u32, u64>, after: &HashMap<u32, u64>) -> u64 {
    after
        .iter()
        .map(|(id, count)| count.saturating_sub(before.get(id).copied().unwrap_or(0)))
        .sum()
}

/// Established connections of these processes to any of the ports.
pub(crate) fn connections_to(pids: &[u32], ports: &[u16]) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let inodes = established(&table, ports);
    let mut count = 0;
    for pid in pids {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for file in files.flatten() {
            let Ok(target) = fs::read_link(file.path()) else {
                continue;
            };
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
            if inode.is_some_and(|inode| inodes.contains(inode)) {
                count += 1;
            }
        }
    }
    count
}

/// Inodes of the established sockets whose other end is one of the ports.
fn established<'a>(table: &'a str, ports: &[u16]) -> HashSet<&'a str> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (_, port) = fields.nth(2)?.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            let state = fields.next()?;
            let inode = fields.nth(5)?;
            (state == "01" && ports.contains(&port)).then_some(inode)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "17 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 700 300 0 0 20 0 1 0 55";
        assert_eq!(stat_field(stat, 4), Some(1));
        assert_eq!(stat_field(stat, 5), Some(42));
        assert_eq!(
            (stat_field(stat, 14), stat_field(stat, 15)),
            (Some(700), Some(300))
        );
        assert!(!is_dead(stat));
        assert!(is_dead("17 (a) Z 1 42"));
        assert_eq!(stat_field("17 (a", 4), None);
    }

    #[test]
    fn a_key_is_not_taken_for_a_longer_one() {
        let status =
            "VmHWM:\t    5120 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(status_field(status, "VmHWM"), Some(5120));
        assert_eq!(status_field(status, "voluntary_ctxt_switches"), Some(7));
        assert_eq!(status_field(status, "nonvoluntary_ctxt_switches"), Some(3));
        assert_eq!(status_field(status, "VmRSS"), None);
    }

    #[test]
    fn switches_of_new_threads_count_and_those_of_ended_ones_are_lost() {
        let before = HashMap::from([(1, 10), (2, 100)]);
        let after = HashMap::from([(1, 15), (3, 4)]);
        assert_eq!(switches_between(&before, &after), 9);
    }

    #[test]
    fn only_established_connections_to_the_ports_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when \
             retrnsmt   uid  timeout inode\n0: 0100007F:1AF5 00000000:0000 0A \
             00000000:00000000 00:00000000 \
             00000000     0        0 11 1\n1: 0100007F:C350 0100007F:1AF5 01 00000000:00000000 \
             00:00000000 00000000     0        0 12 1\n2: 0100007F:C351 0100007F:1AF5 06 \
             00000000:00000000 03:00000000 00000000     0        0 0 3\n3: 0100007F:C352 \
             0100007F:1AF6 01 00000000:00000000 00:00000000 00000000     0        0 14 1\n4: \
             0100007F:1AF5 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 \
             15 1\n";
        assert_eq!(established(table, &[6901]), HashSet::from(["12"]));
        assert_eq!(
            established(table, &[6901, 6902]),
            HashSet::from(["12", "14"])
        );
    }
}
