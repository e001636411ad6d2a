//! Lines on their way to a log. They wait in a queue that is bounded in bytes, and a thread of the
//! sink's own writes them. So the thread that pushes a line never waits, however slow the disk or
//! the reader of the pipe is. Lines without room are dropped, lines that cannot be written have
//! failed, and both are counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::{Condvar, Mutex};

use crate::base::descriptors::FILES;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::threads::{self, Kind};

/// The size of a chunk of lines in bytes. A longer line has a chunk of its own.
const CHUNK: usize = 16 * 1024;

/// How often the writer checks whether to reopen its file.
const LOOK: Duration = Duration::from_secs(1);

/// How long the writer gathers lines after the first one.
const GATHER: Duration = Duration::from_millis(5);

/// Other processes may write to the same pipe. Up to this many bytes go into a pipe in one piece
/// (`PIPE_BUF`, pipe(7)).
const WHOLE: usize = 4096;

/// A log.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Shared>);

/// Lines that are missing in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Lines for which the queue had no room.
    pub dropped: u64,
    /// Lines that could not be written.
    pub failed: u64,
}

impl Lost {
    /// Returns the sum of both.
    pub fn all(self) -> u64 {
        self.dropped.saturating_add(self.failed)
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Signals a line in an empty queue.
    filled: Condvar,
    /// Signals that everything is written and the writer ends.
    ended: Condvar,
    /// The most bytes in the queue and with the writer.
    limit: usize,
    dropped: AtomicU64,
    failed: AtomicU64,
    /// Lines that the writer is writing.
    in_hand: AtomicU64,
    /// How long the writer gathers lines.
    gather: Duration,
    /// The last reason why lines could not be written.
    error: Mutex<Option<String>>,
    reopen: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Vec<u8>>,
    /// An empty chunk for the next lines.
    spare: Option<Vec<u8>>,
    /// Bytes of all chunks, including the one that the writer is writing.
    held: usize,
    /// The writer waits for a line.
    waiting: bool,
    /// The writer has a line and waits for more.
    gathering: bool,
    closing: bool,
    ended: bool,
}

impl Sink {
    /// Starts a log with room for `limit` bytes of waiting lines, and the thread `name` that writes
    /// them to `target`.
    pub fn start(name: &str, limit: usize, target: Target) -> io::Result<Self> {
        Self::start_gathering(name, limit, GATHER, target)
    }

    fn start_gathering(
        name: &str,
        limit: usize,
        gather: Duration,
        mut target: Target,
    ) -> io::Result<Self> {
        let sink = Self::new(limit, gather);
        let shared = Arc::clone(&sink.0);
        let mut has_begun = false;
        threads::tend(Kind::Log, name.to_owned(), move || {
            // A panic loses only the lines that were being written.
            if std::mem::replace(&mut has_begun, true) {
                shared.recover();
            }
            shared.write_all(&mut target);
        })?;
        Ok(sink)
    }

    fn new(limit: usize, gather: Duration) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            ended: Condvar::new(),
            limit,
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            in_hand: AtomicU64::new(0),
            gather,
            error: Mutex::new(None),
            reopen: AtomicBool::new(false),
        }))
    }

    /// Queues one line, with its line end. Returns `false` if there is no room: the line is then
    /// dropped and counted.
    pub fn push(&self, line: &[u8]) -> bool {
        let mut queue = self.0.queue.lock();
        if !queue.put(line, self.0.limit) {
            drop(queue);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let is_full_soon = queue.gathering && queue.is_past_half(self.0.limit);
        queue.gathering &= !is_full_soon;
        let is_awaited = std::mem::take(&mut queue.waiting) || is_full_soon;
        drop(queue);
        if is_awaited {
            self.0.filled.notify_one();
        }
        true
    }

    /// Returns whether there is room for a line of `bytes` bytes now.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.0.queue.lock().has_room(bytes, self.0.limit)
    }

    /// Returns how many lines are missing in the log since the start.
    pub fn lost(&self) -> Lost {
        Lost {
            dropped: self.0.dropped.load(Ordering::Relaxed),
            failed: self.0.failed.load(Ordering::Relaxed),
        }
    }

    /// Returns the last reason why lines could not be written.
    pub fn error(&self) -> Option<String> {
        self.0.error.lock().clone()
    }

    /// Reopens the file before the next line (after a rotation).
    pub fn reopen(&self) {
        self.0.reopen.store(true, Ordering::Relaxed);
    }

    /// Writes the waiting lines and ends the thread. Waits for that no longer than `patience`.
    pub fn close(&self, patience: Duration) {
        let until = after(Instant::now(), patience);
        let mut queue = self.0.queue.lock();
        queue.closing = true;
        queue.waiting = false;
        self.0.filled.notify_one();
        while !queue.ended {
            if self.0.ended.wait_until(&mut queue, until).timed_out() {
                return;
            }
        }
    }
}

impl Queue {
    fn fits_last(&self, bytes: usize) -> bool {
        self.chunks
            .back()
            .is_some_and(|last| last.capacity() - last.len() >= bytes)
    }

    /// Returns whether the writer has to begin so that the queue does not fill up before.
    fn is_past_half(&self, limit: usize) -> bool {
        self.held > limit / 2
    }

    fn has_room(&self, bytes: usize, limit: usize) -> bool {
        self.fits_last(bytes) || self.held.saturating_add(bytes.max(CHUNK)) <= limit
    }

    fn put(&mut self, line: &[u8], limit: usize) -> bool {
        if !self.has_room(line.len(), limit) {
            return false;
        }
        if !self.fits_last(line.len()) {
            let chunk = match self.spare.take() {
                Some(spare) if spare.capacity() >= line.len() => spare,
                _ => Vec::with_capacity(line.len().max(CHUNK)),
            };
            self.held += chunk.capacity();
            self.chunks.push_back(chunk);
        }
        if let Some(last) = self.chunks.back_mut() {
            last.extend_from_slice(line);
        }
        true
    }
}

impl Shared {
    /// The writer's thread.
    fn write_all(&self, target: &mut Target) {
        loop {
            Point::LogWrite.pass();
            let chunk = self.next();
            self.in_hand
                .store(chunk.as_deref().map_or(0, count), Ordering::Relaxed);
            #[cfg(test)]
            assert!(
                chunk.as_deref() != Some(b"panic\n"),
                "a test asked for a panic"
            );
            if self.reopen.swap(false, Ordering::Relaxed)
                && let Err(error) = target.reopen()
            {
                log::error!("access log: cannot reopen the file, keeping the old one: {error}");
            }
            let Some(chunk) = chunk else {
                let mut queue = self.queue.lock();
                if queue.closing && queue.chunks.is_empty() {
                    queue.ended = true;
                    self.ended.notify_all();
                    return;
                }
                continue;
            };
            if let Err((lines, error)) = target.write_lines(&chunk) {
                self.failed.fetch_add(lines, Ordering::Relaxed);
                *self.error.lock() = Some(error.to_string());
            }
            self.in_hand.store(0, Ordering::Relaxed);
            self.give_back(chunk);
        }
    }

    /// Returns the next chunk to write, or `None` if none has come for a while, or the log is
    /// closing and the queue is empty.
    fn next(&self) -> Option<Vec<u8>> {
        let mut queue = self.queue.lock();
        if queue.chunks.is_empty() && !queue.closing {
            queue.waiting = true;
            self.filled.wait_for(&mut queue, LOOK);
            queue.waiting = false;
            // A wake-up costs the pushing thread a system call, so there is one for all lines of a
            // while.
            if !queue.chunks.is_empty() && !queue.closing && !queue.is_past_half(self.limit) {
                queue.gathering = true;
                self.filled.wait_for(&mut queue, self.gather);
                queue.gathering = false;
            }
        }
        queue.chunks.pop_front()
    }

    /// Cleans up after a panic: the lines that were being written count as failed. Their beginning
    /// may have been written.
    fn recover(&self) {
        let lost = self.in_hand.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.failed.fetch_add(lost, Ordering::Relaxed);
            *self.error.lock() = Some("the writer panicked".to_owned());
        }
        let mut queue = self.queue.lock();
        queue.held = queue.chunks.iter().map(Vec::capacity).sum();
    }

    fn give_back(&self, mut chunk: Vec<u8>) {
        let mut queue = self.queue.lock();
        queue.held -= chunk.capacity();
        if chunk.capacity() <= CHUNK {
            chunk.clear();
            queue.spare = Some(chunk);
        }
    }
}

/// What lines are written to.
#[derive(Debug)]
pub struct Target {
    file: File,
    path: Option<PathBuf>,
    is_file: bool,
    /// The rest of a line whose beginning is written.
    rest: Vec<u8>,
}

impl Target {
    /// Appends to the file at this path, which is made if it does not exist.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self {
            is_file: is_file(&file),
            file,
            path: Some(path.to_owned()),
            rest: unfinished(path),
        })
    }

    /// Writes to standard output or standard error.
    pub fn stream(stream: &impl AsFd) -> io::Result<Self> {
        let file = File::from(stream.as_fd().try_clone_to_owned()?);
        Ok(Self {
            is_file: is_file(&file),
            file,
            path: None,
            rest: Vec::new(),
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        let Some(path) = self.path.clone() else {
            return Ok(());
        };
        let file = open(&path)?;
        let rest = std::mem::take(&mut self.rest);
        // The last chance to complete a line in the old file.
        let _ = self.put(&rest);
        self.is_file = is_file(&file);
        self.file = file;
        self.rest = unfinished(&path);
        Ok(())
    }

    /// Writes whole lines. On an error, returns how many lines are not written, and why. A line of
    /// which only the beginning could be written is cut off again. Where that is not possible, the
    /// next write begins with its rest.
    fn write_lines(&mut self, lines: &[u8]) -> Result<(), (u64, io::Error)> {
        let rest = std::mem::take(&mut self.rest);
        if let Err((written, error)) = self.put(&rest) {
            self.rest = rest[written..].to_vec();
            return Err((count(lines), error));
        }
        let mut left = lines;
        while !left.is_empty() {
            let piece = &left[..if self.is_file {
                left.len()
            } else {
                whole_lines(left)
            }];
            if let Err((written, error)) = self.put(piece) {
                let (written, unwritten) = left.split_at(written);
                let begun = written
                    .rsplit(|byte| *byte == b'\n')
                    .next()
                    .unwrap_or_default()
                    .len();
                if begun == 0 || self.cut(begun) {
                    return Err((count(unwritten), error));
                }
                let end = memchr::memchr(b'\n', unwritten).map_or(unwritten.len(), |end| end + 1);
                self.rest = unwritten[..end].to_vec();
                return Err((count(unwritten).saturating_sub(1), error));
            }
            left = &left[piece.len()..];
        }
        Ok(())
    }

    /// Writes all bytes, however long that takes. On an error, returns how many were written.
    fn put(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Pipes are opened nonblocking here, and another process may have set an inherited
                // one so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut entry = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
                    // The next write shows the outcome.
                    let _ = poll(
                        &mut entry,
                        PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX),
                    );
                }
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    /// Cuts off the last `bytes` bytes, if they are the last ones of a file. Returns whether it
    /// did.
    fn cut(&mut self, bytes: usize) -> bool {
        let (true, Ok(at)) = (self.is_file, self.file.stream_position()) else {
            return false;
        };
        let Some(start) = at.checked_sub(bytes as u64) else {
            return false;
        };
        self.file.metadata().is_ok_and(|file| file.len() == at)
            && self.file.set_len(start).is_ok()
            && self.file.seek(SeekFrom::Start(start)).is_ok()
    }
}

/// Opens a file to append to. A pipe without a reader is an error at once.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options
        .create(true)
        .append(true)
        .custom_flags(libc::O_NONBLOCK);
    FILES.open(|| options.open(path))
}

fn is_file(file: &File) -> bool {
    file.metadata().is_ok_and(|file| file.is_file())
}

/// Returns what to write first so that the file's next line begins as a line: the last writer may
/// have been killed within a line.
fn unfinished(path: &Path) -> Vec<u8> {
    let ends_within_a_line = || -> io::Result<bool> {
        let mut last = [b'\n'];
        if std::fs::metadata(path)?.is_file() {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(last != *b"\n")
    };
    // An empty file has no last byte, and a file that cannot be read is taken as complete.
    if ends_within_a_line().unwrap_or(false) {
        b"\n".to_vec()
    } else {
        Vec::new()
    }
}

/// Returns how many bytes of whole lines can be written in one piece. A longer line is a piece of
/// its own.
fn whole_lines(lines: &[u8]) -> usize {
    let part = &lines[..lines.len().min(WHOLE)];
    let end = memchr::memrchr(b'\n', part).or_else(|| memchr::memchr(b'\n', lines));
    end.map_or(lines.len(), |end| end + 1)
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

#[cfg(test)]
mod tests {
    use std::io::PipeReader;

    use proptest::prelude::*;

    use super::*;

    fn pipe() -> (PipeReader, Target) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, Target::stream(&writer).unwrap())
    }

    #[test]
    fn lines_arrive_in_order_and_the_end_waits_for_them() {
        let (mut reader, target) = pipe();
        let sink = Sink::start("log", 1 << 20, target).unwrap();
        let all: String = (0..9000).map(|number| format!("line {number}\n")).collect();
        let read = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut read = String::new();
                reader.read_to_string(&mut read).unwrap();
                read
            });
            for line in all.split_inclusive('\n') {
                assert!(sink.push(line.as_bytes()));
            }
            sink.close(Duration::from_secs(20));
            reading.join().unwrap()
        });
        assert_eq!(read, all);
        assert_eq!(sink.lost(), Lost::default());
    }

    #[test]
    fn nobody_waits_for_a_reader_and_memory_is_bounded() {
        let (reader, target) = pipe();
        let sink = Sink::start("log", 8 * CHUNK, target).unwrap();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let began = Instant::now();
        let taken = (0..10_000).filter(|_| sink.push(&line)).count();
        assert!(sink.0.queue.lock().held <= 8 * CHUNK);
        assert!((16..1000).contains(&taken), "{taken}");
        assert_eq!(sink.lost().dropped, 10_000 - taken as u64);
        assert!(!sink.push(&[b'y'; 9 * CHUNK]), "it never fits");
        sink.close(Duration::from_millis(50));
        assert!(began.elapsed() < Duration::from_secs(10));
        drop(reader);
    }

    #[test]
    fn a_pipe_that_another_process_has_set_to_be_non_blocking_is_waited_for() {
        let (mut reader, target) = pipe();
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&target.file, flags).unwrap();
        let sink = Sink::start("log", 1 << 20, target).unwrap();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..500 {
            assert!(sink.push(&line));
        }
        let mut read = vec![0; 500_000];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(read, line.repeat(500));
        assert_eq!(sink.lost(), Lost::default());
    }

    #[test]
    fn a_panic_of_the_writer_costs_only_what_it_had_in_hand() {
        let (mut reader, target) = pipe();
        let sink = Sink::start("log", 4 * CHUNK, target).unwrap();
        for _ in 0..20 {
            assert!(sink.push(b"panic\n"), "its room is given back");
            let began = Instant::now();
            while sink.0.queue.lock().held > 0 {
                assert!(began.elapsed() < Duration::from_secs(20));
                std::thread::yield_now();
            }
        }
        assert!(sink.push(b"line\n"));
        sink.close(Duration::from_secs(20));
        let lost = Lost {
            dropped: 0,
            failed: 20,
        };
        assert_eq!(sink.lost(), lost);
        assert_eq!(sink.error().as_deref(), Some("the writer panicked"));
        drop(sink);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "line\n");
    }

    #[test]
    fn a_queue_that_fills_up_wakes_a_writer_that_gathers() {
        let (reader, target) = pipe();
        let sink =
            Sink::start_gathering("log", 4 * CHUNK, Duration::from_secs(600), target).unwrap();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..3 * CHUNK / 1000 {
            assert!(sink.push(&line));
        }
        let began = Instant::now();
        while sink.0.queue.lock().held >= 3 * CHUNK {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "it gathers still"
            );
            std::thread::yield_now();
        }
        sink.close(Duration::from_secs(20));
        assert_eq!(sink.lost(), Lost::default());
        drop(reader);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let sink = Sink::start("log", 1 << 20, Target::stream(&full).unwrap()).unwrap();
        for _ in 0..500 {
            assert!(sink.push(b"line\n"));
        }
        sink.close(Duration::from_secs(20));
        assert_eq!(
            sink.lost(),
            Lost {
                dropped: 0,
                failed: 500
            }
        );
        assert!(sink.error().unwrap().contains("No space left"));
    }

    #[test]
    fn a_line_that_was_begun_is_cut_off_or_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut target = Target::file(&path).unwrap();
        target.write_lines(b"first\n").unwrap();
        target.put(b"half a li").unwrap();
        assert!(target.cut(9));
        target.write_lines(b"second\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first\nsecond\n");
        // Another process has written behind it.
        target.put(b"half").unwrap();
        std::fs::write(&path, "other\n").unwrap();
        assert!(!target.cut(4));
        target.rest = b"a line\n".to_vec();
        target.write_lines(b"third\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "other\na line\nthird\n"
        );
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_gone_on_with_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for (there, expected) in [
            ("", "x\n"),
            ("whole\n", "whole\nx\n"),
            ("half", "half\nx\n"),
        ] {
            std::fs::write(&path, there).unwrap();
            Target::file(&path).unwrap().write_lines(b"x\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Target::file(&path).is_err());
    }

    proptest! {
        #[test]
        fn pieces_are_whole_lines(lengths in prop::collection::vec(0usize..6000, 1..9)) {
            let line = |&length: &usize| [&vec![b'x'; length][..], b"\n"].concat();
            let lines: Vec<u8> = lengths.iter().flat_map(line).collect();
            let end = whole_lines(&lines);
            prop_assert!(end > 0 && lines[end - 1] == b'\n');
            prop_assert!(end <= WHOLE || count(&lines[..end]) == 1);
        }
    }
}
