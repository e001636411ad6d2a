//! Logs delay no request. A log that takes nothing, takes only a part, or is never read loses
//! lines, and nothing else is lost.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::Value;

use crate::support::{
    Client, Config, Juggler, Origin, PATIENCE, Start, eventually, eventually_eq, tool,
};

/// A pipe with room for one page, which the test does not read for now. Its writers find a reader.
fn unread_pipe(path: &Path) -> File {
    nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    let reader = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .unwrap();
    fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    reader
}

/// Reads the pipe in a thread until it has no writer any more.
fn read_all(mut pipe: File) -> thread::JoinHandle<String> {
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    })
}

/// A shell command that runs its arguments with this redirection.
fn redirected(to: &str) -> [String; 4] {
    [
        "sh".into(),
        "-c".into(),
        format!("exec \"$@\" {to}"),
        "sh".into(),
    ]
}

/// The address of the listener, once it listens.
fn front(juggler: &Juggler) -> String {
    let path = juggler.folder().join("front");
    let address = format!("unix:{}", path.display());
    eventually(PATIENCE, "the program listens", || {
        Client::try_connect(&address).is_ok()
    });
    address
}

/// Sends `count` requests of 30 KB each on one connection, one after the other.
fn large_requests(address: &str, count: usize) {
    let agent = "a".repeat(30_000);
    let mut client = Client::connect(address);
    for number in 0..count {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\n\r\n");
        client.exchange(request).expect(200);
    }
}

fn number_before(line: &str, word: &str) -> u64 {
    let (before, _) = line
        .split_once(word)
        .unwrap_or_else(|| panic!("no {word:?} in {line}"));
    before
        .trim_end()
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Opens connections, each of which leads to a message.
fn be_refused(address: &str, count: usize) {
    for _ in 0..count {
        let mut client = Client::connect(address);
        client.send(format!("{}\r\n\r\n", "nonsense".repeat(50)));
        client.read_response().expect(400);
    }
}

/// Starts a program that has many messages, with standard error into a pipe of this name.
fn start_with_stuck_messages(origin: &Origin) -> (Juggler, File) {
    let text = Config::new([origin.address()])
        .top("[log]\nqueue = \"64KiB\"")
        .listener("bind = \"unix:{dir}/front\"")
        .text();
    let start = Start::config(&text)
        .environment("RUST_LOG", "debug")
        .by(redirected("2>stderr"));
    let pipe = unread_pipe(&start.folder().join("stderr"));
    (start.spawn(), pipe)
}

#[test]
fn nothing_waits_for_standard_error() {
    let origin = Origin::answering("fine");
    let (mut juggler, pipe) = start_with_stuck_messages(&origin);
    let address = front(&juggler);
    be_refused(&address, 1500);
    let mut client = Client::connect(&address);
    client.get("/").expect(200);
    // Once the pipe is read there are messages again, and one of them says how many are missing.
    let reading = read_all(pipe);
    eventually(PATIENCE, "messages are written again", || {
        be_refused(&address, 1);
        juggler.signal(Signal::SIGUSR1);
        client.get("/").expect(200);
        origin.requests().len() > 20
    });
    assert_eq!(juggler.stop(), Some(0));
    let said = reading.join().unwrap();
    let told = said
        .lines()
        .find(|line| line.contains("messages: ") && line.contains("dropped"))
        .unwrap();
    assert!(
        told.contains("WARN") && number_before(told, "of them dropped") > 100,
        "{told}"
    );
    assert!(said.lines().next().unwrap().starts_with('['), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.contains("stopped after"),
        "the last messages are written: {last}"
    );
    let totals = said.lines().find(|line| line.contains("in all: ")).unwrap();
    assert!(
        number_before(totals, "messages lost") >= number_before(told, "of them dropped"),
        "{totals}"
    );
}

#[test]
fn a_stop_does_not_wait_for_standard_error() {
    let origin = Origin::answering("fine");
    let (mut juggler, pipe) = start_with_stuck_messages(&origin);
    let address = front(&juggler);
    be_refused(&address, 1000);
    let threads = juggler.threads();
    be_refused(&address, 200);
    assert!(juggler.threads() <= threads + 20, "threads do not pile up");
    assert_eq!(juggler.stop(), Some(0));
    drop(pipe);
}

#[test]
fn standard_error_without_a_reader_or_on_a_full_disk_is_no_end() {
    let origin = Origin::answering("fine");
    for to in ["2>/dev/full", "2>&-", "2>stderr"] {
        let text = Config::new([origin.address()])
            .listener("bind = \"unix:{dir}/front\"")
            .text();
        let start = Start::config(&text)
            .environment("RUST_LOG", "debug")
            .by(redirected(to));
        let pipe = unread_pipe(&start.folder().join("stderr"));
        let mut juggler = start.spawn();
        let address = front(&juggler);
        drop(pipe);
        be_refused(&address, 50);
        Client::connect(&address).get("/").expect(200);
        assert_eq!(juggler.stop(), Some(0), "{to}");
    }
}

#[test]
fn nothing_waits_for_the_reader_of_the_access_log() {
    let origin = Origin::answering("fine");
    // Standard output, and a pipe in the place of a file.
    for (access, redirection) in [("stdout", "1>out"), ("{dir}/out", "1>/dev/null")] {
        let text = Config::new([origin.address()])
            .top(&format!("[log]\nqueue = \"64KiB\"\naccess = \"{access}\""))
            .text();
        let start = Start::config(&text).by(redirected(redirection));
        let pipe = unread_pipe(&start.folder().join("out"));
        let mut juggler = start.ready();
        large_requests(&juggler.address(), 20);
        let before = juggler.rss_kib();
        large_requests(&juggler.address(), 1000);
        let more = juggler.rss_kib().saturating_sub(before);
        assert!(more < 8 * 1024, "{more} KiB for {access}");
        let told = juggler.wait_for_log("access log: ");
        assert!(
            told.contains("WARN") && number_before(&told, "lines dropped") > 0,
            "{told}"
        );
        // A reader that comes now gets whole lines, and those of the last requests before the end.
        let reading = read_all(pipe);
        eventually(PATIENCE, "there is room again", || {
            Client::connect(juggler.address()).get("/last").expect(200);
            juggler.folder().join("never").exists()
                || origin
                    .requests()
                    .iter()
                    .filter(|it| it.target == "/last")
                    .count()
                    > 20
        });
        assert_eq!(juggler.stop(), Some(0));
        let log = reading.join().unwrap();
        assert!(log.ends_with('\n'));
        assert!(
            log.lines()
                .all(|line| line.starts_with("127.0.0.1 - - [") && line.ends_with("end=-- \"\""))
        );
        assert!(log.contains("GET /last HTTP/1.1"));
        let totals = juggler.wait_for_log("in all: ");
        let (written, dropped) = (
            log.lines().count() as u64,
            number_before(&totals, "log lines dropped"),
        );
        assert!(dropped > 100, "{totals}");
        assert_eq!(written + dropped, origin.requests().len() as u64);
        origin.forget();
    }
}

#[test]
fn a_stop_does_not_wait_for_the_reader_of_the_access_log() {
    let origin = Origin::answering("fine");
    let text = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"")
        .text();
    let start = Start::config(&text).by(redirected("1>out"));
    let _pipe = unread_pipe(&start.folder().join("out"));
    let mut juggler = start.ready();
    large_requests(&juggler.address(), 50);
    assert_eq!(juggler.stop(), Some(0));
    juggler.wait_for_log("stopped after");
}

#[test]
fn a_full_disk_is_told_once_a_minute_with_the_truth() {
    let origin = Origin::answering("fine");
    let mut juggler = Config::new([origin.address()])
        .top("[process]\nsummary = \"1s\"\n[log]\naccess = \"/dev/full\"")
        .start();
    large_requests(&juggler.address(), 1);
    let told = juggler.wait_for_log("could not be written");
    assert!(
        told.contains("WARN")
            && told.contains("access log: 1 lines lost")
            && told.contains("No space left"),
        "{told}"
    );
    large_requests(&juggler.address(), 300);
    juggler.wait_for_log(", 301 lines lost in logs");
    assert_eq!(juggler.stop(), Some(0));
    let totals = juggler.wait_for_log("in all: ");
    assert_eq!(
        (
            number_before(&totals, "log lines dropped"),
            number_before(&totals, "not written")
        ),
        (0, 301),
        "{totals}"
    );
    let about_it = juggler
        .log()
        .iter()
        .filter(|line| line.contains("could not be written"))
        .count();
    assert_eq!(about_it, 1, "{:#?}", juggler.log());
}

#[test]
fn a_file_that_may_not_grow_holds_whole_lines_and_goes_on_when_it_may() {
    let prlimit = tool("prlimit");
    let origin = Origin::answering("fine");
    let text = Config::new([origin.address()])
        .top("[log]\naccess = \"{dir}/log\"\nformat = \"json\"")
        .text();
    // What another program has left there is no beginning of our lines.
    let start = Start::config(&text).file("log", "{\"half\": 1");
    let mut juggler = start.ready();
    let limit = |size: &str| {
        let arguments = [
            format!("--pid={}", juggler.pid()),
            format!("--fsize={size}:"),
        ];
        assert!(
            Command::new(&prlimit)
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
    };
    let log = juggler.folder().join("log");
    let whole = |text: &str| {
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let lines = text
            .lines()
            .skip(1)
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| line["request"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let mut client = Client::connect(juggler.address());
    let mut asked = 0;
    // The limit falls into a different place of a line each time.
    for size in [3000, 5001, 7003] {
        limit(&size.to_string());
        // More lines than fit into the limit.
        for _ in 0..30 {
            asked += 1;
            client.get(&format!("/{asked}")).expect(200);
        }
        eventually(PATIENCE, "the file is full", || {
            fs::metadata(&log).unwrap().len() + 500 > size
        });
        limit("unlimited");
        asked += 1;
        let last = format!("/{asked}");
        eventually(PATIENCE, "lines are written again", || {
            client.get(&last).expect(200);
            fs::read_to_string(&log)
                .unwrap()
                .contains(&format!("GET {last} "))
        });
    }
    assert_eq!(juggler.stop(), Some(0));
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("{\"half\": 1\n"), "{text}");
    let written = whole(&text).len() as u64;
    let totals = juggler.wait_for_log("in all: ");
    let lost = number_before(&totals, "not written");
    assert!(lost > 0, "{totals}");
    assert_eq!(written + lost, origin.requests().len() as u64, "{totals}");
}

#[test]
fn what_a_terminal_would_obey_is_escaped_in_json() {
    let origin = Origin::answering("fine");
    let mut juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\nformat = \"json\"")
        .start();
    let agents = [
        "\u{9b}31m\u{90}x\u{9c}",
        "abc\u{202e}def\u{2066}ghi\u{2069}",
        "\u{7f}\u{200e}\u{200f}\u{feff}",
        "a\u{2028}b\u{2029}c",
        "\u{e0041}\u{200b}",
        "é 漢字 😀",
    ];
    for agent in agents {
        // A field may not contain DEL: the log line then has a different form.
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\n\r\n");
        Client::connect(juggler.address()).exchange(request);
    }
    let target = "GET /\u{202e}\u{9b} HTTP/1.1\r\nHost: x\r\n\r\n";
    Client::connect(juggler.address())
        .exchange(target)
        .expect(400);
    eventually_eq("lines", agents.len() + 1, || juggler.output().len());
    assert_eq!(juggler.stop(), Some(0));
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(
                c,
                '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2066}'..='\u{2069}'
                    | '\u{feff}'
                    | '\u{e0000}'..='\u{e007f}'
            )
    };
    let mut seen = Vec::new();
    for line in juggler.output() {
        assert!(!line.chars().any(is_harmful), "{line:?}");
        let object: Value = serde_json::from_str(&line).unwrap();
        seen.push(object["user_agent"].as_str().unwrap().to_owned());
    }
    for agent in agents.iter().filter(|agent| !agent.contains('\u{7f}')) {
        assert!(
            seen.iter().any(|seen| seen == agent),
            "{agent:?} in {seen:#?}"
        );
    }
}

#[test]
fn what_others_have_written_forges_no_message() {
    let origin = Origin::answering("fine");
    let text = Config::new([origin.address()])
        .top("[process]\nstate = \"{dir}/state.json\"")
        .text();
    let released = r#"{ "version": 1, "held": [], "released": [{ "cluster": "main",
        "server": "s9", "by": "me\u001b[2J\u009b\u202e\n[forged] INFO all is well",
        "at": "2026-11-01T00:00:00Z" }] }"#;
    let juggler = Start::config(&text).ready();
    let told = || {
        juggler
            .log()
            .into_iter()
            .find(|line| line.contains("main/s9 was released by"))
    };
    // The balancer may write the file itself in between.
    eventually(PATIENCE, "the release is logged", || {
        fs::write(juggler.folder().join("state.json"), released).unwrap();
        juggler.signal(Signal::SIGHUP);
        told().is_some()
    });
    let line = told().unwrap();
    assert!(
        line.contains("me\\u{1b}[2J\\u{9b}\\u{202e}\\n[forged]"),
        "{line:?}"
    );
    assert!(
        juggler
            .log()
            .iter()
            .all(|line| !line.chars().any(char::is_control))
    );
}

#[test]
fn colours_are_for_terminals_or_on_demand() {
    let origin = Origin::answering("fine");
    let text = Config::new([origin.address()]).text();
    for (variables, coloured) in [
        (&[][..], false),
        (&["CLICOLOR_FORCE"], true),
        (&["CLICOLOR_FORCE", "NO_COLOR"], false),
        (&["NO_COLOR"], false),
    ] {
        let mut start = Start::config(&text);
        for name in variables {
            start = start.environment(name, "1");
        }
        let juggler = start.spawn();
        let line = juggler.wait_for_log("ready");
        assert_eq!(line.contains('\u{1b}'), coloured, "{variables:?}: {line:?}");
    }
}
