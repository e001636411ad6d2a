//! Listening sockets: both families on one port, a configured backlog, inherited sockets.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Group, User};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::plan::{BindAddress, SocketFile};

use super::Stream;

/// How long one `accept()` waits, so that spare threads notice that they are not needed.
const TICK: Duration = Duration::from_secs(4);

/// The same for an inherited socket. It cannot be shut down, because other processes have it too,
/// so its threads have to check more often.
const INHERITED_TICK: Duration = Duration::from_millis(500);

/// A listening socket.
#[derive(Debug)]
pub struct Acceptor {
    socket: Inner,
    /// The socket came from the service manager, which keeps it when this process ends.
    inherited: bool,
    /// The path and inode of the socket file made here. It is removed at the end unless another
    /// process has replaced it.
    made: Option<(PathBuf, u64)>,
}

#[derive(Debug)]
enum Inner {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// Binds and listens. A socket file made here has the owner and mode of `file` before a client
    /// can connect.
    pub fn bind(address: &BindAddress, backlog: i32, file: &SocketFile) -> io::Result<Self> {
        match address {
            BindAddress::Tcp(address) => {
                let domain = if address.is_ipv6() {
                    Domain::IPV6
                } else {
                    Domain::IPV4
                };
                let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
                if address.is_ipv6() {
                    socket.set_only_v6(true)?;
                }
                socket.set_reuse_address(true)?;
                socket.bind(&SockAddr::from(*address))?;
                // Accepted sockets inherit the option, which saves a system call for each.
                socket.set_tcp_nodelay(true)?;
                socket.listen(backlog)?;
                socket.set_read_timeout(Some(TICK))?;
                Ok(Self {
                    socket: Inner::Tcp(socket.into()),
                    inherited: false,
                    made: None,
                })
            }
            BindAddress::Unix { path } => {
                remove_dead_socket(path)?;
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.bind(&SockAddr::unix(path)?)?;
                // Until the socket listens, every connect is refused.
                let prepared = set_file(path, file)
                    .and_then(|()| socket.listen(backlog))
                    .and_then(|()| socket.set_read_timeout(Some(TICK)))
                    .and_then(|()| Ok(fs::symlink_metadata(path)?.ino()));
                let inode = prepared.inspect_err(|_| {
                    let _ = fs::remove_file(path); // the first error is the one that matters
                })?;
                let made = Some((path.clone(), inode));
                Ok(Self {
                    socket: Inner::Unix(socket.into()),
                    inherited: false,
                    made,
                })
            }
        }
    }

    /// Returns the next connection, or [`io::ErrorKind::WouldBlock`] if none came for a few
    /// seconds.
    pub fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match &self.socket {
            Inner::Tcp(listener) => listener
                .accept()
                .map(|(stream, peer)| (Stream::Tcp(stream), Some(unmapped(peer)))),
            Inner::Unix(listener) => listener
                .accept()
                .map(|(stream, _)| (Stream::Unix(stream), None)),
        }
    }

    /// Makes every `accept()` that begins from now on return at once.
    pub fn stop_waiting(&self) -> io::Result<()> {
        match &self.socket {
            Inner::Tcp(listener) => listener.set_nonblocking(true),
            Inner::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    /// Wakes all threads that are blocked in `accept()`; none accepts any more. Connections that
    /// are still in the backlog are reset, so the caller empties the backlog before.
    pub fn close(&self) {
        if !self.inherited {
            let _ = SockRef::from(self).shutdown(Shutdown::Both); // fails if closed already
        }
        if let Some((path, inode)) = &self.made
            && fs::symlink_metadata(path).is_ok_and(|found| found.ino() == *inode)
        {
            let _ = fs::remove_file(path); // fails if the file is gone already
        }
    }

    /// Sets owner, group and mode of the socket's file to `file`, if it was made here and still
    /// exists.
    pub fn set_file(&self, file: &SocketFile) -> io::Result<()> {
        match &self.made {
            Some((path, inode))
                if fs::symlink_metadata(path).is_ok_and(|found| found.ino() == *inode) =>
            {
                set_file(path, file)
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the socket came from the service manager.
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Returns where the socket listens, as text for logs.
    pub fn local_name(&self) -> String {
        match &self.socket {
            Inner::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|error| error.to_string(), |address| address.to_string()),
            Inner::Unix(listener) => listener
                .local_addr()
                .ok()
                .and_then(|address| {
                    address
                        .as_pathname()
                        .map(|path| format!("unix:{}", path.display()))
                })
                .unwrap_or_else(|| "unix:".to_owned()),
        }
    }

    /// Returns whether this socket is what `address` asks for. An inherited IPv6 socket may accept
    /// IPv4 as well.
    pub fn serves(&self, address: &BindAddress) -> bool {
        match (&self.socket, address) {
            (Inner::Tcp(listener), BindAddress::Tcp(wanted)) => {
                listener.local_addr().is_ok_and(|found| {
                    let is_all_of_both = || {
                        found.ip() == Ipv6Addr::UNSPECIFIED
                            && SockRef::from(self).only_v6().is_ok_and(|only_v6| !only_v6)
                    };
                    found == *wanted
                        || wanted.ip() == Ipv4Addr::UNSPECIFIED
                            && wanted.port() == found.port()
                            && is_all_of_both()
                })
            }
            (Inner::Unix(listener), BindAddress::Unix { path }) => listener
                .local_addr()
                .is_ok_and(|found| found.as_pathname() == Some(path)),
            _ => false,
        }
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Inner::Tcp(listener) => listener.as_fd(),
            Inner::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Returns the sockets that a service manager handed over (`LISTEN_FDS`, sd_listen_fds(3)). They
/// are known by their numbers alone, so call this once, before the process opens anything.
pub fn inherited() -> Vec<Acceptor> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<i32>().ok())
    };
    let for_us =
        number("LISTEN_PID").is_some_and(|pid| i64::from(pid) == i64::from(std::process::id()));
    let count = if for_us {
        number("LISTEN_FDS").unwrap_or(0)
    } else {
        0
    };
    (3..3 + count.clamp(0, 64)).filter_map(adopt).collect()
}

fn adopt(fd: i32) -> Option<Acceptor> {
    let socket = Socket::from(crate::sys::adopt_descriptor(fd)?);
    let is_tcp = match socket.local_addr().ok()?.domain() {
        Domain::IPV4 | Domain::IPV6 => true,
        Domain::UNIX => false,
        _ => return None,
    };
    if socket.r#type().ok()? != Type::STREAM || !socket.is_listener().ok()? {
        return None;
    }
    socket.set_cloexec(true).ok()?;
    socket.set_nonblocking(false).ok()?;
    socket.set_read_timeout(Some(INHERITED_TICK)).ok()?;
    let socket = if is_tcp {
        let _ = socket.set_tcp_nodelay(true); // without the option it is only slower
        Inner::Tcp(socket.into())
    } else {
        Inner::Unix(socket.into())
    };
    Some(Acceptor {
        socket,
        inherited: true,
        made: None,
    })
}

/// Gives a socket file its owner, group and permissions. Permissions come last, so that wider ones
/// never apply to a wrong owner or group.
fn set_file(path: &Path, file: &SocketFile) -> io::Result<()> {
    let told = |what: String| {
        move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
    };
    let unknown = |what: String| io::Error::new(io::ErrorKind::NotFound, what);
    let user = match &file.owner {
        None => None,
        Some(name) => Some(
            User::from_name(name)?
                .ok_or_else(|| unknown(format!("owner: no user {name}")))?
                .uid
                .as_raw(),
        ),
    };
    let group = match &file.group {
        None => None,
        Some(name) => Some(
            Group::from_name(name)?
                .ok_or_else(|| unknown(format!("group: no group {name}")))?
                .gid
                .as_raw(),
        ),
    };
    let found = fs::symlink_metadata(path)?;
    let other = |wanted: Option<u32>, is: u32| wanted.filter(|wanted| *wanted != is);
    let (user, group) = (other(user, found.uid()), other(group, found.gid()));
    if user.is_some() || group.is_some() {
        chown(path, user, group).map_err(told(format!(
            "the owner and group cannot be set to {}:{}",
            file.owner.as_deref().unwrap_or_default(),
            file.group.as_deref().unwrap_or_default()
        )))?;
    }
    if found.mode() & 0o7777 != file.mode || user.is_some() || group.is_some() {
        fs::set_permissions(path, fs::Permissions::from_mode(file.mode))
            .map_err(told(format!("the mode cannot be set to {:04o}", file.mode)))?;
    }
    Ok(())
}

/// Removes a socket file without a listener, because the file would prevent binding. A file with a
/// listener belongs to another process and is an error.
fn remove_dead_socket(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "another file than a socket has this path",
        ));
    }
    // A listener that is too busy (EAGAIN) or not for us (EACCES) is alive as well, so the check
    // does not wait for it.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::from(io::ErrorKind::AddrInUse)),
    }
}

/// Makes `::ffff:192.0.2.1` a client of IPv4.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
