//! The only file with `unsafe`: what the system offers by number alone.
#![allow(unsafe_code, reason = "see each function")]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Takes over a descriptor that was inherited by number (`LISTEN_FDS`); `None` if it is not open.
///
/// To be called once for each number, before anything else in the process owns it.
pub fn adopt_descriptor(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: borrowed for one call only, to ask whether the number is an open descriptor at all.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_GETFD).ok()?;
    // SAFETY: it is open, and by the caller's promise nothing else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts the calling thread into `SCHED_BATCH`: when it is woken it does not preempt the thread that woke it. Needs no privilege.
///
/// `slice` is how long it runs at a stretch when others want to run too: who asks for little is chosen earlier. Linux heeds it
/// from 6.12 on (100 µs to 100 ms), and takes no notice of it before.
pub fn schedule_as_batch(slice: Duration) -> io::Result<()> {
    /// `struct sched_attr` of `sched_setattr(2)`, in its first size.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    // SAFETY: 0 is the calling process, and nothing is passed by reference.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_BATCH as u32,
        flags: 0,
        nice,
        priority: 0,
        runtime: u64::try_from(slice.as_nanos()).unwrap_or(0),
        deadline: 0,
        period: 0,
    };
    // SAFETY: 0 is the calling thread, and the structure has the size that it says and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
