//! The state file: servers that stay offline until an operator releases them, also over a restart.
//!
//! The file has two writers. The balancer writes what it holds. `juggler release` writes what is
//! released; the balancer takes that over on SIGHUP and then removes it from the file. Each writer
//! locks the file's folder (flock), reads the file and keeps the other's part, so that neither
//! overwrites what the other has just written.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::base::time::after;

/// The version of the format. Other versions are refused.
const VERSION: u32 = 1;

/// The longest wait for the other writer.
const MOST_LOCKED: Duration = Duration::from_secs(1);

/// The pause between two attempts to lock.
const LOOK: Duration = Duration::from_millis(5);

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldFile {
    /// Servers that are kept offline.
    pub held: Vec<HeldServer>,
    /// Servers that the balancer uses again once it reads the file.
    pub released: Vec<Released>,
}

/// A server that is kept offline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldServer {
    /// The name of the cluster.
    pub cluster: String,
    /// The name of the server.
    pub server: String,
    /// Where the server listens, as text.
    pub address: String,
    /// What took the server out, in words.
    pub cause: String,
    /// When the server was taken out. The file has it to the second.
    #[serde(with = "rfc3339")]
    pub since: SystemTime,
}

/// A server that an operator has released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// The name of the cluster.
    pub cluster: String,
    /// The name of the server.
    pub server: String,
    /// The operator's name.
    pub by: String,
    /// When the server was released. The file has it to the second.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
}

impl HeldFile {
    /// Moves the server `CLUSTER/SERVER` from the held to the released ones. Returns the held
    /// entry, or `None` if there is none.
    pub fn release(&mut self, name: &str, by: &str, at: SystemTime) -> Option<HeldServer> {
        let place = self.held.iter().position(|held| held.name() == name)?;
        let held = self.held.remove(place);
        let is_same = |released: &Released| {
            (&released.cluster, &released.server) == (&held.cluster, &held.server)
        };
        self.released.retain(|released| !is_same(released));
        self.released.push(Released {
            cluster: held.cluster.clone(),
            server: held.server.clone(),
            by: by.to_owned(),
            at,
        });
        Some(held)
    }
}

impl Released {
    /// Returns whether this release ended that hold. A server that has fallen again after its
    /// release is held again.
    pub fn is_of(&self, held: &HeldServer) -> bool {
        // Both times are known to the second only.
        let a_second = Duration::from_secs(1);
        let is_later = self
            .at
            .checked_add(a_second)
            .is_none_or(|at| at >= held.since);
        (&self.cluster, &self.server) == (&held.cluster, &held.server) && is_later
    }
}

impl HeldServer {
    /// Returns whether both are the same hold, as far as the file tells.
    pub fn is_like(&self, other: &Self) -> bool {
        let parts = |held: &Self| {
            (
                held.cluster.clone(),
                held.server.clone(),
                held.address.clone(),
                held.cause.clone(),
            )
        };
        parts(self) == parts(other)
    }

    /// Returns `CLUSTER/SERVER`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.cluster, self.server)
    }
}

/// The version of a file, whatever else is in it.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Reads the file. A missing file gives an empty value.
///
/// A file that is damaged, or of another version, is renamed to `FILE.damaged` (replacing an older
/// one), so that it is not overwritten. The error tells the reason. The next call then finds no
/// file.
pub fn load(path: &Path) -> io::Result<HeldFile> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HeldFile::default()),
        Err(error) => return Err(of_file(path, "cannot be read", &error)),
    };
    parse(&text).map_err(|reason| {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".damaged");
        let aside = PathBuf::from(aside);
        let kept = match fs::rename(path, &aside) {
            Ok(()) => format!("it is kept as {}", aside.display()),
            Err(error) => format!("it cannot be kept as {}: {error}", aside.display()),
        };
        let message = format!("{} is damaged: {reason}; {kept}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn parse(text: &[u8]) -> Result<HeldFile, String> {
    let versioned: Versioned = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if versioned.version != VERSION {
        return Err(format!(
            "version {} is not supported, only {VERSION}",
            versioned.version
        ));
    }
    serde_json::from_value(versioned.rest.into()).map_err(|error| error.to_string())
}

/// Applies `change` to the file's content and writes the file if the content is different. The lock
/// keeps other writers out meanwhile.
///
/// # Errors
///
/// Those of [`load`] and [`store`], and a folder that another process keeps locked for longer than
/// a second.
pub fn update<T>(path: &Path, change: impl FnOnce(&mut HeldFile) -> T) -> io::Result<T> {
    update_within(path, MOST_LOCKED, change)
}

fn update_within<T>(
    path: &Path,
    patience: Duration,
    change: impl FnOnce(&mut HeldFile) -> T,
) -> io::Result<T> {
    let _lock = lock(path, patience).map_err(|error| of_file(path, "cannot be locked", &error))?;
    let before = load(path)?;
    let mut file = before.clone();
    let result = change(&mut file);
    if file != before {
        store(path, &file)?;
    }
    Ok(result)
}

/// Locks the file's folder. The file itself cannot be locked, because each change replaces it. A
/// folder that does not exist or cannot be opened is not locked: either there is nothing to lose,
/// or writing will fail.
fn lock(path: &Path, patience: Duration) -> io::Result<Option<Flock<File>>> {
    let Ok(mut folder) = File::open(folder(path)) else {
        return Ok(None);
    };
    let until = after(Instant::now(), patience);
    loop {
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((same, Errno::EAGAIN)) if Instant::now() < until => {
                folder = same;
                std::thread::sleep(LOOK);
            }
            Err((_, error)) => return Err(error.into()),
        }
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Writes the file whole or not at all, and so that it survives a power failure. Makes its folder
/// if needed.
pub fn store(path: &Path, file: &HeldFile) -> io::Result<()> {
    write(path, file).map_err(|error| of_file(path, "cannot be written", &error))
}

fn write(path: &Path, file: &HeldFile) -> io::Result<()> {
    #[derive(Serialize)]
    struct Versioned<'a> {
        version: u32,
        #[serde(flatten)]
        rest: &'a HeldFile,
    }
    let folder = folder(path);
    fs::create_dir_all(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    let content = Versioned {
        version: VERSION,
        rest: file,
    };
    serde_json::to_writer_pretty(&mut temporary, &content)?;
    temporary.write_all(b"\n")?;
    // Root may release a server, and a balancer with another user has to read that. The file has no
    // secret.
    temporary
        .as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    File::open(folder)?.sync_all()
}

fn of_file(path: &Path, what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} {what}: {error}", path.display()))
}

/// Times as RFC 3339, in UTC and to the second.
mod rfc3339 {
    use std::time::SystemTime;

    use jiff::Timestamp;
    use serde::de::{Deserialize, Deserializer, Error as _};
    use serde::ser::{Error as _, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, out: S) -> Result<S::Ok, S::Error> {
        let time = Timestamp::try_from(*time)
            .and_then(|time| Timestamp::from_second(time.as_second()))
            .map_err(S::Error::custom)?;
        out.collect_str(&time)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(input: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(input)?;
        text.parse::<Timestamp>()
            .map(SystemTime::from)
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn held(cluster: &str, server: &str) -> HeldServer {
        HeldServer {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            address: "127.0.0.1:6901".to_owned(),
            cause: "2 probes failed, the last: no answer in time".to_owned(),
            since: at(1_700_000_000),
        }
    }

    /// Returns the names of all files in a folder.
    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn changes_made_at_the_same_time_are_all_there_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held.json");
        let names: Vec<_> = (0..40).map(|number| number.to_string()).collect();
        // The others may take as long as the disk does.
        let patience = Duration::from_secs(600);
        std::thread::scope(|scope| {
            for names in names.chunks(10) {
                let path = &path;
                scope.spawn(move || {
                    for name in names {
                        update_within(path, patience, |file| file.held.push(held("shop", name)))
                            .unwrap();
                    }
                });
            }
        });
        let mut found: Vec<_> = load(&path)
            .unwrap()
            .held
            .into_iter()
            .map(|held| held.server)
            .collect();
        found.sort_by_key(|name| name.parse::<u32>().unwrap());
        assert_eq!(found, names);
    }

    #[test]
    fn a_change_that_makes_no_difference_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none/held.json");
        assert!(update(&path, |file| file.held.is_empty()).unwrap());
        assert!(!path.parent().unwrap().exists());
        update(&path, |file| file.held.push(held("shop", "one"))).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        update(&path, |file| file.held = vec![held("shop", "one")]).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_stored_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/held.json");
        assert_eq!(load(&path).unwrap(), HeldFile::default());
        let mut file = HeldFile {
            held: vec![
                held("shop", "one"),
                held("shop", "unix:/run/\"odd\" \u{e4}\n"),
            ],
            released: vec![Released {
                cluster: "shop".to_owned(),
                server: "two".to_owned(),
                by: "anna".to_owned(),
                at: at(1_700_000_060),
            }],
        };
        store(&path, &file).unwrap();
        assert_eq!(load(&path).unwrap(), file);
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o644);
        // The file replaces the old one, and no temporary file is left.
        file.held.clear();
        store(&path, &file).unwrap();
        assert_eq!(load(&path).unwrap(), file);
        assert_eq!(names(path.parent().unwrap()), ["held.json"]);
    }

    #[test]
    fn people_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held.json");
        let mut one = held("shop", "one");
        one.since += Duration::from_millis(999);
        let file = HeldFile {
            held: vec![one],
            released: Vec::new(),
        };
        store(&path, &file).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"{
  "version": 1,
  "held": [
    {
      "cluster": "shop",
      "server": "one",
      "address": "127.0.0.1:6901",
      "cause": "2 probes failed, the last: no answer in time",
      "since": "2023-11-14T22:13:20Z"
    }
  ],
  "released": []
}
"#
        );
        assert_eq!(load(&path).unwrap().held[0].since, at(1_700_000_000));
    }

    #[test]
    fn what_is_damaged_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held.json");
        let one = concat!(
            r#"{"cluster":"a","server":"b","address":"c","cause":"d","#,
            r#""since":"2023-11-14T22:13:20Z"}"#
        );
        for (text, reason) in [
            (String::new(), "EOF"),
            ("{\"version\": 1, \"held\": [".to_owned(), "EOF"),
            ("{}".to_owned(), "version"),
            ("[]".to_owned(), "invalid type"),
            ("\u{0}\u{0}\u{0}".to_owned(), "expected value"),
            (r#"{"version": 2, "servers": {}}"#.to_owned(), "version 2"),
            (r#"{"version": 1, "held": []}"#.to_owned(), "released"),
            (
                r#"{"version": 1, "held": [], "released": [], "more": 1}"#.to_owned(),
                "more",
            ),
            (
                format!(
                    r#"{{"version": 1, "held": [{}], "released": []}}"#,
                    one.replace("2023", "x")
                ),
                "year",
            ),
        ] {
            fs::write(&path, &text).unwrap();
            let error = load(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text}");
            let said = error.to_string();
            assert!(
                said.contains(&path.display().to_string()) && said.contains(reason),
                "{said}"
            );
            assert!(said.contains("held.json.damaged"), "{said}");
            assert_eq!(names(folder.path()), ["held.json.damaged"], "{text}");
            assert_eq!(
                fs::read_to_string(folder.path().join("held.json.damaged")).unwrap(),
                text
            );
            assert_eq!(load(&path).unwrap(), HeldFile::default());
        }
        // The same entry with a time is valid.
        fs::write(
            &path,
            format!(r#"{{"version": 1, "held": [{one}], "released": []}}"#),
        )
        .unwrap();
        assert_eq!(load(&path).unwrap().held.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_or_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        // A folder is not a damaged file, and stays untouched.
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("cannot be read") && folder.path().exists(),
            "{error}"
        );
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = store(&file.join("held.json"), &HeldFile::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("file/held.json cannot be written"),
            "{error}"
        );
        let error = store(folder.path(), &HeldFile::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("cannot be written"), "{error}");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_release_moves_a_server() {
        let mut file = HeldFile {
            held: vec![
                held("shop", "one"),
                held("shop", "unix:/a/b"),
                held("other", "one"),
            ],
            released: Vec::new(),
        };
        for name in [
            "one",
            "shop",
            "shop/",
            "shop/on",
            "shop/two",
            "shop/one/",
            "",
        ] {
            assert_eq!(file.release(name, "anna", at(1)), None, "{name}");
        }
        assert_eq!(
            file.release("shop/one", "anna", at(1)),
            Some(held("shop", "one"))
        );
        assert_eq!(file.held, [held("shop", "unix:/a/b"), held("other", "one")]);
        assert_eq!(file.release("shop/one", "anna", at(1)), None);
        assert_eq!(
            file.release("shop/unix:/a/b", "anna", at(2)),
            Some(held("shop", "unix:/a/b"))
        );
        // The server is held again before the balancer has read the file, and released again: the
        // last release counts.
        file.held.push(held("shop", "one"));
        assert!(file.release("shop/one", "bert", at(3)).is_some());
        let released: Vec<_> = file
            .released
            .iter()
            .map(|released| (released.server.as_str(), released.by.as_str(), released.at))
            .collect();
        assert_eq!(
            released,
            [("unix:/a/b", "anna", at(2)), ("one", "bert", at(3))]
        );
        assert_eq!(file.held, [held("other", "one")]);
    }
}
