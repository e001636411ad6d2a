//! Telling the service manager how far we are (sd_notify(3)).

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager may take so long to read.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends this state if the service manager has asked for it. A failure changes nothing else.
pub(super) fn notify(state: &str) {
    let Ok(name) = env::var("NOTIFY_SOCKET") else {
        return;
    };
    let address = match name.strip_prefix('@') {
        Some(hidden) => SocketAddr::from_abstract_name(hidden),
        None => SocketAddr::from_pathname(&name),
    };
    let send = |address| {
        let socket = UnixDatagram::unbound()?;
        // A service manager that does not read is not waited for long.
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send_to_addr(state.as_bytes(), &address)
    };
    let sent = address.and_then(send);
    if let Err(error) = sent {
        log::debug!("{name}: {error}");
    }
}
