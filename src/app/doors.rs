//! The doors of a plan: addresses that are bound, or that the service manager has bound.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::exchange::OpenListener;
use crate::net::listen::Acceptor;
use crate::net::tls::ServerTls;
use crate::plan::{BindAddress, Listener, Plan};
use crate::session::Door;

/// Binds everything, or takes over what the service manager has bound. The sockets that no listener
/// asks for are kept: the next configuration may ask for them.
pub(super) fn doors(
    plan: &Plan,
    mut inherited: Vec<Acceptor>,
) -> Result<(Vec<Arc<Door>>, Vec<Acceptor>), String> {
    let mut doors = Vec::new();
    for listener in &plan.listeners {
        let tls = match &listener.tls {
            Some(settings) => Some(
                ServerTls::read(settings, None)
                    .map_err(|error| format!("listener {}: {error}", listener.name))?,
            ),
            None => None,
        };
        let open = OpenListener::new(listener, Arc::default());
        for address in &listener.bind {
            // One socket that was handed over may be for both families.
            let is_served = |door: &Arc<Door>| {
                door.listener().name == listener.name && door.acceptor().serves(address)
            };
            if doors.iter().any(is_served) {
                continue;
            }
            let handed_over = inherited
                .iter()
                .position(|acceptor| acceptor.serves(address));
            let acceptor = match handed_over {
                Some(index) => inherited.swap_remove(index),
                None => match bind(listener, address) {
                    Ok(acceptor) => acceptor,
                    Err((error, _)) if is_dispensable(address, listener, &error) => {
                        log::info!("listener {}: no IPv6 here", listener.name);
                        continue;
                    }
                    Err((_, problem)) => return Err(problem),
                },
            };
            let (open, tls) = (Arc::clone(&open), tls.clone());
            let door = Door::new(acceptor, address.clone(), open, tls);
            doors.push(Arc::new(door));
        }
    }
    for acceptor in &inherited {
        log::warn!(
            "the service manager handed over {}, which no listener asks for",
            acceptor.local_name()
        );
    }
    Ok((doors, inherited))
}

/// Binds `address`. The problem comes with its text for the log.
pub(super) fn bind(
    listener: &Listener,
    address: &BindAddress,
) -> Result<Acceptor, (io::Error, String)> {
    Acceptor::bind(address, listener.backlog, &listener.socket).map_err(|error| {
        let problem = format!(
            "listener {}: {}",
            listener.name,
            explain_bind(address, &error)
        );
        (error, problem)
    })
}

/// Returns whether `*:80` can do without this address: the half for IPv6, where the system has
/// none.
pub(super) fn is_dispensable(
    address: &BindAddress,
    listener: &Listener,
    error: &io::Error,
) -> bool {
    let BindAddress::Tcp(address) = address else {
        return false;
    };
    let other = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
        && address.ip() == Ipv6Addr::UNSPECIFIED
        && listener.bind.contains(&BindAddress::Tcp(other))
}

fn explain_bind(address: &BindAddress, error: &io::Error) -> String {
    let place = match address {
        BindAddress::Tcp(address) => address.to_string(),
        BindAddress::Unix { path } => format!("unix:{}", path.display()),
    };
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there (`ss -lp` tells which)",
        io::ErrorKind::PermissionDenied if matches!(address, BindAddress::Unix { .. }) => {
            "; its folder must be writable, and only root may give a file to somebody else"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE: try sudo, or a higher port"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    };
    format!("cannot listen on {place}: {error}{hint}")
}
