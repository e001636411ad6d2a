//! Views of the results by case and contender.

use crate::contenders::Contender;
use crate::results::{Results, Run};
use crate::stats::{ByRound, median, paired_difference, paired_ratio};

/// One figure of a run.
pub(crate) type Figure = fn(&Run) -> Option<f64>;

/// `None` for a run without load. A contender that never responds has 0.
pub(crate) fn rate(run: &Run) -> Option<f64> {
    (run.seconds > 0.0).then_some(run.rate)
}

pub(crate) fn cpu(run: &Run) -> Option<f64> {
    run.cpu_us
}

pub(crate) fn p50(run: &Run) -> Option<f64> {
    run.percentile(50.0)
}

pub(crate) fn p90(run: &Run) -> Option<f64> {
    run.percentile(90.0)
}

pub(crate) fn p99(run: &Run) -> Option<f64> {
    run.percentile(99.0)
}

/// Throughput with clients beside the load, relative to that without them right before.
pub(crate) fn beside_ratio(run: &Run) -> Option<f64> {
    run.without
        .filter(|without| *without > 0.0)
        .map(|without| run.rate / without)
}

pub(crate) fn held_kib(run: &Run) -> Option<f64> {
    run.held_kib
}

/// The results, ready for questions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a>(pub(crate) &'a Results);

impl View<'_> {
    pub(crate) fn by_round(&self, case: &str, contender: Contender, figure: Figure) -> ByRound {
        self.0
            .runs
            .iter()
            .filter(|run| run.case == case && run.contender == contender)
            .filter_map(|run| Some((run.round, figure(run)?)))
            .collect()
    }

    pub(crate) fn median(&self, case: &str, contender: Contender, figure: Figure) -> Option<f64> {
        median(self.by_round(case, contender, figure).into_values())
    }

    pub(crate) fn has(&self, case: &str) -> bool {
        self.0.runs.iter().any(|run| run.case == case)
    }

    /// The peer with the higher median throughput.
    pub(crate) fn better_peer(&self, case: &str) -> Option<Contender> {
        self.ahead(case, &Contender::PEERS)
    }

    /// The one of these with the highest median throughput.
    pub(crate) fn ahead(&self, case: &str, of: &[Contender]) -> Option<Contender> {
        of.iter()
            .filter_map(|contender| Some((*contender, self.median(case, *contender, rate)?)))
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .map(|(contender, _)| contender)
    }

    /// The median of the rounds' ratios.
    pub(crate) fn ratio(
        &self,
        case: &str,
        one: Contender,
        other: Contender,
        figure: Figure,
    ) -> Option<f64> {
        paired_ratio(
            &self.by_round(case, one, figure),
            &self.by_round(case, other, figure),
        )
    }

    /// The median of the rounds' differences.
    pub(crate) fn difference(
        &self,
        case: &str,
        one: Contender,
        other: Contender,
        figure: Figure,
    ) -> Option<f64> {
        paired_difference(
            &self.by_round(case, one, figure),
            &self.by_round(case, other, figure),
        )
    }
}
