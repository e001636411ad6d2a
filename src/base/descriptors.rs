//! Descriptors in reserve, so that clients cannot take the last one that the program needs.
//!
//! A reserve holds descriptors that lead nowhere. Where the limit of open files is reached, the
//! reserve closes one of them and the caller opens another in its place. The next client is
//! accepted only when the reserves are full again.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;

/// The reserve for connections to servers.
pub static SERVERS: Reserve = Reserve::new();

/// The reserve for files: the access log, the spool, the state.
pub static FILES: Reserve = Reserve::new();

/// Descriptors reserved for one purpose.
#[derive(Debug)]
pub struct Reserve {
    kept: Mutex<Vec<EventFd>>,
    most: AtomicUsize,
    is_short: AtomicBool,
}

impl Reserve {
    const fn new() -> Self {
        Self {
            kept: Mutex::new(Vec::new()),
            most: AtomicUsize::new(0),
            is_short: AtomicBool::new(false),
        }
    }

    /// Sets how many descriptors the reserve holds. Where the process can open fewer, the reserve
    /// keeps half of those, so that some are left to begin with.
    pub fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.kept.lock().truncate(most);
        if !self.refill() {
            let mut kept = self.kept.lock();
            let half = kept.len() / 2;
            kept.truncate(half);
            self.most.store(half, Ordering::Relaxed);
            self.is_short.store(false, Ordering::Relaxed);
        }
    }

    /// Opens a descriptor. Where none is free, the reserve closes one to make room.
    pub fn open<T>(&self, mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match open() {
                // Another thread may have been quicker, so once may not be enough.
                Err(error) if is_at_limit(&error) && self.give() => {}
                outcome => return outcome,
            }
        }
    }

    fn give(&self) -> bool {
        // The lock makes a concurrent refill count the descriptor that is closed here.
        let mut kept = self.kept.lock();
        self.is_short.store(true, Ordering::Relaxed);
        kept.pop().is_some()
    }

    /// Opens descriptors until the reserve is full or the process has no more. Returns whether the
    /// reserve is full.
    fn refill(&self) -> bool {
        let mut kept = self.kept.lock();
        while kept.len() < self.most.load(Ordering::Relaxed) {
            match EventFd::from_flags(EfdFlags::EFD_CLOEXEC) {
                Ok(descriptor) => kept.push(descriptor),
                Err(_) => {
                    self.is_short.store(true, Ordering::Relaxed);
                    return false;
                }
            }
        }
        self.is_short.store(false, Ordering::Relaxed);
        true
    }
}

/// Returns whether clients may take a descriptor, which is when all reserves are full again.
pub fn are_left_for_clients() -> bool {
    [&SERVERS, &FILES]
        .iter()
        .all(|reserve| !reserve.is_short.load(Ordering::Relaxed) || reserve.refill())
}

fn is_at_limit(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_back_makes_room_once_each() {
        let reserve = Reserve::new();
        reserve.resize(2);
        let mut tries = 0;
        let opened = reserve.open(|| {
            tries += 1;
            match tries {
                ..3 => Err(io::Error::from_raw_os_error(libc::EMFILE)),
                _ => Ok(tries),
            }
        });
        assert_eq!((opened.unwrap(), reserve.kept.lock().len()), (3, 0));
        let full = reserve.open(|| Err::<(), _>(io::Error::from_raw_os_error(libc::EMFILE)));
        assert_eq!(full.unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert!(reserve.is_short.load(Ordering::Relaxed) && reserve.refill());
        assert_eq!(reserve.kept.lock().len(), 2);
        // Another error closes none.
        let refused =
            reserve.open(|| Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused)));
        assert!(refused.is_err() && reserve.kept.lock().len() == 2);
    }
}
