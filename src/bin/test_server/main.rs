//! A web server for testing a balancer in front of it.
//!
//! It serves the files of a folder. Under `/__` it does on request what servers do to balancers: it
//! is slow, breaks off, or lies about lengths. It reports what it *received*, so it shares no code
//! with the balancer. `answers.rs` lists the paths, `stats.rs` says what is counted. With `--hold`
//! it is a client instead, which opens many connections and keeps them.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "a fault here hurts only the test that asked for it"
)]

mod answers;
mod check;
mod connection;
mod files;
mod hold;
mod query;
mod reply;
mod request;
mod server;
mod stats;
mod stream;
mod system;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;

use crate::server::Server;
use crate::stats::Stats;
use crate::stream::Listener;
use crate::system::{named, raise_file_limit};

/// The options of the command line.
#[derive(Debug, Parser)]
#[command(
    name = "test_server",
    about = "A web server for testing balancers",
    version
)]
struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one, which is printed
    #[arg(long, default_value_t = 0, conflicts_with = "listen")]
    port: u16,
    /// Address in place of --port: HOST:PORT, [V6]:PORT or unix:/path
    #[arg(long)]
    listen: Option<String>,
    /// One more address, whose connections are not counted: for reading /__stats
    #[arg(long)]
    observe: Option<String>,
    /// Folder to serve
    #[arg(long)]
    root: Option<PathBuf>,
    /// Name in X-Test-Server; the root's or the port's by default
    #[arg(long)]
    name: Option<String>,
    /// End when standard input does, so as not to outlive the parent process
    #[arg(long)]
    until_eof: bool,
    /// Be a client: hold connections to this address until standard input ends
    #[arg(
        long,
        value_name = "ADDR",
        conflicts_with_all = ["port", "listen", "observe", "root", "name"]
    )]
    hold: Option<String>,
    /// How many connections to hold
    #[arg(long, default_value_t = 1000, requires = "hold")]
    count: usize,
    /// Path to request once on each connection
    #[arg(long, default_value = "/", requires = "hold")]
    path: String,
    /// Hold connections over TLS, with any server certificate
    #[arg(long, requires = "hold")]
    tls: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.hold {
        Some(address) => hold::hold(address, arguments.count, &arguments.path, arguments.tls),
        None => serve(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("test_server: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Arguments) -> io::Result<()> {
    raise_file_limit();
    let address = arguments
        .listen
        .unwrap_or_else(|| format!("127.0.0.1:{}", arguments.port));
    let listener = Listener::bind(&address)?;
    let folder = arguments.root.as_deref().and_then(|root| root.file_name());
    let name = arguments
        .name
        .or_else(|| folder.map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| listener.address());
    let root = arguments
        .root
        .map(|root| root.canonicalize().map_err(|e| named(&root.display(), &e)))
        .transpose()?;
    let server = Arc::new(Server {
        name,
        root,
        stats: Stats::default(),
    });

    let mut lines = format!("listening on {}\n", listener.address());
    if let Some(address) = arguments.observe {
        let observer = Listener::bind(&address)?;
        lines += &format!("observed on {}\n", observer.address());
        let server = Arc::clone(&server);
        thread::Builder::new()
            .name("observe".into())
            .spawn(move || accept(&observer, &server, false))?;
    }
    // One write, so that a reader of the first line has the second one too.
    io::stdout().write_all(lines.as_bytes())?;
    if arguments.until_eof {
        thread::Builder::new()
            .name("accept".into())
            .spawn(move || accept(&listener, &server, true))?;
        io::copy(&mut io::stdin(), &mut io::sink())?;
    } else {
        accept(&listener, &server, true);
    }
    Ok(())
}

/// Accepts without end, with a thread for each connection.
fn accept(listener: &Listener, server: &Arc<Server>, counted: bool) {
    loop {
        let stream = match listener.accept() {
            Ok(stream) => Arc::new(stream),
            Err(problem) => {
                // Most likely there is no free descriptor. Some will become free.
                eprintln!("test_server: accept: {problem}");
                thread::sleep(Duration::from_millis(20));
                continue;
            }
        };
        // Counted here and not in the new thread, so that the count follows the order of arrival.
        let open = counted.then(|| server.stats.connection(&stream));
        let shared = Arc::clone(server);
        let spawned = thread::Builder::new()
            .name("connection".into())
            .stack_size(256 * 1024)
            .spawn(move || connection::serve(&shared, &stream, open));
        if let Err(problem) = spawned {
            if let Some(id) = open {
                server.stats.closed(id);
            }
            eprintln!("test_server: no thread for a connection: {problem}");
        }
    }
}
