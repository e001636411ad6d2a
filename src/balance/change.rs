//! Changes to a running cluster: the one way in which reload and the admin interface reconfigure
//! it.

use crate::base::words::words;

use super::{BucketId, Handout, ServerId, WorkerId};

/// How the next server is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Servers take turns, smoothly weighted.
    #[default]
    RoundRobin,
    /// The first of the list that accepts.
    Chance,
    /// The fewest jobs for its weight.
    LeastLoad,
    /// Any server, by weight.
    Random,
    /// The less loaded of two that are drawn by weight.
    TwoChoices,
    /// Of two, the one with the lower product of recent response time and jobs.
    PeakEwma,
    /// By the client key: each key ranks all servers.
    Rendezvous {
        /// The most jobs of a server in relation to its part of all jobs, in percent; at least 100.
        balance: u32,
    },
    /// By the client key: jump consistent hash.
    Jump {
        /// The most jobs of a server in relation to its part of all jobs, in percent; at least 100.
        balance: u32,
    },
}

impl Schedule {
    /// All words, in the order in which the manual names them.
    pub const WORDS: &'static [&'static str] = &Self::words();

    const fn all(balance: u32) -> [Self; 8] {
        [
            Self::RoundRobin,
            Self::Chance,
            Self::LeastLoad,
            Self::Random,
            Self::TwoChoices,
            Self::PeakEwma,
            Self::Rendezvous { balance },
            Self::Jump { balance },
        ]
    }

    const fn words() -> [&'static str; 8] {
        let all = Self::all(100);
        let mut words = [""; 8];
        let mut place = 0;
        while place < all.len() {
            words[place] = all[place].word();
            place += 1;
        }
        words
    }

    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::Chance => "chance",
            Self::LeastLoad => "least_load",
            Self::Random => "random",
            Self::TwoChoices => "two_choices",
            Self::PeakEwma => "peak_ewma",
            Self::Rendezvous { .. } => "rendezvous",
            Self::Jump { .. } => "jump",
        }
    }

    /// Returns whether it goes by whose a request is.
    pub const fn is_hashing(self) -> bool {
        matches!(self, Self::Rendezvous { .. } | Self::Jump { .. })
    }

    /// Returns the schedule that this word stands for, with this `balance` if it has one.
    pub fn of_word(word: &str, balance: u32) -> Option<Self> {
        Self::all(balance)
            .into_iter()
            .find(|one| one.word() == word)
    }
}

/// What a server is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The usual work.
    #[default]
    Active,
    /// Used when no active server has a free worker, or none is usable.
    Standby,
    /// Used when no active and no standby server is usable. (A busy one is usable: then jobs wait.)
    Backup,
    /// Ends the jobs that it has, and is then removed.
    Terminating,
}

/// What an operator has decided about a server or a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    /// In use.
    #[default]
    Enabled,
    /// Ends the jobs that it has and takes no new ones. A server's connections stay; a cluster's
    /// queue is still served.
    Draining,
    /// Ends only the jobs being served. A server's workers end; jobs waiting for a cluster are
    /// refused.
    Disabled,
}

/// What is known of a server's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// The server may be used.
    #[default]
    Online,
    /// The server may not be used.
    Offline,
}

/// A server to add.
#[derive(Clone, Copy, Debug)]
pub struct NewServer {
    /// Its share in relation to other servers, at least 1.
    pub weight: u32,
    /// The number of its workers, which is its connections and the most requests at once.
    pub capacity: usize,
    /// What it is for.
    pub role: Role,
    /// Whether the operator has it in use.
    pub admin: Admin,
    /// The result of its health checks so far.
    pub health: Health,
    /// It cannot be removed before this is unset.
    pub protected: bool,
}

words!(Role {
    Active => "active",
    Standby => "standby",
    Backup => "backup",
    Terminating => "terminating",
});

words!(Admin { Enabled => "enabled", Draining => "draining", Disabled => "disabled" });

impl NewServer {
    /// Returns an active server of weight 1.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            weight: 1,
            capacity,
            role: Role::Active,
            admin: Admin::Enabled,
            health: Health::Online,
            protected: false,
        }
    }
}

/// Changes to a server. `None` leaves a value as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerChange {
    /// Its share in relation to other servers, at least 1.
    pub weight: Option<u32>,
    /// The number of its workers. New ones are started, or some are dismissed and end after their
    /// jobs.
    pub capacity: Option<usize>,
    /// What it is for.
    pub role: Option<Role>,
    /// Whether the operator has it in use.
    pub admin: Option<Admin>,
    /// The result of its health checks.
    pub health: Option<Health>,
    /// How warm it is, in thousandths: this part of its weight and capacity is used. Slow start
    /// raises the value step by step.
    pub warmth: Option<u16>,
    /// Whether it cannot be removed.
    pub protected: Option<bool>,
}

/// A part of a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// A fraction of what the parent has, 0 to 1.
    Part(f64),
    /// A number of requests.
    Requests(u32),
}

/// The settings of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// What it gets if it has the jobs for it: a part of its parent's assured share.
    pub assured: Share,
    /// The most that it gets: a part of its parent's ceiling.
    pub ceiling: Share,
    /// The most jobs waiting in it.
    pub queue_limit: usize,
}

/// What happens to unused shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lending {
    /// They are lent, up to the borrower's ceiling. The owner gets the next slots that become free.
    #[default]
    WorkConserving,
    /// They stay free, so that the owner does not wait.
    Reserve,
}

words!(Lending { WorkConserving => "work_conserving", Reserve => "reserve" });

/// A change to a running cluster.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Adds a server at the end of the list (or with the number of a removed one). All its workers
    /// are [`super::LinkState::Connecting`].
    AddServer(NewServer),
    /// Changes a server.
    SetServer(ServerId, ServerChange),
    /// Removes a server as soon as the jobs that it has are over: like [`Role::Terminating`],
    /// unless it is protected.
    RemoveServer(ServerId),
    /// Adds a bucket below another.
    AddBucket(BucketId, Bucket),
    /// Changes a bucket other than the root, which always is what all servers in use can serve.
    SetBucket(BucketId, Bucket),
    /// Removes a bucket without buckets below it. Its jobs, waiting or served, go to its parent.
    RemoveBucket(BucketId),
    /// Changes how servers are chosen.
    SetSchedule(Schedule),
    /// Changes what happens to unused shares.
    SetLending(Lending),
    /// Changes when jobs are bound to a server. When early binding ends, jobs that wait for one
    /// server alone are open to all. When it begins, open jobs stay open.
    SetBinding {
        /// To a server when they arrive.
        early: bool,
    },
    /// Changes the limits of the whole queue. Waiting jobs stay.
    SetQueue {
        /// The most jobs waiting in all buckets.
        limit: usize,
        /// Jobs wait while no server can be reached.
        wait_for_server: bool,
    },
    /// Changes the limits of retries.
    SetRetries {
        /// Retries in progress that are always allowed.
        floor: usize,
        /// Retries in progress as a part of all jobs in progress.
        share: f64,
    },
    /// Enables, drains or disables the cluster.
    SetAdmin(Admin),
    /// Ends the cluster for good. Offers and waiting jobs are refused ([`super::Refusal::Closed`]),
    /// and jobs being served end as usual. No worker is started any more, whatever else changes.
    Close,
}

/// Why a change was not made. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// There is no such server.
    UnknownServer,
    /// There is no such bucket.
    UnknownBucket,
    /// The server is protected.
    Protected,
    /// The server is already being removed.
    Terminating,
    /// The root cannot be changed or removed.
    Root,
    /// There are buckets below it.
    HasChildren,
    /// A share is outside its limits: 0 <= assured <= ceiling <= 1.
    InvalidShare,
    /// The assured parts below one parent add up to more than 1.
    TooMuchAssured,
}

/// The results of a change.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome<J> {
    /// Jobs to give to workers, and jobs that are refused.
    pub handout: Handout<J>,
    /// The server that was added.
    pub server: Option<ServerId>,
    /// The bucket that was added.
    pub bucket: Option<BucketId>,
    /// Workers to start.
    pub started: Vec<(ServerId, WorkerId)>,
    /// Workers to tell that they end after their jobs. They get no others. When such a worker has
    /// ended, call [`super::Dispatcher::gone`].
    pub dismissed: Vec<WorkerId>,
}

impl<J> Default for Outcome<J> {
    fn default() -> Self {
        Self {
            handout: Handout::default(),
            server: None,
            bucket: None,
            started: Vec::new(),
            dismissed: Vec::new(),
        }
    }
}
