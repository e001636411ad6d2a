//! The aims of juggler, and how far they are reached.

use crate::aims::Bound::{AtLeast, AtMost};
use crate::contenders::Contender::{self, Juggler, JugglerPipeline};
use crate::view::{Figure, View, beside_ratio, cpu, held_kib, p99, rate};

/// The bound of an aim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// One aim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    pub(crate) what: &'static str,
    case: &'static str,
    figure: Figure,
    /// Whether the figure is a ratio to the better peer, or juggler's own.
    paired: bool,
    pub(crate) contender: Contender,
    pub(crate) bound: Bound,
    pub(crate) unit: &'static str,
}

/// How far an aim was reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    pub(crate) aim: Aim,
    pub(crate) value: Option<f64>,
    /// The better peer of the case.
    pub(crate) peer: Option<Contender>,
}

impl Reached {
    /// Returns `None` where the aim was not measured.
    pub(crate) fn is_met(&self) -> Option<bool> {
        self.value.map(|value| match self.aim.bound {
            AtLeast(bound) => value >= bound,
            AtMost(bound) => value <= bound,
        })
    }
}

const fn against_peer(
    what: &'static str,
    case: &'static str,
    figure: Figure,
    contender: Contender,
    bound: Bound,
) -> Aim {
    Aim {
        what,
        case,
        figure,
        paired: true,
        contender,
        bound,
        unit: "",
    }
}

/// All aims.
const AIMS: &[Aim] = &[
    against_peer(
        "Throughput at 64 connections",
        "c64",
        rate,
        Juggler,
        AtLeast(0.95),
    ),
    against_peer(
        "Throughput at 64 connections",
        "c64",
        rate,
        JugglerPipeline,
        AtLeast(1.1),
    ),
    against_peer(
        "Throughput at 1024 connections",
        "c1024",
        rate,
        Juggler,
        AtLeast(1.2),
    ),
    against_peer(
        "Throughput at 1024 connections",
        "c1024",
        rate,
        JugglerPipeline,
        AtLeast(1.4),
    ),
    against_peer(
        "Throughput at 4096 connections",
        "c4096",
        rate,
        Juggler,
        AtLeast(1.0),
    ),
    against_peer(
        "Throughput at 4096 connections",
        "c4096",
        rate,
        JugglerPipeline,
        AtLeast(1.3),
    ),
    against_peer(
        "CPU per request at 64 connections",
        "c64",
        cpu,
        Juggler,
        AtMost(1.1),
    ),
    against_peer(
        "CPU per request at 64 connections",
        "c64",
        cpu,
        JugglerPipeline,
        AtMost(0.9),
    ),
    against_peer(
        "CPU per request at 1024 connections",
        "c1024",
        cpu,
        Juggler,
        AtMost(0.8),
    ),
    against_peer(
        "CPU per request at 1024 connections",
        "c1024",
        cpu,
        JugglerPipeline,
        AtMost(0.65),
    ),
    against_peer(
        "CPU per request at 4096 connections",
        "c4096",
        cpu,
        Juggler,
        AtMost(1.0),
    ),
    against_peer(
        "CPU per request at 4096 connections",
        "c4096",
        cpu,
        JugglerPipeline,
        AtMost(0.8),
    ),
    against_peer("p99 at 64 connections", "c64", p99, Juggler, AtMost(1.2)),
    against_peer(
        "p99 at 64 connections",
        "c64",
        p99,
        JugglerPipeline,
        AtMost(1.2),
    ),
    against_peer(
        "p99 at 1024 connections",
        "c1024",
        p99,
        Juggler,
        AtMost(1.2),
    ),
    against_peer(
        "p99 at 1024 connections",
        "c1024",
        p99,
        JugglerPipeline,
        AtMost(1.2),
    ),
    against_peer(
        "p99 at 4096 connections",
        "c4096",
        p99,
        Juggler,
        AtMost(1.2),
    ),
    against_peer(
        "p99 at 4096 connections",
        "c4096",
        p99,
        JugglerPipeline,
        AtMost(1.2),
    ),
    against_peer(
        "Throughput of HTTPS, connections kept",
        "https",
        rate,
        Juggler,
        AtLeast(1.0),
    ),
    against_peer("Throughput at 100 KB", "100k", rate, Juggler, AtLeast(1.0)),
    against_peer("Throughput at 1 MB", "1m", rate, Juggler, AtLeast(1.0)),
    against_peer(
        "Throughput with a connection for each request",
        "close",
        rate,
        Juggler,
        AtLeast(0.95),
    ),
    Aim {
        what: "Memory for each idle client, plain HTTP",
        case: "idle",
        figure: held_kib,
        paired: false,
        contender: Juggler,
        bound: AtMost(24.0),
        unit: " KiB",
    },
    Aim {
        what: "Throughput beside 10,000 idle clients, against that without",
        case: "idle",
        figure: beside_ratio,
        paired: false,
        contender: Juggler,
        bound: AtLeast(0.9),
        unit: "",
    },
];

/// Compares all aims with the results.
pub(crate) fn reached(view: View<'_>) -> Vec<Reached> {
    let judge = |aim: &Aim| {
        let peer = view.better_peer(aim.case).filter(|_| aim.paired);
        let value = if aim.paired {
            peer.and_then(|peer| view.ratio(aim.case, aim.contender, peer, aim.figure))
        } else {
            view.median(aim.case, aim.contender, aim.figure)
        };
        Reached {
            aim: *aim,
            value,
            peer,
        }
    };
    AIMS.iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_aim_is_of_a_case_that_has_its_contender() {
        for aim in AIMS {
            let case = crate::cases::by_id(aim.case).unwrap();
            assert!(
                case.contenders.contains(&aim.contender),
                "{}: {}",
                aim.what,
                aim.case
            );
        }
    }

    #[test]
    fn bounds_are_met_from_their_side() {
        let reached = |bound, value| Reached {
            aim: Aim { bound, ..AIMS[0] },
            value,
            peer: None,
        };
        assert_eq!(reached(AtLeast(1.0), Some(1.0)).is_met(), Some(true));
        assert_eq!(reached(AtLeast(1.0), Some(0.99)).is_met(), Some(false));
        assert_eq!(reached(AtMost(24.0), Some(24.1)).is_met(), Some(false));
        assert_eq!(reached(AtMost(24.0), Some(20.0)).is_met(), Some(true));
        assert_eq!(reached(AtMost(24.0), None).is_met(), None);
    }
}
