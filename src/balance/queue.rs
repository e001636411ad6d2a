//! Jobs that wait. Each bucket has a queue. In it, retries go first, and then clients take turns.
//!
//! Not every worker may take every job, so a bucket's queue has several parts:
//!
//! * *lanes* of jobs that go before all others: for each server a lane of jobs that avoid it and a
//!   lane of those bound to it, and one lane for jobs that any worker may take. Lanes are ordered
//!   by number. A heap of the first jobs of the open lanes finds the oldest one that does not avoid
//!   a certain server, without looking at the jobs in between, even when half the queue avoids it;
//! * *rounds* of clients, each client with its own line: one round of jobs that any worker may
//!   take, and one for each server of jobs bound to it (early binding only). The first client's
//!   first job is next, and that client goes to the end of the round.
//!
//! All waiting jobs lie in one place in memory, with one heap of deadlines and one table of
//! numbers.

#[cfg(test)]
mod check;

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::time::Instant;

use super::heap::IndexedHeap;
use super::{BucketId, ServerId, Ticket};

/// Nothing.
const NONE: u32 = u32::MAX;

/// The lane of jobs that any worker may take.
const ANY: u32 = 0;

/// The place in memory of a waiting job, valid until the job is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(u32);

/// A job that waits.
#[derive(Debug)]
pub(super) struct Waiting<J> {
    pub(super) job: J,
    pub(super) ticket: Ticket,
    /// Only this server may take it.
    pub(super) bound: Option<ServerId>,
    /// It counts against the retry budget.
    pub(super) retry: bool,
}

impl<J> Waiting<J> {
    /// Returns whether every server may take the job.
    pub(super) fn is_open(&self) -> bool {
        self.bound.is_none() && self.ticket.avoid.is_none()
    }

    /// Returns when the job is refused if it still waits.
    pub(super) fn gives_up(&self) -> Instant {
        self.ticket.gives_up()
    }
}

/// Which jobs are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taker {
    /// For a worker of this server: jobs bound to it count too.
    pub(super) server: Option<ServerId>,
    /// Without the jobs that avoid this server.
    pub(super) avoided: Option<ServerId>,
}

/// All jobs that wait.
#[derive(Debug)]
pub(super) struct Queue<J> {
    entries: Vec<Entry<J>>,
    /// The first unused entry; the others are linked by `next`.
    free: u32,
    lines: Vec<Line>,
    /// The first unused line; the others are linked by `next`.
    free_line: u32,
    buckets: Vec<Bucket>,
    /// Lines of clients with a key, while a job waits in them.
    clients: HashMap<Client, u32, Secret>,
    /// Every waiting job's deadline. They are not in order, because a retry keeps its old one.
    deadlines: IndexedHeap<Instant>,
    ids: HashMap<u64, u32, BuildHasherDefault<IdHasher>>,
    /// All numbers given out so far lie between the two.
    before: i64,
    after: i64,
    len: usize,
}

#[derive(Debug)]
struct Entry<J> {
    waiting: Option<Waiting<J>>,
    number: i64,
    line: u32,
    previous: u32,
    next: u32,
}

/// Jobs linked one behind the other.
#[derive(Debug)]
struct Line {
    home: Home,
    first: u32,
    last: u32,
    len: u32,
    /// Neighbours in the round.
    previous: u32,
    next: u32,
    /// Where the last job was merged.
    cursor: u32,
}

/// Where a line belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Lane {
        bucket: u32,
        lane: u32,
    },
    /// A round's line of jobs without a key.
    Common {
        bucket: u32,
        round: u32,
    },
    Client(Client),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client {
    bucket: u32,
    round: u32,
    key: u64,
}

#[derive(Debug, Default)]
struct Bucket {
    /// The lanes, or [`NONE`] for one that has never been used.
    lanes: Vec<u32>,
    /// The first job of each open lane that is not empty, by number.
    heads: IndexedHeap<i64>,
    /// The open round, then one for each server.
    rounds: Vec<Round>,
}

/// Lines that are not empty, in a ring that begins with the next one.
#[derive(Clone, Copy, Debug)]
struct Round {
    first: u32,
    last: u32,
    common: u32,
    /// The number of lines.
    len: u32,
}

impl<J> Queue<J> {
    /// Makes an empty queue. `secret` is a number that clients do not know.
    pub(super) fn new(secret: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            lines: Vec::new(),
            free_line: NONE,
            buckets: Vec::new(),
            clients: HashMap::with_hasher(Secret(secret)),
            deadlines: IndexedHeap::new(),
            ids: HashMap::default(),
            before: -1,
            after: 0,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a job behind all of its client. A job that avoids a server goes before all that do not.
    pub(super) fn push(&mut self, waiting: Waiting<J>) {
        let number = self.after;
        self.after += 1;
        let line = match waiting.ticket.avoid {
            Some(_) => self.lane(&waiting),
            None => self.client_line(&waiting),
        };
        let place = self.allocate(waiting, number);
        self.append(place, line);
    }

    /// Adds a job before all others of its bucket.
    pub(super) fn put_back(&mut self, waiting: Waiting<J>) {
        let number = self.before;
        self.before -= 1;
        let line = self.lane(&waiting);
        let place = self.allocate(waiting, number);
        let first = self.lines[line as usize].first;
        self.link(place, line, NONE, first);
    }

    /// Returns how many jobs of this client wait where its next one would.
    pub(super) fn of_client(&self, bucket: BucketId, key: u64, bound: Option<ServerId>) -> usize {
        let client = Client {
            bucket: bucket.0,
            round: round_of(bound),
            key,
        };
        self.clients
            .get(&client)
            .map_or(0, |line| self.lines[*line as usize].len as usize)
    }

    /// Returns how many clients take turns there.
    pub(super) fn clients(&self, bucket: BucketId, bound: Option<ServerId>) -> usize {
        let bucket = self.buckets.get(bucket.0 as usize);
        bucket
            .and_then(|bucket| bucket.rounds.get(round_of(bound) as usize))
            .map_or(0, |round| round.len as usize)
    }

    /// Returns the first job of a bucket that the taker may have.
    pub(super) fn first_for(&self, bucket: BucketId, taker: Taker) -> Option<Position> {
        let bucket = self.buckets.get(bucket.0 as usize)?;
        let open = match taker.avoided {
            Some(server) => bucket.heads.first_except(avoiding_lane(server)),
            None => bucket.heads.first(),
        };
        let open = open.map_or(NONE, |(_, lane)| {
            self.lines[bucket.lanes[lane as usize] as usize].first
        });
        let bound = taker
            .server
            .and_then(|server| bucket.lanes.get(bound_lane(server) as usize))
            .map_or(NONE, |line| self.first_of(*line));
        if let Some(place) = self.older(open, bound) {
            return Some(place);
        }
        let first = |round: u32| {
            bucket
                .rounds
                .get(round as usize)
                .map_or(NONE, |round| self.first_of(round.first))
        };
        let bound = taker
            .server
            .map_or(NONE, |server| first(round_of(Some(server))));
        self.older(first(round_of(None)), bound)
    }

    fn older(&self, one: u32, other: u32) -> Option<Position> {
        match (one, other) {
            (NONE, NONE) => None,
            (one, NONE) => Some(Position(one)),
            (NONE, other) => Some(Position(other)),
            _ if self.number(one) < self.number(other) => Some(Position(one)),
            _ => Some(Position(other)),
        }
    }

    /// Returns the first job of all whose deadline has passed.
    pub(super) fn first_expired(&self, now: Instant) -> Option<Position> {
        self.deadlines
            .first()
            .filter(|(deadline, _)| *deadline <= now)
            .map(|(_, place)| Position(place))
    }

    /// Returns the earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| deadline)
    }

    /// Returns any job, for emptying the queue.
    pub(super) fn any(&self) -> Option<Position> {
        self.deadlines.first().map(|(_, place)| Position(place))
    }

    /// Returns the place of the job with this number.
    pub(super) fn find(&self, id: u64) -> Option<Position> {
        // An empty queue is the usual case, and there is nothing to hash.
        if self.is_empty() {
            None
        } else {
            self.ids.get(&id).copied().map(Position)
        }
    }

    /// Returns the job at a place.
    pub(super) fn get(&self, place: Position) -> Option<&Waiting<J>> {
        self.entries.get(place.0 as usize)?.waiting.as_ref()
    }

    /// Returns whether the deadline of the job at a place has passed.
    pub(super) fn has_expired(&self, place: Position, now: Instant) -> bool {
        self.get(place)
            .is_none_or(|waiting| waiting.gives_up() <= now)
    }

    /// Removes the job at a place to serve it, which uses up its client's turn.
    pub(super) fn serve(&mut self, place: Position) -> Option<Waiting<J>> {
        let line = self.entries.get(place.0 as usize)?.line;
        let waiting = self.remove(place);
        let entry = &self.lines[line as usize];
        if entry.len > 0
            && let Some((bucket, round)) = round_of_home(entry.home)
            && self.buckets[bucket as usize].rounds[round as usize].last != line
        {
            self.leave_round(line, bucket, round);
            self.enter_round(line, bucket, round);
        }
        waiting
    }

    /// Removes the job at a place.
    pub(super) fn remove(&mut self, place: Position) -> Option<Waiting<J>> {
        let Position(place) = place;
        let waiting = self.entries.get_mut(place as usize)?.waiting.take()?;
        self.unlink(place);
        self.deadlines.remove(place);
        self.ids.remove(&waiting.ticket.id);
        self.entries[place as usize].next = self.free;
        self.free = place;
        self.len -= 1;
        Some(waiting)
    }

    /// Moves jobs to where they belong after a change of what they avoid, are bound to or belong
    /// to. Their numbers give them their places.
    ///
    /// The work is linear in the waiting jobs, once for a server that is lost or a bucket that is
    /// removed.
    pub(super) fn move_all(&mut self, mut change: impl FnMut(&mut Waiting<J>) -> bool) {
        let mut moved = Vec::new();
        for (place, entry) in self.entries.iter_mut().enumerate() {
            if let Some(waiting) = &mut entry.waiting
                && change(waiting)
            {
                moved.push((entry.number, place as u32));
            }
        }
        moved.sort_unstable();
        for (_, place) in &moved {
            self.unlink(*place);
        }
        for line in &mut self.lines {
            line.cursor = NONE;
        }
        for (number, place) in moved {
            let Some(waiting) = self.entries[place as usize].waiting.take() else {
                continue;
            };
            let line = if number < 0 || waiting.ticket.avoid.is_some() {
                self.lane(&waiting)
            } else {
                self.client_line(&waiting)
            };
            self.entries[place as usize].waiting = Some(waiting);
            self.merge(place, line);
        }
    }

    /// Inserts an entry with a greater number than the last one merged into this line.
    fn merge(&mut self, place: u32, line: u32) {
        let number = self.number(place);
        let Line { first, cursor, .. } = self.lines[line as usize];
        let mut previous = cursor;
        let mut next = match cursor {
            NONE => first,
            cursor => self.entries[cursor as usize].next,
        };
        while next != NONE && self.number(next) < number {
            previous = next;
            next = self.entries[next as usize].next;
        }
        self.link(place, line, previous, next);
        self.lines[line as usize].cursor = place;
    }

    fn first_of(&self, line: u32) -> u32 {
        self.lines
            .get(line as usize)
            .map_or(NONE, |line| line.first)
    }

    fn number(&self, place: u32) -> i64 {
        self.entries[place as usize].number
    }

    // === Lines

    fn bucket(&mut self, bucket: BucketId) -> &mut Bucket {
        let place = bucket.0 as usize;
        if self.buckets.len() <= place {
            self.buckets.resize_with(place + 1, Bucket::default);
        }
        &mut self.buckets[place]
    }

    fn lane(&mut self, waiting: &Waiting<J>) -> u32 {
        let lane = match (waiting.bound, waiting.ticket.avoid) {
            (Some(server), _) => bound_lane(server),
            (None, avoid) => avoid.map_or(ANY, avoiding_lane),
        };
        let id = waiting.ticket.bucket;
        let bucket = self.bucket(id);
        if bucket.lanes.len() <= lane as usize {
            bucket.lanes.resize(lane as usize + 1, NONE);
        }
        match bucket.lanes[lane as usize] {
            NONE => {
                let line = self.new_line(Home::Lane { bucket: id.0, lane });
                self.buckets[id.0 as usize].lanes[lane as usize] = line;
                line
            }
            line => line,
        }
    }

    fn client_line(&mut self, waiting: &Waiting<J>) -> u32 {
        let id = waiting.ticket.bucket;
        let round = round_of(waiting.bound);
        let bucket = self.bucket(id);
        if bucket.rounds.len() <= round as usize {
            let empty = Round {
                first: NONE,
                last: NONE,
                common: NONE,
                len: 0,
            };
            bucket.rounds.resize(round as usize + 1, empty);
        }
        match waiting.ticket.key {
            None => match bucket.rounds[round as usize].common {
                NONE => {
                    let line = self.new_line(Home::Common {
                        bucket: id.0,
                        round,
                    });
                    self.buckets[id.0 as usize].rounds[round as usize].common = line;
                    line
                }
                line => line,
            },
            Some(key) => {
                let client = Client {
                    bucket: id.0,
                    round,
                    key,
                };
                match self.clients.get(&client) {
                    Some(line) => *line,
                    None => {
                        let line = self.new_line(Home::Client(client));
                        self.clients.insert(client, line);
                        line
                    }
                }
            }
        }
    }

    fn new_line(&mut self, home: Home) -> u32 {
        let line = Line {
            home,
            first: NONE,
            last: NONE,
            len: 0,
            previous: NONE,
            next: NONE,
            cursor: NONE,
        };
        match self.free_line {
            NONE => {
                self.lines.push(line);
                (self.lines.len() - 1) as u32
            }
            place => {
                self.free_line = self.lines[place as usize].next;
                self.lines[place as usize] = line;
                place
            }
        }
    }

    /// Puts a line that is not empty at the end of the round.
    fn enter_round(&mut self, line: u32, bucket: u32, round: u32) {
        let Round { last, .. } = self.buckets[bucket as usize].rounds[round as usize];
        (
            self.lines[line as usize].previous,
            self.lines[line as usize].next,
        ) = (last, NONE);
        let ends = &mut self.buckets[bucket as usize].rounds[round as usize];
        ends.last = line;
        ends.len += 1;
        match last {
            NONE => ends.first = line,
            last => self.lines[last as usize].next = line,
        }
    }

    fn leave_round(&mut self, line: u32, bucket: u32, round: u32) {
        let Line { previous, next, .. } = self.lines[line as usize];
        let ends = &mut self.buckets[bucket as usize].rounds[round as usize];
        ends.len -= 1;
        match previous {
            NONE => ends.first = next,
            previous => self.lines[previous as usize].next = next,
        }
        let ends = &mut self.buckets[bucket as usize].rounds[round as usize];
        match next {
            NONE => ends.last = previous,
            next => self.lines[next as usize].previous = previous,
        }
    }

    // === Entries

    fn allocate(&mut self, waiting: Waiting<J>, number: i64) -> u32 {
        let (id, gives_up) = (waiting.ticket.id, waiting.gives_up());
        let entry = Entry {
            waiting: Some(waiting),
            number,
            line: NONE,
            previous: NONE,
            next: NONE,
        };
        let place = match self.free {
            NONE => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
            place => {
                self.free = self.entries[place as usize].next;
                self.entries[place as usize] = entry;
                place
            }
        };
        self.deadlines.set(place, gives_up);
        self.ids.insert(id, place);
        self.len += 1;
        place
    }

    fn append(&mut self, place: u32, line: u32) {
        let last = self.lines[line as usize].last;
        self.link(place, line, last, NONE);
    }

    fn link(&mut self, place: u32, line: u32, previous: u32, next: u32) {
        let entry = &mut self.entries[place as usize];
        (entry.line, entry.previous, entry.next) = (line, previous, next);
        match previous {
            NONE => self.lines[line as usize].first = place,
            previous => self.entries[previous as usize].next = place,
        }
        match next {
            NONE => self.lines[line as usize].last = place,
            next => self.entries[next as usize].previous = place,
        }
        let entry = &mut self.lines[line as usize];
        entry.len += 1;
        let (home, is_new) = (entry.home, entry.len == 1);
        match round_of_home(home) {
            Some((bucket, round)) if is_new => self.enter_round(line, bucket, round),
            Some(_) => {}
            None if previous == NONE => self.head_changed(home),
            None => {}
        }
    }

    fn unlink(&mut self, place: u32) {
        let Entry {
            line,
            previous,
            next,
            ..
        } = self.entries[place as usize];
        match previous {
            NONE => self.lines[line as usize].first = next,
            previous => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => self.lines[line as usize].last = previous,
            next => self.entries[next as usize].previous = previous,
        }
        let entry = &mut self.lines[line as usize];
        entry.len -= 1;
        let (home, is_empty) = (entry.home, entry.len == 0);
        match round_of_home(home) {
            Some((bucket, round)) if is_empty => {
                self.leave_round(line, bucket, round);
                if let Home::Client(client) = home {
                    self.clients.remove(&client);
                    self.lines[line as usize].next = self.free_line;
                    self.free_line = line;
                }
            }
            Some(_) => {}
            None if previous == NONE => self.head_changed(home),
            None => {}
        }
    }

    fn head_changed(&mut self, home: Home) {
        let Home::Lane { bucket, lane } = home else {
            return;
        };
        if is_bound_lane(lane) {
            return;
        }
        let line = self.buckets[bucket as usize].lanes[lane as usize];
        match self.first_of(line) {
            NONE => self.buckets[bucket as usize].heads.remove(lane),
            first => {
                let number = self.number(first);
                self.buckets[bucket as usize].heads.set(lane, number);
            }
        }
    }
}

fn round_of(bound: Option<ServerId>) -> u32 {
    bound.map_or(0, |server| 1 + server.0)
}

fn round_of_home(home: Home) -> Option<(u32, u32)> {
    match home {
        Home::Lane { .. } => None,
        Home::Common { bucket, round } | Home::Client(Client { bucket, round, .. }) => {
            Some((bucket, round))
        }
    }
}

fn avoiding_lane(server: ServerId) -> u32 {
    1 + 2 * server.0
}

fn bound_lane(server: ServerId) -> u32 {
    2 + 2 * server.0
}

fn is_bound_lane(lane: u32) -> bool {
    lane != ANY && lane.is_multiple_of(2)
}

/// Hashes keys that clients may have chosen. A number that clients do not know is mixed in, so that
/// they cannot choose keys that collide.
#[derive(Clone, Copy, Debug)]
struct Secret(u64);

impl BuildHasher for Secret {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0)
    }
}

/// Mixes numbers with one multiplication each. Beginning at 0, it is for our own ids only.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, id: u64) {
        let product = u128::from(self.0 ^ id) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}
