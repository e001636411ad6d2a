//! The contenders, and how each is started. Their configurations are in bench/contenders/.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::child::{self, Running};
use crate::problem::{Interrupt, Outcome, Problem, about};

/// HAProxy's `maxconn` for each server. Of 8, 16, 32, 64, 128 and 256 this was the best on two
/// cores over 1024 and 4096 clients.
pub(crate) const HAPROXY_SERVER_MAXCONN: u32 = 128;
/// Depth of the pipelines of `juggler-pipeline`.
pub(crate) const PIPELINE: u32 = 8;

const JUGGLER: &str = include_str!("../contenders/juggler.toml");
const NGINX: &str = include_str!("../contenders/nginx.conf");
const HAPROXY: &str = include_str!("../contenders/haproxy.cfg");
const SERVERS: &str = include_str!("../contenders/servers.conf");

const SERVER_PORTS: [u16; 3] = [6901, 6902, 6903];
/// Below the ports that the system gives to clients, so that no client takes them in between.
const FREE_PORTS: std::ops::Range<u16> = 21_000..30_000;
const START_LIMIT: Duration = Duration::from_secs(15);

/// A contender.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// juggler with its defaults
    Juggler,
    /// juggler with `pipeline = 8`
    JugglerPipeline,
    /// nginx as a proxy, with 2 workers
    Nginx,
    /// HAProxy with 2 threads, without a limit of connections to the servers
    Haproxy,
    /// HAProxy with 2 threads and `maxconn` for each server
    HaproxyMaxconn,
    /// A server itself, without any proxy
    Direct,
}

impl Contender {
    pub(crate) const ALL: [Self; 6] = [
        Self::Juggler,
        Self::JugglerPipeline,
        Self::Nginx,
        Self::Haproxy,
        Self::HaproxyMaxconn,
        Self::Direct,
    ];
    /// The peers. "The better peer" is the one of these with the higher median throughput.
    pub(crate) const PEERS: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::HaproxyMaxconn];

    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Juggler => "juggler",
            Self::JugglerPipeline => "juggler-pipeline",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::HaproxyMaxconn => "haproxy-maxconn",
            Self::Direct => "direct",
        }
    }

    /// The contender's name in tables and charts.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Juggler => "juggler",
            Self::JugglerPipeline => "juggler, pipeline = 8",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::HaproxyMaxconn => "HAProxy, maxconn",
            Self::Direct => "no proxy",
        }
    }

    pub(crate) fn description(self) -> String {
        match self {
            Self::Juggler => "with its defaults (5 connections to each server)".to_owned(),
            Self::JugglerPipeline => format!("with `pipeline = {PIPELINE}`"),
            Self::Nginx => "as a proxy: 2 workers, `keepalive 1024`".to_owned(),
            Self::Haproxy => "2 threads, `http-reuse always`".to_owned(),
            Self::HaproxyMaxconn => {
                format!("the same with `maxconn {HAPROXY_SERVER_MAXCONN}` for each server")
            }
            Self::Direct => "a server itself".to_owned(),
        }
    }
}

/// The places of everything that contenders need.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) juggler: PathBuf,
    pub(crate) test_server: PathBuf,
    pub(crate) servers: [u16; 3],
    pub(crate) status: u16,
    /// How many files a process may have open.
    pub(crate) files: u64,
}

/// A contender that responds.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) contender: Contender,
    pub(crate) http: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    /// `None` for contenders without a process of their own.
    pub(crate) running: Option<Running>,
}

impl Site {
    /// Makes the served files and the certificate, and reserves the servers' ports.
    pub(crate) fn prepare(
        folder: &Path,
        juggler: &Path,
        test_server: &Path,
        files: u64,
    ) -> Outcome<Self> {
        let served = folder.join("files");
        fs::create_dir_all(&served)?;
        for (name, bytes) in FILES {
            let file = File::create(served.join(name))?;
            fill(file, bytes).map_err(about(name))?;
        }
        let made = Command::new(juggler)
            .args(["certificate", "--out"])
            .arg(folder)
            .stdout(Stdio::null())
            .status()
            .map_err(about("juggler certificate"))?;
        if !made.success() {
            return Err(Problem::new("juggler certificate has failed, see above"));
        }
        let both = [
            fs::read(folder.join("server.crt"))?,
            fs::read(folder.join("server.key"))?,
        ]
        .concat();
        fs::write(folder.join("both.pem"), both)?;

        let wanted = SERVER_PORTS.iter().all(|port| is_free(*port));
        let servers = if wanted {
            SERVER_PORTS
        } else {
            let others = [free_port(&[])?, 0, 0];
            let others = [others[0], free_port(&others)?, 0];
            [others[0], others[1], free_port(&others)?]
        };
        if !wanted {
            let [one, two, three] = servers;
            eprintln!(
                "bench: ports 6901 to 6903 are in use, the servers get {one}, {two} and {three}"
            );
        }
        Ok(Self {
            folder: folder.to_owned(),
            juggler: juggler.to_owned(),
            test_server: test_server.to_owned(),
            servers,
            status: free_port(&servers)?,
            files,
        })
    }

    /// Starts the nginx that plays all three servers.
    pub(crate) fn start_servers(&self, interrupt: &Interrupt) -> Outcome<Running> {
        let nginx = child::find("nginx").ok_or_else(|| {
            Problem::new(
                "nginx is not installed, and the servers are nginx: apt-get install nginx-light",
            )
        })?;
        let file = self.write("servers.conf", SERVERS, 0, 0, "")?;
        let mut command = Command::new(nginx);
        command.arg("-c").arg(file);
        let mut running = self.spawn("servers", &mut command)?;
        for port in self.servers {
            self.wait_for(local(port), "servers", &mut running, interrupt)?;
        }
        Ok(running)
    }

    /// Starts a contender and waits until it responds.
    pub(crate) fn start(&self, contender: Contender, interrupt: &Interrupt) -> Outcome<Front> {
        let http = free_port(&self.servers)?;
        let https = free_port(&[http])?;
        let missing = |program: &str| Problem::new(format!("{program} is not installed"));
        let mut command = match contender {
            Contender::Direct => {
                return Ok(Front {
                    contender,
                    http: local(self.servers[0]),
                    https: None,
                    running: None,
                });
            }
            Contender::Juggler | Contender::JugglerPipeline => {
                let pipeline = match contender {
                    Contender::JugglerPipeline => format!("pipeline = {PIPELINE}"),
                    _ => String::new(),
                };
                let file = self.write(
                    &format!("{}.toml", contender.id()),
                    JUGGLER,
                    http,
                    https,
                    &pipeline,
                )?;
                let mut command = Command::new(&self.juggler);
                command.arg("--config").arg(file).env_remove("RUST_LOG");
                command
            }
            Contender::Nginx => {
                let file = self.write("nginx.conf", NGINX, http, https, "")?;
                let mut command =
                    Command::new(child::find("nginx").ok_or_else(|| missing("nginx"))?);
                command.arg("-c").arg(file);
                command
            }
            Contender::Haproxy | Contender::HaproxyMaxconn => {
                let limit = match contender {
                    Contender::HaproxyMaxconn => {
                        format!("default-server maxconn {HAPROXY_SERVER_MAXCONN}")
                    }
                    _ => String::new(),
                };
                let file = self.write(
                    &format!("{}.cfg", contender.id()),
                    HAPROXY,
                    http,
                    https,
                    &limit,
                )?;
                let mut command =
                    Command::new(child::find("haproxy").ok_or_else(|| missing("haproxy"))?);
                command.args(["-db", "-f"]).arg(file);
                command
            }
        };
        let mut running = self.spawn(contender.id(), &mut command)?;
        self.wait_for(local(http), contender.id(), &mut running, interrupt)?;
        Ok(Front {
            contender,
            http: local(http),
            https: Some(local(https)),
            running: Some(running),
        })
    }

    /// Writes a configuration from its template.
    fn write(
        &self,
        name: &str,
        template: &str,
        http: u16,
        https: u16,
        setting: &str,
    ) -> Outcome<PathBuf> {
        let text = |path: &str| self.folder.join(path).display().to_string();
        let user = if nix::unistd::geteuid().is_root() {
            // Only the owner may read the run's folder.
            "user root;"
        } else {
            ""
        };
        let [one, two, three] = self.servers;
        let values = [
            ("user", user.to_owned()),
            ("files", self.files.to_string()),
            ("folder", self.folder.display().to_string()),
            ("connections", (self.files.min(65_536) - 1000).to_string()),
            ("maxconn", haproxy_maxconn(self.files).to_string()),
            ("chain", text("server.crt")),
            ("key", text("server.key")),
            ("pem", text("both.pem")),
            ("http", http.to_string()),
            ("https", https.to_string()),
            ("status", self.status.to_string()),
            ("server_1", one.to_string()),
            ("server_2", two.to_string()),
            ("server_3", three.to_string()),
            ("setting", setting.to_owned()),
        ];
        let file = self.folder.join(name);
        fs::write(&file, fill_in(template, &values)?)?;
        Ok(file)
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Outcome<Running> {
        let log = File::create(self.log(name))?;
        let command = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir(&self.folder);
        Running::start(command)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.out"))
    }

    fn wait_for(
        &self,
        address: SocketAddr,
        name: &str,
        running: &mut Running,
        interrupt: &Interrupt,
    ) -> Outcome<()> {
        let end = Instant::now() + START_LIMIT;
        loop {
            if running.ended().is_some() {
                let said = child::tail(&self.log(name), &self.folder);
                return Err(Problem::new(format!("the program did not start: {said}")));
            }
            if get(address, "/1k.png")
                .is_some_and(|(status, body)| status == 200 && body.len() == 1024)
            {
                return Ok(());
            }
            if Instant::now() > end {
                let said = child::tail(&self.log(name), &self.folder);
                return Err(Problem::new(format!(
                    "the program does not respond: {said}"
                )));
            }
            interrupt.sleep(Duration::from_millis(20))?;
        }
    }

    /// How many connections the servers have accepted so far.
    pub(crate) fn accepted(&self) -> Option<u64> {
        let (_, body) = get(local(self.status), "/status")?;
        accepted_in(&String::from_utf8_lossy(&body))
    }
}

/// The files that the servers serve, and their lengths.
const FILES: [(&str, usize); 6] = [
    ("1k.png", 1 << 10),
    ("100k.bin", 100 << 10),
    ("1m.bin", 1 << 20),
    ("64m.bin", 64 << 20),
    ("post", 1),
    ("answer.txt", 3),
];

fn fill(mut file: File, mut bytes: usize) -> std::io::Result<()> {
    let block = [b'x'; 64 << 10];
    while bytes > 0 {
        let n = bytes.min(block.len());
        file.write_all(&block[..n])?;
        bytes -= n;
    }
    Ok(())
}

/// Each client may need a connection to a server. Idle clients have none, and the whole needs some
/// reserve.
fn haproxy_maxconn(files: u64) -> u64 {
    (files.min(65_536) * 6 / 10).max(100)
}

/// Replaces `{{names}}` by their values.
fn fill_in(template: &str, values: &[(&str, String)]) -> Outcome<String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    match text.split_once("{{") {
        Some((_, rest)) => Err(Problem::new(format!(
            "a template has the unknown name {}",
            rest.split("}}").next().unwrap_or(rest)
        ))),
        None => Ok(text),
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(local(port)).is_ok()
}

fn free_port(taken: &[u16]) -> Outcome<u16> {
    // Starts at a different port each time: several benchmarks may run on one machine.
    let length = FREE_PORTS.end - FREE_PORTS.start;
    let first = u16::try_from(std::process::id() % u32::from(length)).unwrap_or(0);
    (0..length)
        .map(|n| {
            FREE_PORTS.start
                + (u32::from(first) + u32::from(n)).rem_euclid(u32::from(length)) as u16
        })
        .find(|port| !taken.contains(port) && is_free(*port))
        .ok_or_else(|| Problem::new("no port is free"))
}

/// Sends a GET on a connection of its own. Returns status and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<(u16, Vec<u8>)> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_off(end + 4)))
}

/// The first of the three numbers in nginx's status.
fn accepted_in(status: &str) -> Option<u64> {
    let numbers = status
        .lines()
        .skip_while(|line| !line.contains("accepts"))
        .nth(1)?;
    numbers.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_can_be_filled_in() {
        let folder = tempfile::tempdir().unwrap();
        let site = Site {
            folder: folder.path().to_owned(),
            juggler: "juggler".into(),
            test_server: "test_server".into(),
            servers: [1, 2, 3],
            status: 4,
            files: 20_000,
        };
        for template in [JUGGLER, NGINX, HAPROXY, SERVERS] {
            let text = fs::read_to_string(site.write("x", template, 80, 443, "").unwrap()).unwrap();
            assert!(
                !text.contains("{{") && text.contains("127.0.0.1:3"),
                "{text}"
            );
        }
        let pipelined =
            fs::read_to_string(site.write("x", JUGGLER, 80, 443, "pipeline = 8").unwrap()).unwrap();
        assert!(pipelined.contains("\npipeline = 8\n"), "{pipelined}");
    }

    #[test]
    fn an_unknown_name_is_reported() {
        let problem = fill_in("a {{one}} {{two}}", &[("one", "1".to_owned())]).unwrap_err();
        assert!(problem.to_string().contains("two"), "{problem}");
    }

    #[test]
    fn accepted_connections_are_read_from_the_status() {
        let status = "Active connections: 2 \nserver accepts handled requests\n 131 130 1042 \
                      \nReading: 0 Writing: 1 Waiting: 1 \n";
        assert_eq!(accepted_in(status), Some(131));
        assert_eq!(accepted_in("404"), None);
    }
}
