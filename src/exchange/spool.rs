//! Unlinked files for what does not fit into memory: how much of them there may be, and one of
//! them.
//!
//! Requests and responses have shares apart: neither can take the last quarter of the room, which
//! is the other's. Of what others leave of its share a body may have two thirds, so that a few
//! large ones leave room for all the small ones. A disk that is full counts like a limit that is
//! reached.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use parking_lot::Mutex;

use crate::base::descriptors::FILES;

/// A file's beginning is given back in pieces of this size at least.
const FREED_AT_ONCE: u64 = 1 << 20;

/// After a failure of the disk no file grows for so long.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Failures of the disk are told once in so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Whose bytes a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Bodies of requests.
    Requests,
    /// Responses that clients have not taken yet.
    Responses,
}

/// The folder for unlinked files, with a cap on all of them together.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    limit: u64,
    /// By share.
    used: [AtomicU64; 2],
    disk: Mutex<Disk>,
}

/// What is known of the disk.
#[derive(Debug, Default)]
struct Disk {
    /// It failed, and is left alone until then.
    paused_until: Option<Instant>,
    told_at: Option<Instant>,
    /// Failures since it was told.
    untold: u64,
}

impl Spool {
    /// A spool in this folder, `limit` bytes at most.
    pub fn new(folder: PathBuf, limit: u64) -> Arc<Self> {
        Arc::new(Self {
            folder,
            limit,
            used: Default::default(),
            disk: Mutex::default(),
        })
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used_by(Share::Requests)
            .saturating_add(self.used_by(Share::Responses))
    }

    fn used_by(&self, share: Share) -> u64 {
        self.used[share as usize].load(Ordering::Relaxed)
    }

    /// Counts so many bytes more for a file that has `own` of them. Returns whether there is room.
    fn reserve(&self, share: Share, bytes: u64, own: u64) -> bool {
        self.used[share as usize].fetch_add(bytes, Ordering::Relaxed);
        // What others have counted and take back may refuse a byte too many, never let pass one.
        let most = self.limit - self.limit / 4;
        let left_of_share = most.checked_sub(self.used_by(share));
        let left_of_all = self.limit.checked_sub(self.used());
        let fits = match (left_of_share, left_of_all) {
            (Some(share_left), Some(all_left)) => {
                share == Share::Responses
                    || own.saturating_add(bytes) <= share_left.min(all_left).saturating_mul(2)
            }
            _ => false,
        };
        if !fits {
            self.release(share, bytes);
        }
        fits
    }

    /// Returns whether so many bytes more have room now. Others may take it meanwhile.
    pub(super) fn has_room(&self, share: Share, bytes: u64) -> bool {
        let fits = self.reserve(share, bytes, 0);
        if fits {
            self.release(share, bytes);
        }
        fits && !self.is_paused()
    }

    fn release(&self, share: Share, bytes: u64) {
        self.used[share as usize].fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_paused(&self) -> bool {
        let mut disk = self.disk.lock();
        match disk.paused_until {
            Some(until) if until > Instant::now() => true,
            Some(_) => {
                disk.paused_until = None;
                false
            }
            None => false,
        }
    }

    /// The disk has failed: that is told, and then it counts as full for a moment.
    fn note_failure(&self, error: &io::Error) {
        let now = Instant::now();
        let mut disk = self.disk.lock();
        disk.paused_until = now.checked_add(DISK_PAUSE);
        disk.untold = disk.untold.saturating_add(1);
        let is_news = disk
            .told_at
            .is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY);
        if !is_news {
            return;
        }
        disk.told_at = Some(now);
        let times = std::mem::take(&mut disk.untold);
        drop(disk);
        log::warn!(
            "spool: no file in {} can grow: {error} ({times} times). Meanwhile the spool counts \
             as full: large request bodies are refused, and servers wait for slow clients \
             (spool.folder, spool.limit)",
            self.folder.display()
        );
    }
}

/// One unlinked file; its bytes are counted in the spool until it is dropped. One thread writes to
/// it, another may read it meanwhile.
#[derive(Debug)]
#[must_use = "a file that is dropped is gone"]
pub(super) struct SpoolFile {
    file: File,
    share: Share,
    /// Bytes counted.
    counted: AtomicU64,
    /// Bytes of its beginning that are given back.
    freed: AtomicU64,
    spool: Arc<Spool>,
}

impl SpoolFile {
    /// Makes an empty one. Returns `None` if there is no room or the disk fails, which is told.
    pub(super) fn create(spool: &Arc<Spool>, share: Share) -> Option<Self> {
        if spool.limit == 0 || spool.is_paused() {
            return None;
        }
        match FILES.open(|| tempfile::tempfile_in(&spool.folder)) {
            Ok(file) => Some(Self {
                file,
                share,
                counted: AtomicU64::new(0),
                freed: AtomicU64::new(0),
                spool: Arc::clone(spool),
            }),
            Err(error) => {
                spool.note_failure(&error);
                None
            }
        }
    }

    /// Writes at `offset`, which is its end. Returns `false` if there is no room or the disk fails;
    /// then nothing of these bytes counts.
    pub(super) fn append(&self, bytes: &[u8], offset: u64) -> bool {
        let length = bytes.len() as u64;
        let own = self
            .counted
            .load(Ordering::Relaxed)
            .saturating_sub(self.freed.load(Ordering::Relaxed));
        if self.spool.is_paused() || !self.spool.reserve(self.share, length, own) {
            return false;
        }
        match self.file.write_all_at(bytes, offset) {
            Ok(()) => {
                self.counted.fetch_add(length, Ordering::Relaxed);
                true
            }
            Err(error) => {
                self.spool.release(self.share, length);
                self.spool.note_failure(&error);
                false
            }
        }
    }

    pub(super) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(into, offset)
    }

    /// Gives back the room of what lies before `offset`, if it is worth a system call.
    pub(super) fn free_before(&self, offset: u64) {
        let freed = self.freed.load(Ordering::Relaxed);
        let bytes = offset.saturating_sub(freed);
        if bytes < FREED_AT_ONCE {
            return;
        }
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&self.file, hole, freed.cast_signed(), bytes.cast_signed()) {
            Ok(()) => {
                self.freed.store(offset, Ordering::Relaxed);
                self.spool.release(self.share, bytes);
            }
            Err(error) => log::debug!("spool: room cannot be given back early: {error}"),
        }
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        let counted = self.counted.load(Ordering::Relaxed);
        let freed = self.freed.load(Ordering::Relaxed);
        self.spool
            .release(self.share, counted.saturating_sub(freed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn spool(limit: u64) -> Arc<Spool> {
        Spool::new(std::env::temp_dir(), limit)
    }

    /// Fills a new file up to where it may not grow any more. Returns its length too.
    fn fill(spool: &Arc<Spool>, share: Share) -> (Option<SpoolFile>, u64) {
        let Some(file) = SpoolFile::create(spool, share) else {
            return (None, 0);
        };
        let mut length = 0;
        while file.append(&[7; KIB as usize], length) {
            length += KIB;
        }
        (Some(file), length)
    }

    #[test]
    fn neither_share_takes_the_last_quarter() {
        let spool = spool(400 * KIB);
        let responses: Vec<_> = (0..20).map(|_| fill(&spool, Share::Responses).0).collect();
        let used = spool.used();
        assert!((280 * KIB..=300 * KIB).contains(&used), "{used}");
        let (requests, length) = fill(&spool, Share::Requests);
        assert!(
            (66 * KIB..80 * KIB).contains(&length),
            "two thirds of the last quarter: {length}"
        );
        drop((responses, requests));
        assert_eq!(spool.used(), 0);
    }

    #[test]
    fn however_many_bodies_there_are_another_finds_room() {
        let spool = spool(2048 * KIB);
        let mut held = Vec::new();
        let mut lengths = Vec::new();
        for _ in 0..6 {
            let (file, length) = fill(&spool, Share::Requests);
            held.push(file);
            lengths.push(length / KIB);
        }
        assert_eq!(
            lengths[0], 1024,
            "the first may have two thirds of the share"
        );
        assert!(lengths.is_sorted_by(|one, next| one > next), "{lengths:?}");
        assert!(lengths[5] > 0, "{lengths:?}");
    }

    #[test]
    fn what_is_given_back_early_counts_no_more() {
        let spool = spool(8 << 20);
        let file = SpoolFile::create(&spool, Share::Responses).unwrap();
        assert!(file.append(&vec![1; 3 << 20], 0));
        file.free_before(1 << 10);
        assert_eq!(spool.used(), 3 << 20, "too little for a system call");
        file.free_before(2 << 20);
        // Where the file system cannot punch holes nothing is given back early, and nothing is
        // lost.
        let used = spool.used();
        assert!(used == 1 << 20 || used == 3 << 20, "{used}");
        let mut byte = [0];
        assert_eq!(file.read_at(&mut byte, 2 << 20).unwrap(), 1);
        assert_eq!(byte, [1]);
        drop(file);
        assert_eq!(spool.used(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_spool_that_is_full() {
        let spool = Spool::new("/nonexistent/folder".into(), 1 << 20);
        assert!(SpoolFile::create(&spool, Share::Requests).is_none());
        assert!(spool.is_paused());
        assert!(SpoolFile::create(&Spool::new(std::env::temp_dir(), 0), Share::Requests).is_none());
    }
}
