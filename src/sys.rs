//! The only file with `unsafe`: system calls without a safe wrapper.
#![allow(unsafe_code, reason = "see each function")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes over a descriptor that was inherited by number (`LISTEN_FDS`). Returns `None` if it is not
/// open.
///
/// Call this once for each number, before anything else in the process owns it.
pub fn adopt_descriptor(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: borrowed for one call only, which asks whether the number is an open descriptor.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_GETFD).ok()?;
    // SAFETY: the descriptor is open, and by the contract above nothing else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts the calling thread into `SCHED_BATCH`: when woken, it does not preempt the thread that woke
/// it. This needs no privilege.
pub fn schedule_as_batch() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the structure outlives the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Returns the number of bytes that a stream socket has taken and its other side has not
/// (`SIOCOUTQ`), or `None` if the system does not tell.
pub fn queued(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as it is borrowed, and the call writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    (result == 0).then_some(u64::try_from(bytes).unwrap_or(0))
}
