//! Becoming an ordinary user once everything that needs more is done, for the whole process.

use std::fs::{File, OpenOptions};
use std::path::Path;

use nix::unistd::{Group, User, geteuid, initgroups, setgid, setuid};

use crate::plan::Plan;

/// Becomes the plan's user, and looks whether that user can open what SIGHUP will open again.
pub(super) fn drop_to(plan: &Plan) -> Result<(), String> {
    let Some(name) = &plan.process.user else {
        return Ok(());
    };
    if !geteuid().is_root() {
        log::info!("not started as root: staying who we are instead of becoming {name}");
        return Ok(());
    }
    let user = User::from_name(name)
        .map_err(|error| format!("process.user: {name}: {error}"))?
        .ok_or_else(|| format!("process.user: there is no user {name}"))?;
    let group = match &plan.process.group {
        None => user.gid,
        Some(group) => {
            Group::from_name(group)
                .map_err(|error| format!("process.group: {group}: {error}"))?
                .ok_or_else(|| format!("process.group: there is no group {group}"))?
                .gid
        }
    };
    // The C library's calls, unlike the kernel's, change every thread.
    let c_name =
        std::ffi::CString::new(name.as_str()).map_err(|error| format!("process.user: {error}"))?;
    let failed = |error: nix::Error| format!("cannot become {name}: {error}");
    initgroups(&c_name, group).map_err(failed)?;
    setgid(group).map_err(failed)?;
    setuid(user.uid).map_err(failed)?;
    if setuid(nix::unistd::Uid::from_raw(0)).is_ok() && !user.uid.is_root() {
        return Err(format!("became {name}, but could become root again"));
    }
    check_reopening(plan, name);
    Ok(())
}

/// A reload that fails in the middle of the night is better told now.
fn check_reopening(plan: &Plan, user: &str) {
    let warn = |path: &Path, what: &str, error: &std::io::Error| {
        log::warn!(
            "{user} cannot {what} {}: {error}; SIGHUP will keep the old one",
            path.display()
        );
    };
    for tls in plan
        .listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref())
    {
        for path in tls
            .certificates
            .iter()
            .flat_map(|files| [&files.chain, &files.key])
        {
            if let Err(error) = File::open(path) {
                warn(path, "read", &error);
            }
        }
    }
    if let Some(path) = plan
        .process
        .log
        .access
        .as_ref()
        .and_then(|access| access.path.as_ref())
        && let Err(error) = OpenOptions::new().append(true).open(path)
    {
        warn(path, "write to", &error);
    }
}
