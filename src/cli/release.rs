//! `juggler held` and `juggler release`: servers that stay offline until an operator releases them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use juggler::plan::Plan;
use juggler::state::held;

use super::settings::Settings;

/// Which server to release.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(super) settings: Settings,
    /// The server, as `juggler held` names it
    #[arg(value_name = "CLUSTER/SERVER")]
    name: String,
    /// Name of the operator, for the log; default is the user who is logged in
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
}

/// Releases the server. Returns what was done, in words.
pub(super) fn run(plan: &Plan, options: &Options) -> Result<String, String> {
    let by = who(options.by.as_deref(), |name| std::env::var(name).ok());
    release(file(plan)?, &options.name, &by, SystemTime::now())
}

/// Returns the held servers in columns.
pub(super) fn list(plan: &Plan) -> Result<String, String> {
    table(file(plan)?)
}

/// The file in systemd's StateDirectory. Only the service is told that folder.
const OF_THE_UNIT: &str = "/var/lib/juggler/state.json";

fn file(plan: &Plan) -> Result<&Path, String> {
    let of_the_unit = || Some(Path::new(OF_THE_UNIT)).filter(|path| path.exists());
    plan.process
        .state
        .as_deref()
        .or_else(of_the_unit)
        .ok_or_else(|| {
            format!(
                "the configuration names no `process.state`, and there is no {OF_THE_UNIT}\n  \
                 hint: name the balancer's file: state = \"{OF_THE_UNIT}\""
            )
        })
}

fn release(path: &Path, name: &str, by: &str, now: SystemTime) -> Result<String, String> {
    let change = |file: &mut held::HeldFile| {
        let names = file.held.iter().map(held::HeldServer::name);
        let names = names.collect::<Vec<_>>();
        file.release(name, by, now).ok_or(names)
    };
    let released = held::update(path, change).map_err(|error| error.to_string())?;
    let server = released.map_err(|names| {
        let hint = match names.is_empty() {
            true => "no server is".to_owned(),
            false => format!("held are: {}", names.join(", ")),
        };
        format!("{name} is not held\n  hint: {hint}")
    })?;
    Ok(format!(
        "released {name} by {by}; it was out since {}: {}\n  tell the running balancer: systemctl \
         reload juggler, or kill -HUP PID\n",
        time(server.since),
        server.cause,
    ))
}

fn table(path: &Path) -> Result<String, String> {
    let file = held::load(path).map_err(|error| error.to_string())?;
    let mut out = String::new();
    if file.held.is_empty() {
        out += "no server is held\n";
    } else {
        let mut rows = vec![["SERVER", "ADDRESS", "SINCE", "CAUSE"].map(str::to_owned)];
        rows.extend(file.held.into_iter().map(|server| {
            let (name, since) = (server.name(), time(server.since));
            [name, server.address, since, server.cause]
        }));
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let [a, b, c] = [width(0), width(1), width(2)];
        for [name, address, since, cause] in &rows {
            let _ = writeln!(out, "{name:a$}  {address:b$}  {since:c$}  {cause}");
        }
    }
    for released in file.released {
        let (name, by) = (
            format!("{}/{}", released.cluster, released.server),
            released.by,
        );
        let at = time(released.at);
        let _ = writeln!(
            out,
            "{name} was released by {by} at {at}; the running balancer has not taken it over yet"
        );
    }
    Ok(out)
}

/// Returns the operator's name: `by`, else the user who called sudo, else the user who is logged
/// in. Logs show the name within a line.
fn who(by: Option<&str>, environment: impl Fn(&str) -> Option<String>) -> String {
    let clean = |name: String| {
        let name: String = name
            .chars()
            .filter(|character| !character.is_control())
            .collect();
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    };
    by.map(str::to_owned)
        .and_then(clean)
        .or_else(|| environment("SUDO_USER").and_then(clean))
        .or_else(|| environment("USER").and_then(clean))
        .unwrap_or_else(|| "somebody".to_owned())
}

/// Formats a time in UTC to the second, as the file does.
fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .and_then(|time| jiff::Timestamp::from_second(time.as_second()))
        .map(|time| time.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    use juggler::config::{Overrides, from_flags};
    use juggler::state::held::{HeldFile, HeldServer};
    use tempfile::TempDir;

    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn server(name: &str, address: &str, cause: &str) -> HeldServer {
        HeldServer {
            cluster: "shop".to_owned(),
            server: name.to_owned(),
            address: address.to_owned(),
            cause: cause.to_owned(),
            since: START + Duration::from_secs(1_700_000_000),
        }
    }

    /// Makes a state file with two servers.
    fn state() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held.json");
        let file = HeldFile {
            held: vec![
                server("one", "127.0.0.1:6901", "12 of 20 exchanges failed"),
                server(
                    "unix:/run/app.sock",
                    "unix:/run/app.sock",
                    "2 probes failed",
                ),
            ],
            released: Vec::new(),
        };
        held::store(&path, &file).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_held_stands_in_columns() {
        let (folder, path) = state();
        assert_eq!(
            table(&path).unwrap(),
            "\
SERVER                   ADDRESS             SINCE                 CAUSE
shop/one                 127.0.0.1:6901      2023-11-14T22:13:20Z  12 of 20 exchanges failed
shop/unix:/run/app.sock  unix:/run/app.sock  2023-11-14T22:13:20Z  2 probes failed
"
        );
        assert_eq!(
            table(&folder.path().join("none")).unwrap(),
            "no server is held\n"
        );
    }

    #[test]
    fn a_release_is_written_and_shown() {
        let (_folder, path) = state();
        let now = START + Duration::from_secs(1_700_000_060);
        let said = release(&path, "shop/unix:/run/app.sock", "anna", now).unwrap();
        assert!(
            said.starts_with(
                "released shop/unix:/run/app.sock by anna; it was out since 2023-11-14T22:13:20Z: \
                 2 probes failed\n"
            ),
            "{said}"
        );
        assert!(
            said.contains("systemctl reload juggler") && said.contains("kill -HUP"),
            "{said}"
        );
        let shown = table(&path).unwrap();
        assert!(
            shown.ends_with(
                "\nshop/unix:/run/app.sock was released by anna at 2023-11-14T22:14:20Z; the \
                 running balancer has not taken it over yet\n"
            ) && shown.lines().count() == 3,
            "{shown}"
        );
        assert!(release(&path, "shop/one", "anna", now).is_ok());
        assert!(
            table(&path)
                .unwrap()
                .starts_with("no server is held\nshop/")
        );
    }

    #[test]
    fn what_is_not_held_is_not_released() {
        let (folder, path) = state();
        let before = fs::read(&path).unwrap();
        let error = release(&path, "shop/two", "anna", START).unwrap_err();
        assert_eq!(
            error,
            "shop/two is not held\n  hint: held are: shop/one, shop/unix:/run/app.sock"
        );
        assert_eq!(fs::read(&path).unwrap(), before);
        let none = folder.path().join("none");
        let error = release(&none, "shop/one", "anna", START).unwrap_err();
        assert_eq!(error, "shop/one is not held\n  hint: no server is");
        assert!(!none.exists());
    }

    #[test]
    fn a_damaged_file_is_said() {
        let (_folder, path) = state();
        fs::write(&path, "{").unwrap();
        let error = release(&path, "shop/one", "anna", START).unwrap_err();
        assert!(error.contains("held.json is damaged"), "{error}");
        fs::write(&path, "{").unwrap();
        assert!(table(&path).unwrap_err().contains("held.json.damaged"));
    }

    #[test]
    fn without_a_state_file_the_key_is_named() {
        let overrides = Overrides {
            listen: vec!["127.0.0.1:8080".into()],
            servers: vec!["127.0.0.1:6901".into()],
            ..Overrides::default()
        };
        let (mut plan, _) = from_flags(&overrides).unwrap();
        assert!(list(&plan).unwrap_err().contains("process.state"));
        let (_folder, path) = state();
        plan.process.state = Some(path);
        assert!(list(&plan).unwrap().contains("shop/one"));
    }

    #[test]
    fn somebody_has_a_name() {
        let both = |name: &str| match name {
            "SUDO_USER" => Some("anna".to_owned()),
            "USER" => Some("root".to_owned()),
            _ => None,
        };
        let root = |name: &str| both(name).filter(|_| name == "USER");
        assert_eq!(who(Some("bert"), both), "bert");
        assert_eq!(who(None, both), "anna");
        assert_eq!(who(None, root), "root");
        assert_eq!(who(None, |_| None), "somebody");
        assert_eq!(who(Some(" \n"), both), "anna");
        assert_eq!(who(None, |_| Some(String::new())), "somebody");
        assert_eq!(
            who(Some("anna\n2023 released by bert\u{1b}[2J"), both),
            "anna2023 released by bert[2J"
        );
    }
}
