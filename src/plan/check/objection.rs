//! An objection, and what it is about.

/// How much an objection matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// There is no plan.
    Error,
    /// There is a plan, perhaps not the one that was meant.
    Warning,
}

/// A thing of a plan. Numbers are places in the plan's lists, in the order in which they were
/// written; a bucket's is that in its cluster, and so is a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The whole.
    Plan,
    /// The name of a listener.
    ListenerName(usize),
    /// An address of all that listeners bind, in order.
    Bind(usize),
    /// A cluster.
    Cluster(usize),
    /// The name of a cluster.
    ClusterName(usize),
    /// A setting of a cluster.
    ClusterKey(usize, ClusterKey),
    /// The name of a server, of this cluster.
    ServerName(usize, usize),
    /// The address of a server, of this cluster.
    ServerAddress(usize, usize),
    /// A setting of a bucket, of this cluster.
    Bucket(usize, usize, BucketKey),
}

/// A setting of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterKey {
    /// Its servers.
    Servers,
    /// When a request is tied to a server.
    Binding,
    /// Which client a request counts for.
    ClientKey,
    /// Servers stay offline until they are released.
    StickyOffline,
}

/// A setting of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketKey {
    /// Its name.
    Name,
    /// The bucket that it is a part of.
    Parent,
    /// What it is assured.
    Assured,
    /// What it may have at most.
    Ceiling,
    /// How many requests may wait in it.
    QueueLimit,
}

/// One thing that is wrong, or suspicious.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an objection is to be told"]
pub struct Objection {
    /// Whether there can be a plan all the same.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// What is wrong. With another thing that has to do with it, that one's place belongs behind.
    pub text: String,
    /// That other thing.
    pub other: Option<Subject>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Objection {
    /// There cannot be a plan with this.
    pub fn error(subject: Subject, text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            subject,
            text: text.into(),
            other: None,
            hint: None,
        }
    }

    /// It may not be what was meant.
    pub fn warning(subject: Subject, text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(subject, text)
        }
    }

    /// Returns the objection with another thing that has to do with it.
    pub fn with(self, other: Subject) -> Self {
        Self {
            other: Some(other),
            ..self
        }
    }

    /// Returns the objection with what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}
