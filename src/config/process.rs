//! `[process]`, `[buffers]`, `[spool]` and `[log]`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Group, User};

use super::problem::{Complaint, Location, Spot};
use super::reader::{Table, expected, text_of};
use crate::base::units::format_size;
use crate::plan::{AccessFormat, AccessLog, Buffers, Log, Process, Spool};

/// Reads what is there once. What flags say goes before the file.
pub(super) fn read(root: &Table<'_>, flags: &Table<'_>) -> Process {
    let (file, flag) = (root.table("process"), flags.table("process"));
    let of = |name| if flag.has(name) { &flag } else { &file };
    let max_sessions = of("max_sessions").count("max_sessions");
    let max_requests = of("max_requests").count("max_requests");
    let user = account(of("user"), "user", user_exists);
    let group = account(&file, "group", group_exists);
    if group.is_some() && user.is_none() {
        let complaint = Complaint::new("means nothing without `user`")
            .hint("say who to become: user = \"...\"");
        file.problems().error(&file.place_of("group"), complaint);
    }
    Process {
        user,
        group,
        max_sessions,
        max_requests: if max_requests == 0 {
            max_sessions
        } else {
            max_requests
        },
        min_idle: file.count("idle_threads"),
        batch_scheduling: file.word("scheduling") == "batch",
        drain_delay: file.duration("drain_delay"),
        drain_timeout: of("drain").duration("drain"),
        summary: of("summary").duration_or_off("summary", Duration::from_millis(100)),
        resolve: file.duration("resolve"),
        state: state(&file),
        buffers: buffers(&root.table("buffers")),
        spool: spool(&root.table("spool")),
        log: log(&root.table("log"), &flags.table("log")),
    }
}

/// The name of a user or group that this system has.
fn account(table: &Table<'_>, name: &str, exists: fn(&str) -> bool) -> Option<String> {
    let given = table.text(name)?;
    if !exists(&given.value) {
        let complaint = Complaint::new(format!("this system has no {name} \"{}\"", given.value));
        table.problems().error(&given.place, complaint);
    }
    Some(given.value)
}

// A system that cannot tell (an error) is not held against the file: the start will see.
pub(super) fn user_exists(name: &str) -> bool {
    !matches!(User::from_name(name), Ok(None))
}

pub(super) fn group_exists(name: &str) -> bool {
    !matches!(Group::from_name(name), Ok(None))
}

fn buffers(table: &Table<'_>) -> Buffers {
    let (region, size) = (table.size("region"), table.size("size"));
    if size > region {
        let complaint = Complaint::new(format!(
            "one buffer is larger than the region of {}",
            format_size(region)
        ));
        table.problems().error(&table.place_of("size"), complaint);
    }
    Buffers {
        region: saturate(region),
        size: saturate(size),
    }
}

fn spool(table: &Table<'_>) -> Spool {
    let limit = table.size("limit");
    let Some(folder) = table.text("folder") else {
        return Spool {
            folder: std::env::temp_dir(),
            limit,
        };
    };
    let path = table.problems().resolve(&folder.value);
    if !path.is_dir() {
        table.problems().error(
            &folder.place,
            Complaint::new(format!("there is no folder {}", path.display())),
        );
    }
    Spool {
        folder: path,
        limit,
    }
}

fn log(file: &Table<'_>, flag: &Table<'_>) -> Log {
    let of = |name| if flag.has(name) { flag } else { file };
    let format = AccessFormat::of_word(file.word("format")).unwrap_or(AccessFormat::Combined);
    let level = of("level")
        .word("level")
        .parse()
        .unwrap_or(log::LevelFilter::Info);
    Log {
        level,
        queue: saturate(file.size("queue")),
        access: access(of("access"), format),
    }
}

fn state(table: &Table<'_>) -> Option<PathBuf> {
    let Some(given) = path_or(table, "state", "write \"off\" or the path of a file") else {
        return default_state(std::env::var_os("STATE_DIRECTORY").as_deref());
    };
    match given.value.as_str() {
        "off" => None,
        path => Some(file_to_write(table, path, &given.place)),
    }
}

/// The file in the first of the folders that systemd says we have, if it does: an unprivileged
/// service may write nowhere else.
fn default_state(folders: Option<&OsStr>) -> Option<PathBuf> {
    let first = folders?.as_bytes().split(|byte| *byte == b':').next()?;
    (!first.is_empty()).then(|| Path::new(OsStr::from_bytes(first)).join("state.json"))
}

/// A word or the path of a file.
fn path_or(table: &Table<'_>, name: &str, hint: &str) -> Option<Spot<String>> {
    table.read(name, |_, value| match text_of(value) {
        Ok("") => Err(Complaint::new("is empty").hint(hint)),
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(expected("text", value).hint(hint)),
    })
}

fn access(table: &Table<'_>, format: AccessFormat) -> Option<AccessLog> {
    let given = path_or(
        table,
        "access",
        "write \"off\", \"stdout\" or the path of a file",
    )?;
    let path = match given.value.as_str() {
        "off" => return None,
        "stdout" => None,
        path => Some(file_to_write(table, path, &given.place)),
    };
    Some(AccessLog { path, format })
}

/// A file of ours: it need not be there, but its folder must.
fn file_to_write(table: &Table<'_>, path: &str, place: &Location) -> PathBuf {
    let path = table.problems().resolve(path);
    if path.is_dir() {
        table.problems().error(
            place,
            Complaint::new(format!("{} is a folder", path.display())),
        );
    } else if path
        .parent()
        .is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
    {
        table.problems().error(
            place,
            Complaint::new(format!("there is no folder for {}", path.display())),
        );
    }
    path
}

/// A size in memory; what this machine cannot count, it cannot hold either.
pub(super) fn saturate(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_where_systemd_says() {
        let state = |folders: Option<&str>| default_state(folders.map(OsStr::new));
        assert_eq!(
            state(Some("/var/lib/juggler")),
            Some("/var/lib/juggler/state.json".into())
        );
        assert_eq!(
            state(Some("/var/lib/a:/var/lib/b")),
            Some("/var/lib/a/state.json".into())
        );
        assert_eq!((state(Some("")), state(None)), (None, None));
    }
}
