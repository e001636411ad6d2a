//! Changes to a running cluster: the one way in which reload and the admin interface reconfigure
//! it.

use super::{BucketId, Handout, ServerId, WorkerId};

/// How the next server is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Each in its turn, smoothly weighted.
    #[default]
    RoundRobin,
    /// The first of the list that accepts.
    Chance,
    /// The fewest jobs for its weight.
    LeastLoad,
    /// Any, by weight.
    Random,
    /// The less loaded of two drawn by weight.
    TwoChoices,
    /// The one of two with the lower product of recent response time and jobs.
    PeakEwma,
    /// By the client key: each key ranks all servers.
    Rendezvous {
        /// Most jobs of a server beside its part of all, in percent; at least 100.
        balance: u32,
    },
    /// By the client key: jump consistent hash.
    Jump {
        /// Most jobs of a server beside its part of all, in percent; at least 100.
        balance: u32,
    },
}

/// What a server is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The usual work.
    #[default]
    Active,
    /// When no active server has a free worker, or none is there.
    Standby,
    /// When there is no active and no standby server. (Busy ones are there: then jobs wait.)
    Backup,
    /// Ends what it has, and goes.
    Terminating,
}

/// What somebody has decided about a server or a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    /// In use.
    #[default]
    Enabled,
    /// Ends what it has, takes nothing new; a server's connections stay, a cluster's queue is still
    /// served.
    Draining,
    /// Ends what is being served and no more. A server's workers end; what waits for a cluster is
    /// refused.
    Disabled,
}

/// What is known of a server's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It may be used.
    #[default]
    Online,
    /// It may not.
    Offline,
}

/// A server that is not there yet.
#[derive(Clone, Copy, Debug)]
pub struct NewServer {
    /// Its share beside others, at least 1.
    pub weight: u32,
    /// Its workers = its connections = most requests at once.
    pub capacity: usize,
    /// What it is for.
    pub role: Role,
    /// Whether it is in use.
    pub admin: Admin,
    /// What its health check says so far.
    pub health: Health,
    /// It cannot be removed before this is taken back.
    pub protected: bool,
}

impl NewServer {
    /// An active one of weight 1.
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

/// What is to be different about a server; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerChange {
    /// Its share beside others, at least 1.
    pub weight: Option<u32>,
    /// Its workers: new ones are started, or some are let go once they have ended their jobs.
    pub capacity: Option<usize>,
    /// What it is for.
    pub role: Option<Role>,
    /// Whether it is in use.
    pub admin: Option<Admin>,
    /// What its health check says.
    pub health: Option<Health>,
    /// How warm it is, in thousandths: so much of its weight and capacity are used. Slow start
    /// raises it step by step.
    pub warmth: Option<u16>,
    /// Whether it cannot be removed.
    pub protected: Option<bool>,
}

/// A part of something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// Of what the parent has, 0 to 1.
    Part(f64),
    /// Requests.
    Requests(u32),
}

/// What a bucket is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// What it gets if it asks for it: a part of its parent's assured share.
    pub assured: Share,
    /// Most that it gets: a part of its parent's ceiling.
    pub ceiling: Share,
    /// Most jobs waiting in it.
    pub queue_limit: usize,
}

/// What becomes of shares that nobody uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lending {
    /// They are lent, up to the borrower's ceiling; the owner gets the next slots that become free.
    #[default]
    WorkConserving,
    /// They stay free, so that the owner need not wait.
    Reserve,
}

/// A change to a running cluster.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Adds a server at the end of the list (or in the place of one that is gone), its workers all
    /// [`super::Link::Connecting`].
    AddServer(NewServer),
    /// Changes a server.
    SetServer(ServerId, ServerChange),
    /// Takes a server out as soon as it has ended what it has: like [`Role::Terminating`], unless
    /// it is protected.
    RemoveServer(ServerId),
    /// Adds a bucket below another.
    AddBucket(BucketId, Bucket),
    /// Changes a bucket, but not the root, which is what all servers in use can serve.
    SetBucket(BucketId, Bucket),
    /// Removes a bucket that has none below it: its jobs, waiting or served, go to its parent.
    RemoveBucket(BucketId),
    /// Chooses servers differently from now on.
    SetSchedule(Schedule),
    /// Treats idle shares differently from now on.
    SetLending(Lending),
    /// Binds jobs early or late from now on. What waits for one server alone is open to all when
    /// that ends; what is open stays so.
    SetBinding {
        /// To a server as they come in.
        early: bool,
    },
    /// Limits the whole queue differently from now on; what waits stays.
    SetQueue {
        /// Most jobs waiting in all buckets.
        limit: usize,
        /// Wait while no server can be reached.
        wait_for_server: bool,
    },
    /// Limits retries differently from now on.
    SetRetries {
        /// Retries in progress that are always allowed.
        floor: usize,
        /// Retries in progress as a part of all jobs in progress.
        share: f64,
    },
    /// Enables, drains or disables the cluster.
    SetAdmin(Admin),
    /// Takes no more offers and refuses what waits ([`super::Refusal::Closed`]); what is being
    /// served ends as usual. No worker is started any more, whatever else is changed and whoever
    /// goes. For good.
    Close,
}

/// Why a change was not made. Nothing is different then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// There is no such server.
    UnknownServer,
    /// There is no such bucket.
    UnknownBucket,
    /// The server is protected.
    Protected,
    /// The server goes already.
    Terminating,
    /// The root is what it is.
    Root,
    /// There are buckets below it.
    HasChildren,
    /// A share is not within its limits: 0 <= assured <= ceiling <= 1.
    InvalidShare,
    /// The assured parts below one parent add up to more than 1.
    TooMuchAssured,
}

/// What a change leads to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome<J> {
    /// Jobs to be given out and given back.
    pub handout: Handout<J>,
    /// The server that was added.
    pub server: Option<ServerId>,
    /// The bucket that was added.
    pub bucket: Option<BucketId>,
    /// Workers to be started.
    pub started: Vec<(ServerId, WorkerId)>,
    /// Workers to be told to end once they have ended their jobs. They get no others. When such a
    /// worker has ended, [`super::Dispatcher::gone`] has to be called.
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
