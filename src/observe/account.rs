//! Accounts: what the process, a listener, a cluster or a server has done, in numbers that only
//! grow.
//!
//! An exchange is booked once, where it completes, into the accounts of all that it passed. Each
//! processor has a shard of each account, and a reader adds the shards up, so that processors
//! seldom write to the same cache line. What is going on at this moment (requests that are served
//! or queued) is not here: the dispatcher knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

use crate::fault::Fault;

/// An account has as many shards as there are processors, but at most this many: each takes about
/// 400 bytes.
const MOST_SHARDS: usize = 16;

/// The account of one entity.
#[derive(Debug)]
pub struct Account {
    shards: Box<[CachePadded<Shard>]>,
}

/// The part of an account that the threads on some of the processors add to.
#[derive(Debug)]
struct Shard {
    requests: AtomicU64,
    retries: AtomicU64,
    bytes_out: AtomicU64,
    /// By the faults' numbers.
    faults: [AtomicU64; Fault::ALL.len()],
}

/// An exchange that has ended, as accounts see it.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Attempts beyond the first.
    pub retries: u32,
    /// Bytes of its response that were given to the client's socket or to a courier.
    pub bytes_out: u64,
    /// Why the exchange did not end well.
    pub fault: Option<Fault>,
}

/// What an account has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Exchanges that ended, well or not.
    pub requests: u64,
    /// Attempts beyond the first of each of these.
    pub retries: u64,
    /// Bytes of responses given to clients' sockets or couriers.
    pub bytes_out: u64,
    /// How often each fault ended an exchange, without those that never did.
    pub faults: Vec<(Fault, u64)>,
}

impl Default for Account {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = processors.next_power_of_two().min(MOST_SHARDS);
        Self {
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
        }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            faults: [const { AtomicU64::new(0) }; Fault::ALL.len()],
        }
    }
}

impl Account {
    /// Adds an exchange, on this processor.
    fn book(&self, ended: &Ended, processor: usize) {
        // The number of shards is a power of two.
        let Some(shard) = self.shards.get(processor & (self.shards.len() - 1)) else {
            return;
        };
        shard.requests.fetch_add(1, Ordering::Relaxed);
        shard
            .bytes_out
            .fetch_add(ended.bytes_out, Ordering::Relaxed);
        if ended.retries > 0 {
            let retries = u64::from(ended.retries);
            shard.retries.fetch_add(retries, Ordering::Relaxed);
        }
        if let Some(fault) = ended.fault
            && let Some(count) = shard.faults.get(fault as usize)
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns what the account has come to.
    pub fn totals(&self) -> Totals {
        let sum = |part: &dyn Fn(&Shard) -> &AtomicU64| -> u64 {
            let parts = self.shards.iter().map(|shard| part(shard));
            parts.map(|count| count.load(Ordering::Relaxed)).sum()
        };
        let faults = Fault::ALL
            .iter()
            .map(|&fault| (fault, sum(&|shard| &shard.faults[fault as usize])));
        Totals {
            requests: sum(&|shard| &shard.requests),
            retries: sum(&|shard| &shard.retries),
            bytes_out: sum(&|shard| &shard.bytes_out),
            faults: faults.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// Returns the number of the processor that the thread is on, as far as is known.
fn processor() -> usize {
    nix::sched::sched_getcpu().unwrap_or_default()
}

/// The number of an account, of no other account of the process. An exchange carries numbers and
/// no [`Arc`] of the accounts: its count would be a cache line that all threads write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountId(u64);

/// All accounts of the process but those of listeners: each client has an [`Arc`] of its own
/// listener's.
#[derive(Debug, Default)]
pub struct Accounts {
    process: Account,
    /// Accounts of clusters and servers, ordered by their numbers.
    open: ArcSwap<Vec<(u64, Arc<Account>)>>,
    /// The number of the next account. Held while one is opened or closed.
    next: Mutex<u64>,
}

/// An account that is open: it is closed when this is dropped.
#[derive(Debug)]
#[must_use = "an account that is dropped is closed"]
pub struct OpenAccount {
    id: AccountId,
    account: Arc<Account>,
    accounts: Arc<Accounts>,
}

/// Where an exchange is booked, besides the process.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// The account of the listener that the exchange came in by.
    pub listener: &'a Account,
    /// The cluster that it was offered to.
    pub cluster: Option<AccountId>,
    /// The server of its last attempt.
    pub server: Option<AccountId>,
}

impl Accounts {
    /// Opens an account.
    pub fn open(self: &Arc<Self>) -> OpenAccount {
        let account = Arc::new(Account::default());
        let mut next = self.next.lock();
        let id = *next;
        *next += 1;
        let mut open = Vec::clone(&self.open.load());
        open.push((id, Arc::clone(&account)));
        self.open.store(Arc::new(open));
        OpenAccount {
            id: AccountId(id),
            account,
            accounts: Arc::clone(self),
        }
    }

    fn close(&self, AccountId(id): AccountId) {
        let _next = self.next.lock(); // One after the other.
        let mut open = Vec::clone(&self.open.load());
        open.retain(|(other, _)| *other != id);
        self.open.store(Arc::new(open));
    }

    /// Books an exchange that has ended. What is closed already is left out.
    pub fn book(&self, passed: Passed<'_>, ended: &Ended) {
        let processor = processor();
        self.process.book(ended, processor);
        passed.listener.book(ended, processor);
        if passed.cluster.is_none() && passed.server.is_none() {
            return;
        }
        let open = self.open.load();
        for AccountId(id) in [passed.cluster, passed.server].into_iter().flatten() {
            let place = open.binary_search_by_key(&id, |(other, _)| *other);
            if let Some((_, account)) = place.ok().and_then(|place| open.get(place)) {
                account.book(ended, processor);
            }
        }
    }

    /// Returns what the process has done.
    pub fn process(&self) -> Totals {
        self.process.totals()
    }
}

impl OpenAccount {
    /// Returns the number, for exchanges.
    pub fn id(&self) -> AccountId {
        self.id
    }

    /// Returns what the account has come to.
    pub fn totals(&self) -> Totals {
        self.account.totals()
    }
}

impl Drop for OpenAccount {
    fn drop(&mut self) {
        self.accounts.close(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;

    const GOOD: Ended = Ended {
        retries: 0,
        bytes_out: 10,
        fault: None,
    };

    #[test]
    fn what_many_threads_book_adds_up() {
        const THREADS: u64 = 40;
        const EACH: u64 = 500;
        let account = Account::default();
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let account = &account;
                scope.spawn(move || {
                    for turn in 0..EACH {
                        account.book(
                            &Ended {
                                retries: u32::from(turn % 5 == 0),
                                bytes_out: thread,
                                fault: (turn % 10 == 0).then_some(Fault::QueueFull),
                            },
                            processor(),
                        );
                    }
                });
            }
        });
        assert_eq!(
            account.totals(),
            Totals {
                requests: THREADS * EACH,
                retries: THREADS * EACH / 5,
                bytes_out: EACH * (0..THREADS).sum::<u64>(),
                faults: vec![(Fault::QueueFull, THREADS * EACH / 10)],
            }
        );
    }

    #[test]
    fn each_processor_has_a_shard_as_long_as_there_are_enough() {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let processors: Vec<_> = (0..CpuSet::count())
            .filter(|processor| allowed.is_set(*processor).unwrap())
            .take(MOST_SHARDS)
            .collect();
        let account = &Account::default();
        let shards = account.shards.len();
        assert!(shards.is_power_of_two() && shards <= MOST_SHARDS);
        thread::scope(|scope| {
            for processor in &processors {
                scope.spawn(move || {
                    let mut one = CpuSet::new();
                    one.set(*processor).unwrap();
                    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
                    account.book(&GOOD, *processor);
                });
            }
        });
        let expected: BTreeSet<_> = processors.iter().map(|one| one % shards).collect();
        let used = account.shards.iter();
        let used = used.filter(|shard| shard.requests.load(Ordering::Relaxed) > 0);
        assert_eq!(used.count(), expected.len());
    }

    #[test]
    fn an_exchange_is_booked_into_all_that_it_has_passed() {
        let accounts = Arc::new(Accounts::default());
        let (listener, other) = (Account::default(), Account::default());
        let (cluster, server) = (accounts.open(), accounts.open());
        let book = |listener, cluster: Option<&OpenAccount>, server: Option<&OpenAccount>| {
            let passed = Passed {
                listener,
                cluster: cluster.map(OpenAccount::id),
                server: server.map(OpenAccount::id),
            };
            accounts.book(passed, &GOOD);
        };
        book(&listener, Some(&cluster), Some(&server));
        book(&listener, Some(&cluster), None);
        book(&other, None, None);
        let requests = [
            accounts.process(),
            listener.totals(),
            other.totals(),
            cluster.totals(),
            server.totals(),
        ]
        .map(|totals| totals.requests);
        assert_eq!(requests, [3, 2, 1, 2, 1]);
    }

    #[test]
    fn an_account_that_is_closed_gets_nothing_and_its_number_is_not_given_again() {
        let accounts = Arc::new(Accounts::default());
        let listener = Account::default();
        let (first, gone, last) = (accounts.open(), accounts.open(), accounts.open());
        let id = gone.id();
        drop(gone);
        let next = accounts.open();
        assert_ne!(next.id(), id);
        for server in [first.id(), id, last.id(), next.id()] {
            let passed = Passed {
                listener: &listener,
                cluster: None,
                server: Some(server),
            };
            accounts.book(passed, &GOOD);
        }
        let requests = [&first, &last, &next].map(|account| account.totals().requests);
        assert_eq!(requests, [1, 1, 1]);
        assert_eq!(accounts.process().requests, 4);
        drop((first, last, next));
        assert!(accounts.open.load().is_empty());
    }
}
