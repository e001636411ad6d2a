//! Starting: sockets that are handed over or in the way, privileges that are given up, limits that
//! are observed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::{
    Authority, Client, Config, Gate, Juggler, Origin, PATIENCE, Start, TestServer, eventually,
    tool, without,
};

#[test]
fn a_restart_with_a_socket_that_was_handed_over_refuses_no_client() {
    const RESTARTS: usize = 3;
    let server = TestServer::start();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let config = Config::new([server.address()]).listener(&format!("bind = \"{address}\""));
    let start = || {
        Start::config(&config.text())
            .socket(socket.try_clone().unwrap())
            .ready()
    };
    let (ended, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..6)
        .map(|number| {
            let (ended, served) = (Arc::clone(&ended), Arc::clone(&served));
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let mut client = Client::connect(address);
                    // Some clients send one request, some go on until a response is marked as the
                    // last.
                    for _ in 0..(number % 3) * 50 + 1 {
                        let closes = client.get("/test.txt").expect(200).closes();
                        served.fetch_add(1, Ordering::Relaxed);
                        if closes {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for _ in 0..RESTARTS {
        let before = served.load(Ordering::Relaxed);
        let mut juggler = start();
        eventually(PATIENCE, "clients are served", || {
            served.load(Ordering::Relaxed) > before + 100
        });
        assert_eq!(juggler.stop(), Some(0));
        assert!(!juggler.log().iter().any(|line| line.contains("time is up")));
    }
    ended.store(true, Ordering::Relaxed);
    let _running = start();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_socket_of_both_families_serves_both() {
    let server = TestServer::start();
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    let any: std::net::SocketAddr = "[::]:0".parse().unwrap();
    if socket.bind(&SockAddr::from(any)).is_err() {
        return without("ipv6", "there is no IPv6");
    }
    socket.listen(100).unwrap();
    let socket = TcpListener::from(socket);
    let port = socket.local_addr().unwrap().port();
    // As systemd makes it of `ListenStream=80`, for what is `*:80` here.
    let config = Config::new([server.address()]).listener(&format!("bind = \"*:{port}\""));
    let juggler = Start::config(&config.text()).socket(socket).ready();
    assert_eq!(juggler.addresses()["main"], [format!("[::]:{port}")]);
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        Client::connect(address).get("/test.txt").expect(200);
    }
}

#[test]
fn both_families_can_have_one_port() {
    if TcpListener::bind("[::1]:0").is_err() {
        return without("ipv6", "there is no IPv6");
    }
    let server = TestServer::start();
    // A port that is free for IPv4 is nearly always free for IPv6, too. If another program takes it
    // meanwhile, the test tries the next one.
    let juggler = (0..20).find_map(|_| {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = Config::new([server.address()]).listener(&format!(
            "bind = [\"127.0.0.1:{port}\", \"[::1]:{port}\", \"unix:{{dir}}/socket\"]"
        ));
        let juggler = Start::config(&config.text()).spawn();
        juggler.is_ready().then_some(juggler)
    });
    let juggler = juggler.expect("no port was free");
    let addresses = &juggler.addresses()["main"];
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    for address in addresses {
        Client::connect(address).get("/test.txt").expect(200);
    }
}

#[test]
fn a_unix_socket_without_a_listener_is_replaced_and_removed_at_the_end() {
    let server = TestServer::start();
    let config = Config::new([server.address()]).listener("bind = \"unix:{dir}/socket\"");
    let start = Start::config(&config.text());
    let path = start.folder().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut juggler = start.ready();
    assert_eq!(juggler.address(), format!("unix:{}", path.display()));
    Client::connect(juggler.address())
        .get("/test.txt")
        .expect(200);
    assert_eq!(juggler.stop(), Some(0));
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_that_another_process_took_over_is_left() {
    let server = TestServer::start();
    let config = Config::new([server.address()]).listener("bind = \"unix:{dir}/socket\"");
    let mut juggler = config.start();
    let path = juggler.folder().join("socket");
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    assert_eq!(juggler.stop(), Some(0));
    assert!(path.exists());
}

/// Starts while a Unix socket's place is taken, and returns the log about it.
#[track_caller]
fn refused(prepare: impl FnOnce(&Path)) -> String {
    let config = Config::new(["127.0.0.1:1"]).listener("bind = \"unix:{dir}/socket\"");
    let start = Start::config(&config.text());
    let path = start.folder().join("socket");
    prepare(&path);
    let mut juggler = start.spawn();
    assert_eq!(juggler.wait(PATIENCE), Some(1));
    assert!(path.exists(), "the other's socket file is still there");
    juggler.wait_for_log("cannot listen on unix:")
}

#[test]
fn what_is_in_the_place_of_a_unix_socket_and_alive_stays() {
    let mut live = None;
    let said = refused(|path| live = Some(UnixListener::bind(path).unwrap()));
    assert!(said.contains("another process listens there"), "{said}");

    // A socket with a full backlog is alive as well, and the start does not wait for it.
    let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let mut waiting = Vec::new();
    let said = refused(|path| {
        busy.bind(&SockAddr::unix(path).unwrap()).unwrap();
        busy.listen(0).unwrap();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            if client.connect(&SockAddr::unix(path).unwrap()).is_err() {
                break;
            }
            waiting.push(client);
        }
    });
    assert!(said.contains("another process listens there"), "{said}");

    let said = refused(|path| fs::write(path, "precious").unwrap());
    assert!(said.contains("another file than a socket"), "{said}");
}

/// `Uid`, `Gid` and `Groups` of every thread.
fn identities(juggler: &Juggler) -> Vec<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", juggler.pid())).unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok())
        .map(|status| {
            let lines = status.lines();
            lines
                .filter(|line| {
                    ["Uid:", "Gid:", "Groups:", "CapEff:"]
                        .iter()
                        .any(|name| line.starts_with(name))
                })
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect()
        })
        .collect()
}

#[test]
fn privileges_are_dropped_by_every_thread_for_good() {
    if !geteuid().is_root() {
        return without("root", "this test does not run as root");
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let server = TestServer::start();
    let authority = Authority::new();
    let config = Config::new([server.address()])
        .top(
            "[process]\nuser = \"nobody\"\n[log]\naccess = \"{dir}/access.log\"\n[spool]\nfolder \
             = \"{dir}\"",
        )
        .listener(
            "tls = { certificates = [{ chain = \"{dir}/server.crt\", key = \"{dir}/server.key\" \
             }] }",
        );
    let start = Start::config(&config.text());
    let (_, key) = authority
        .issue(&["localhost"])
        .write(start.folder(), "server");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(start.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let juggler = start.ready();
    let clients: Vec<_> = (0..5)
        .map(|_| {
            let mut client = Client::tls(juggler.address(), &authority.client(), "localhost");
            client.get("/test.txt").expect(200);
            client
        })
        .collect();
    let (uid, gid) = (nobody.uid, nobody.gid);
    let expected = [
        format!("Uid: {uid} {uid} {uid} {uid}"),
        format!("Gid: {gid} {gid} {gid} {gid}"),
        format!("Groups: {gid}"),
        "CapEff: 0000000000000000".to_owned(),
    ];
    let identities = identities(&juggler);
    assert!(
        identities.len() > 10,
        "main, workers, sessions, log, reaper, tick"
    );
    for identity in identities {
        assert_eq!(identity, expected);
    }
    // Warnings name what this user cannot open again. After SIGHUP the old files stay in use.
    juggler.wait_for_log("nobody cannot read");
    juggler.wait_for_log("nobody cannot write to");
    juggler.wait_for_log("no files can be made in");
    juggler.signal(Signal::SIGHUP);
    juggler.wait_for_log("the old certificates stay");
    juggler.wait_for_log("keeping the old one");
    Client::tls(juggler.address(), &authority.client(), "localhost")
        .get("/test.txt")
        .expect(200);
    let log = juggler.folder().join("access.log");
    eventually(PATIENCE, "all logged", || {
        fs::read_to_string(&log).unwrap().lines().count() == 6
    });
    drop(clients);
}

#[test]
fn what_the_user_can_open_again_is_not_complained_of() {
    if !geteuid().is_root() {
        return without("root", "this test does not run as root");
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let server = TestServer::start();
    let config = Config::new([server.address()]).top(
        "[process]\nuser = \"nobody\"\n[log]\naccess = \"{dir}/access.log\"\n[spool]\nfolder = \
         \"{dir}\"",
    );
    let start = Start::config(&config.text());
    nix::unistd::chown(start.folder(), Some(nobody.uid), Some(nobody.gid)).unwrap();
    fs::write(start.folder().join("access.log"), "").unwrap();
    nix::unistd::chown(&start.folder().join("access.log"), Some(nobody.uid), None).unwrap();
    let juggler = start.ready();
    assert!(
        !juggler
            .log()
            .iter()
            .any(|line| line.contains("cannot") || line.contains("no files")),
        "{:?}",
        juggler.log()
    );
}

#[test]
fn sessions_are_as_many_as_files_allow() {
    let prlimit = tool("prlimit");
    let mut by = vec![prlimit.display().to_string(), "--nofile=300".into()];
    if geteuid().is_root() {
        // With this capability root may raise any limit.
        let setpriv = tool("setpriv");
        by.extend([
            setpriv.display().to_string(),
            "--bounding-set=-sys_resource".into(),
        ]);
    }
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            held.wait();
            conn.answer(200, "done");
        }
    });
    let config = Config::new([origin.address()]).cluster("capacity = 1\nqueue = { limit = 1000 }");
    let juggler = Start::config(&config.text()).by(by).ready();
    // 300 without the three of a worker and 256 for everything else.
    let said =
        juggler.wait_for_log("max_sessions is lowered from 16384 to 41 by the limit of open files");
    assert!(said.contains("ulimit -n"), "{said}");
    // More clients than that wait in the backlog, and are served later.
    let mut clients: Vec<_> = (0..100)
        .map(|_| {
            let mut client = Client::connect(juggler.address());
            client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            client
        })
        .collect();
    eventually(PATIENCE, "all sessions busy", || {
        juggler.threads_by_name().get("session") == Some(&41)
    });
    gate.open();
    for client in &mut clients {
        client.read_response().expect(200);
    }
}

#[test]
fn running_out_of_files_is_no_end() {
    let prlimit = tool("prlimit");
    let server = TestServer::start();
    let mut juggler = Config::new([server.address()])
        .cluster("capacity = 1")
        .start();
    server.wait_for_stat("connections_now", 1);
    let limit = |files: &str| {
        let mut command = std::process::Command::new(&prlimit);
        let pid = format!("--pid={}", juggler.pid());
        assert!(
            command
                .args([&pid, &format!("--nofile={files}:")])
                .status()
                .unwrap()
                .success()
        );
    };
    let address = juggler.address();
    Client::connect(&address).get("/test.txt").expect(200);
    let before = fs::read_to_string(format!("/proc/{}/limits", juggler.pid())).unwrap();
    let before = before
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let before = before.split_whitespace().nth(3).unwrap();
    limit("3");
    let mut waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut client = Client::connect(&address);
            client.send("GET /test.txt HTTP/1.1\r\nHost: x\r\n\r\n");
            client
        })
        .collect();
    // Threads that were in accept() had a descriptor in reserve.
    waiting
        .last_mut()
        .unwrap()
        .expect_silence(Duration::from_millis(120));
    limit(before);
    for client in &mut waiting {
        client.read_response().expect(200);
    }
    drop(waiting);
    assert_eq!(juggler.stop(), Some(0));
    let totals = juggler.wait_for_log("failed accepts");
    assert!(!totals.contains(" 0 failed accepts"), "{totals}");
}

#[test]
fn a_socket_file_is_one() {
    let server = TestServer::start();
    let juggler = Config::new([server.address()])
        .listener("bind = \"unix:{dir}/socket\"")
        .start();
    let found = fs::metadata(juggler.folder().join("socket")).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o666);
}

#[test]
fn descriptors_that_were_not_handed_over_are_left_alone() {
    // Without LISTEN_PID these numbers were meant for another process. Here they are the program's
    // own.
    let origin = Origin::answering("fine");
    let mut juggler = Start::config(&Config::new([origin.address()]).text())
        .environment("LISTEN_FDS", "8")
        .ready();
    Client::connect(juggler.address()).get("/").expect(200);
    assert_eq!(juggler.stop(), Some(0));
}
