//! The file of a Unix listener: which users may connect.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use crate::support::{Client, Config, Juggler, Origin, PATIENCE, Start, reload, tool, without};

fn text(origin: &Origin, lines: &str) -> String {
    Config::new([origin.address()])
        .listener(&format!("bind = [\"unix:{{dir}}/juggler.sock\"]\n{lines}"))
        .text()
}

fn mode(juggler: &Juggler) -> u32 {
    let socket = juggler.folder().join("juggler.sock");
    fs::metadata(socket).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_mode_is_the_operators() {
    let origin = Origin::answering("fine");
    for (lines, expected) in [
        ("", 0o666),
        ("mode = \"0660\"", 0o660),
        ("mode = \"600\"", 0o600),
        ("mode = \"0777\"", 0o777),
    ] {
        let juggler = Start::config(&text(&origin, lines)).ready();
        assert_eq!(mode(&juggler), expected, "{lines}");
        Client::connect(juggler.address()).get("/").expect(200);
    }
}

#[test]
fn the_mode_is_there_before_a_client_can_connect() {
    let strace = tool("strace");
    if !Command::new(&strace)
        .args(["-o", "/dev/null", "true"])
        .status()
        .unwrap()
        .success()
    {
        return without("ptrace", "this system does not allow tracing");
    }
    let origin = Origin::answering("fine");
    let start = Start::config(&text(&origin, "mode = \"0660\"")).by([
        strace.to_str().unwrap(),
        "-D",
        "-f",
        "-o",
        "trace",
        "-e",
        "trace=bind,listen,chmod,fchmod,fchmodat",
    ]);
    let trace = start.folder().join("trace");
    let mut juggler = start.ready();
    assert_eq!(mode(&juggler), 0o660);
    let said = fs::read_to_string(&trace).unwrap();
    let place = |what: &str| {
        said.lines()
            .position(|line| line.contains(what) && line.contains(" = 0"))
            .unwrap_or_else(|| panic!("{what}: {said}"))
    };
    let bound = place("juggler.sock");
    let chmod = said.lines().position(|line| line.contains("0660")).unwrap();
    let listens = said
        .lines()
        .skip(bound)
        .position(|line| line.contains("listen("))
        .unwrap()
        + bound;
    assert!(bound < listens && chmod < listens, "{said}");
    juggler.stop();
}

#[test]
fn owner_and_group_are_the_operators() {
    let origin = Origin::answering("fine");
    if !nix::unistd::geteuid().is_root() {
        // Only root may give files away. The failure is reported, and the socket file is removed.
        let mut juggler = Start::config(&text(&origin, "owner = \"root\"")).spawn();
        assert_eq!(juggler.wait(PATIENCE), Some(1));
        assert!(
            juggler.log().iter().any(|line| line.contains("owner")),
            "{:?}",
            juggler.log()
        );
        assert!(!juggler.folder().join("juggler.sock").exists());
        return;
    }
    let juggler = Start::config(&text(
        &origin,
        "owner = \"nobody\"\ngroup = \"daemon\"\nmode = \"0600\"",
    ))
    .ready();
    let file = fs::metadata(juggler.folder().join("juggler.sock")).unwrap();
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let group = nix::unistd::Group::from_name("daemon").unwrap().unwrap();
    assert_eq!(
        (file.uid(), file.gid()),
        (user.uid.as_raw(), group.gid.as_raw())
    );
    Client::connect(juggler.address()).get("/").expect(200);
}

#[test]
fn a_reload_changes_the_file_of_a_listener_that_stays() {
    let origin = Origin::answering("fine");
    let juggler = Start::config(&text(&origin, "mode = \"0600\"")).ready();
    let in_folder = |text: String| text.replace("{dir}", &juggler.folder().display().to_string());
    let inode = || {
        fs::metadata(juggler.folder().join("juggler.sock"))
            .unwrap()
            .ino()
    };
    let before = inode();
    let mut kept = Client::connect(juggler.address());
    kept.get("/").expect(200);
    reload(
        &juggler,
        &in_folder(text(&origin, "mode = \"0660\"")),
        "reloaded",
    );
    assert_eq!((mode(&juggler), inode()), (0o660, before));
    kept.get("/").expect(200);
    // A new socket gets its mode too.
    let more = text(&origin, "mode = \"0640\"").replace(
        "juggler.sock\"",
        "juggler.sock\", \"unix:{dir}/second.sock\"",
    );
    reload(&juggler, &in_folder(more), "reloaded");
    assert_eq!(mode(&juggler), 0o640);
    let second = fs::metadata(juggler.folder().join("second.sock")).unwrap();
    assert_eq!(second.permissions().mode() & 0o7777, 0o640);
}

#[test]
fn what_is_wrong_or_of_no_use_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("juggler.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = Juggler::run(["check".as_ref(), "--config".as_ref(), file.as_os_str()]);
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let with = |lines: &str| Config::new(["127.0.0.1:1"]).listener(lines).text();
    for (lines, place, what) in [
        ("mode = \"0888\"", "mode", "octal"),
        ("mode = \"rw\"", "mode", "octal"),
        ("mode = \"1777\"", "mode", "octal"),
        ("mode = 660", "mode", "must be text"),
        ("owner = \"no-such-user-here\"", "owner", "there is no user"),
        (
            "group = \"no-such-group-here\"",
            "group",
            "there is no group",
        ),
    ] {
        let (code, said) = check(&with(&format!("bind = [\"unix:/run/x.sock\"]\n{lines}")));
        assert_eq!(code, Some(1), "{lines}: {said}");
        assert!(
            said.contains(&format!("listener[0].{place}")) && said.contains(what),
            "{lines}: {said}"
        );
    }
    for key in ["mode = \"0660\"", "owner = \"root\"", "group = \"root\""] {
        let (code, said) = check(&with(key));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("no Unix socket"), "{key}: {said}");
        let (_, said) = check(&with(&format!("bind = [\"unix:/run/x.sock\"]\n{key}")));
        assert!(!said.contains("no Unix socket"), "{key}: {said}");
    }
}
