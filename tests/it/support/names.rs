//! Names that the test defines: the balancer runs with its own `/etc/hosts` and uses no other
//! source of names.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Start, without};

/// A hosts file in a folder of its own.
pub(crate) struct Hosts {
    folder: TempDir,
}

/// The file always has this length, so that a change is one write and no reader sees half of it.
const LENGTH: usize = 1024;

/// Mounts the files over the system's (in a namespace of its own) and runs the command that
/// follows.
const MOUNT: &str = "for file in hosts nsswitch.conf host.conf; do [ ! -e /etc/$file ] || mount \
                     --bind \"$0/$file\" /etc/$file || exit 1; done; exec \"$@\"";

impl Hosts {
    /// A file with these lines. `None` (with a note) where the machine has no namespaces and that
    /// is known ([`without`]).
    pub(crate) fn new(lines: &[&str]) -> Option<Self> {
        let hosts = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let path = hosts.folder.path();
        fs::write(path.join("nsswitch.conf"), "hosts: files\n").unwrap();
        fs::write(path.join("host.conf"), "multi on\n").unwrap();
        fs::write(path.join("hosts"), [b'\n'; LENGTH]).unwrap();
        hosts.set(lines);
        let prefix = hosts.prefix();
        let tried = Command::new(&prefix[0])
            .args(&prefix[1..])
            .arg("true")
            .stderr(Stdio::null())
            .status();
        if tried.is_ok_and(|status| status.success()) {
            return Some(hosts);
        }
        without(
            "namespaces",
            "this machine gives us no namespace of our own (unshare --map-root-user --mount)",
        );
        None
    }

    /// Replaces the lines.
    pub(crate) fn set(&self, lines: &[&str]) {
        let mut content = lines.join("\n").into_bytes();
        assert!(content.len() < LENGTH);
        content.resize(LENGTH, b'\n');
        let path = self.folder.path().join("hosts");
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(&content).unwrap();
    }

    /// Makes the balancer use these names.
    pub(crate) fn before(&self, start: Start) -> Start {
        start.by(self.prefix())
    }

    fn prefix(&self) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        let words = [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            MOUNT,
            &folder,
        ];
        words.map(str::to_owned).into()
    }
}
