//! The cases that are measured.

use crate::contenders::Contender::{
    self, Direct, Haproxy, HaproxyMaxconn, Juggler, JugglerPipeline, Nginx,
};

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// wrk: each connection sends its next request when it has the response to the last one.
    Closed(Closed),
    /// Requests at set times, at a share of the capacity of the weakest contender.
    Open { share: f64, connections: usize },
    /// A TLS connection for each request, from this number of threads.
    Handshake { threads: usize, resume: bool },
    /// No load, only clients beside it.
    Nothing,
}

/// A load that wrk makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Closed {
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    pub(crate) path: &'static str,
    /// Bytes of body of a POST. `None` is a GET.
    pub(crate) body: Option<usize>,
    pub(crate) tls: bool,
    /// A new connection for each request.
    pub(crate) close: bool,
}

const PLAIN: Closed = Closed {
    connections: 64,
    threads: 2,
    path: "/1k.png",
    body: None,
    tls: false,
    close: false,
};

/// Clients beside the load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Beside {
    Nothing,
    /// Clients that have had one response and wait.
    Idle {
        count: usize,
        tls: bool,
    },
    /// Clients that request 64 MB and read nothing.
    Stalled {
        count: usize,
    },
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) load: Load,
    pub(crate) beside: Beside,
    /// Seconds for each run. `None` is the command line's value.
    pub(crate) seconds: Option<u64>,
    pub(crate) contenders: &'static [Contender],
    /// Whether system calls are counted, too, in a pass of their own.
    pub(crate) syscalls: bool,
    /// Whether the quick version includes the case.
    pub(crate) quick: bool,
}

impl Case {
    /// How many clients send at once.
    pub(crate) fn connections(&self) -> usize {
        match self.load {
            Load::Closed(closed) => closed.connections,
            Load::Open { connections, .. } => connections,
            Load::Handshake { threads, .. } => threads,
            Load::Nothing => 0,
        }
    }

    /// Returns whether the case belongs to the series over connections.
    pub(crate) fn is_in_series(&self) -> bool {
        self.id
            .strip_prefix('c')
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    }

    pub(crate) fn needs_wrk(&self) -> bool {
        matches!(self.load, Load::Closed(_))
    }
}

const ALL_BUT_MAXCONN: &[Contender] = &[Juggler, JugglerPipeline, Nginx, Haproxy, Direct];
const PROXIES: &[Contender] = &[Juggler, Nginx, Haproxy];
const WITH_SERVER: &[Contender] = &[Juggler, Nginx, Haproxy, Direct];
const EVERYBODY: &[Contender] = &[
    Juggler,
    JugglerPipeline,
    Nginx,
    Haproxy,
    HaproxyMaxconn,
    Direct,
];

const CASE: Case = Case {
    id: "",
    title: "",
    load: Load::Nothing,
    beside: Beside::Nothing,
    seconds: None,
    contenders: PROXIES,
    syscalls: false,
    quick: false,
};

const fn keep_alive(
    id: &'static str,
    title: &'static str,
    connections: usize,
    threads: usize,
) -> Case {
    Case {
        id,
        title,
        load: Load::Closed(Closed {
            connections,
            threads,
            ..PLAIN
        }),
        // With fewer clients, HAProxy has no use for a limit.
        contenders: if connections < 64 {
            ALL_BUT_MAXCONN
        } else {
            EVERYBODY
        },
        ..CASE
    }
}

/// All cases, in the order of a round.
pub(crate) const CASES: &[Case] = &[
    keep_alive("c1", "1 connection, 1 KB", 1, 1),
    keep_alive("c16", "16 connections, 1 KB", 16, 2),
    Case {
        syscalls: true,
        quick: true,
        ..keep_alive("c64", "64 connections, 1 KB", 64, 2)
    },
    keep_alive("c256", "256 connections, 1 KB", 256, 2),
    Case {
        quick: true,
        ..keep_alive("c1024", "1024 connections, 1 KB", 1024, 2)
    },
    // Long enough that connecting does not dominate.
    Case {
        seconds: Some(10),
        quick: true,
        ..keep_alive("c4096", "4096 connections, 1 KB, 8 threads of wrk", 4096, 8)
    },
    Case {
        id: "100k",
        title: "64 connections, 100 KB",
        load: Load::Closed(Closed {
            path: "/100k.bin",
            ..PLAIN
        }),
        contenders: WITH_SERVER,
        syscalls: true,
        quick: true,
        ..CASE
    },
    Case {
        id: "1m",
        title: "64 connections, 1 MB",
        load: Load::Closed(Closed {
            path: "/1m.bin",
            ..PLAIN
        }),
        contenders: WITH_SERVER,
        syscalls: true,
        ..CASE
    },
    Case {
        id: "post-1k",
        title: "64 connections, POST of 1 KB",
        load: Load::Closed(Closed {
            path: "/post",
            body: Some(1 << 10),
            ..PLAIN
        }),
        syscalls: true,
        ..CASE
    },
    Case {
        id: "post-1m",
        title: "64 connections, POST of 1 MB",
        load: Load::Closed(Closed {
            path: "/post",
            body: Some(1 << 20),
            ..PLAIN
        }),
        ..CASE
    },
    Case {
        id: "close",
        title: "64 clients, a new connection for each request, 1 KB",
        load: Load::Closed(Closed {
            close: true,
            ..PLAIN
        }),
        syscalls: true,
        quick: true,
        ..CASE
    },
    Case {
        id: "https",
        title: "64 connections, HTTPS, 1 KB",
        load: Load::Closed(Closed { tls: true, ..PLAIN }),
        syscalls: true,
        quick: true,
        ..CASE
    },
    Case {
        id: "handshake",
        title: "16 clients, a TLS handshake for each request, 1 KB",
        load: Load::Handshake {
            threads: 16,
            resume: false,
        },
        ..CASE
    },
    Case {
        id: "handshake-resumed",
        title: "16 clients, a resumed TLS session for each request, 1 KB",
        load: Load::Handshake {
            threads: 16,
            resume: true,
        },
        quick: true,
        ..CASE
    },
    Case {
        id: "open-50",
        title: "open loop at 50 % of capacity, 256 connections, 1 KB",
        load: Load::Open {
            share: 0.5,
            connections: 256,
        },
        contenders: WITH_SERVER,
        ..CASE
    },
    Case {
        id: "open-80",
        title: "open loop at 80 % of capacity, 256 connections, 1 KB",
        load: Load::Open {
            share: 0.8,
            connections: 256,
        },
        contenders: WITH_SERVER,
        quick: true,
        ..CASE
    },
    Case {
        id: "idle",
        title: "64 busy connections beside 10,000 idle ones, 1 KB",
        load: Load::Closed(PLAIN),
        beside: Beside::Idle {
            count: 10_000,
            tls: false,
        },
        quick: true,
        ..CASE
    },
    Case {
        id: "idle-tls",
        title: "2000 idle TLS connections",
        beside: Beside::Idle {
            count: 2000,
            tls: true,
        },
        ..CASE
    },
    Case {
        id: "stalled",
        title: "64 busy connections beside 50 that never read their 64 MB, 1 KB",
        load: Load::Closed(PLAIN),
        beside: Beside::Stalled { count: 50 },
        ..CASE
    },
];

/// The case with this id.
pub(crate) fn by_id(id: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_series_are_told_from_the_rest() {
        let ids: HashSet<_> = CASES.iter().map(|case| case.id).collect();
        assert_eq!(ids.len(), CASES.len());
        let series: Vec<_> = CASES
            .iter()
            .filter(|case| case.is_in_series())
            .map(Case::connections)
            .collect();
        assert_eq!(series, [1, 16, 64, 256, 1024, 4096]);
    }

    #[test]
    fn system_calls_are_counted_at_64_connections_only() {
        for case in CASES.iter().filter(|case| case.syscalls) {
            assert_eq!(
                (case.connections(), case.needs_wrk()),
                (64, true),
                "{}",
                case.id
            );
        }
    }
}
