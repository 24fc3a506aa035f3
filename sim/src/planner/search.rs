//! What all searchers share: the best splits so far, and the order in which configurations are looked at.

use std::collections::BTreeMap;

use super::configuration::{Configuration, configurations};
use super::error::PlanError;
use super::estimate::{StageCut, StepCosts, StepEstimate};
use super::prices::Prices;

/// A split of a configuration that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The configuration.
    pub(super) configuration: Configuration,
    /// Its stages.
    pub(super) cuts: Vec<StageCut>,
    /// Its step time.
    pub(super) estimate: StepEstimate,
}

/// The best split of each pair of data degree and number of stages.
#[derive(Clone, Debug, Default)]
pub(super) struct Incumbents {
    families: BTreeMap<(usize, usize), Found>,
}

impl Incumbents {
    fn family(configuration: &Configuration) -> (usize, usize) {
        (configuration.data_degree, configuration.stages)
    }

    /// Offers a split; kept when it is the fastest of its family.
    pub(super) fn offer(&mut self, found: Found) {
        let family = Self::family(&found.configuration);
        let known = self.families.get(&family).map_or(u64::MAX, |known| known.estimate.total);
        if found.estimate.total < known {
            self.families.insert(family, found);
        }
    }

    /// All kept splits, fastest first.
    pub(super) fn ranking(&self) -> Vec<&Found> {
        let mut all: Vec<&Found> = self.families.values().collect();
        all.sort_by_key(|found| (found.estimate.total, found.configuration));
        all
    }

    /// The fastest.
    pub(super) fn best(&self) -> Option<&Found> {
        self.families.values().min_by_key(|found| (found.estimate.total, found.configuration))
    }

    /// Step time of the fastest, ns.
    pub(super) fn objective(&self) -> Option<u64> {
        self.best().map(|found| found.estimate.total)
    }

    /// A split of `configuration` is of interest only when it takes less than this: it must beat its family, and be the
    /// fastest or second fastest of the families. Never less than the objective.
    pub(super) fn limit(&self, configuration: &Configuration) -> u64 {
        let own = self.families.get(&Self::family(configuration)).map_or(u64::MAX, |found| found.estimate.total);
        let second = self.ranking().get(1).map_or(u64::MAX, |found| found.estimate.total);
        own.min(second)
    }
}

/// A configuration with a step time that no split of it beats, ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// The configuration.
    pub(super) configuration: Configuration,
    /// The bound.
    pub(super) bound: u64,
}

/// All configurations, most promising first.
pub(super) fn candidates(prices: &Prices<'_>) -> Result<Vec<Candidate>, PlanError> {
    let all = configurations(prices.problem, &prices.fleet, prices.blocks.len())?;
    let mut candidates = Vec::with_capacity(all.len());
    for configuration in all {
        candidates.push(Candidate { configuration, bound: prices.work_bound(&configuration)? });
    }
    candidates.sort_by_key(|candidate| (candidate.bound, candidate.configuration));
    Ok(candidates)
}

/// Most sequences of classes that are tried for one configuration.
const MOST_SEQUENCES: usize = 512;

/// Ways to give positions to classes such that each class is one run: for up to three classes in every order of the
/// classes, for more in cluster order and its reverse.
pub(super) fn class_runs(costs: &StepCosts) -> Vec<Vec<usize>> {
    let classes: Vec<usize> = (0..costs.classes()).filter(|class| costs.capacities[*class] > 0).collect();
    let orders = if classes.len() <= 3 {
        permutations(&classes)
    } else {
        vec![classes.clone(), classes.iter().rev().copied().collect()]
    };
    let mut sequences = Vec::new();
    for order in orders {
        extend_runs(costs, &order, Vec::new(), &mut sequences);
    }
    sequences.sort_unstable();
    sequences.dedup();
    sequences
}

fn permutations(classes: &[usize]) -> Vec<Vec<usize>> {
    if classes.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = |first: usize| {
        let rest: Vec<usize> = classes.iter().copied().filter(|class| *class != first).collect();
        permutations(&rest).into_iter().map(move |tail| std::iter::once(first).chain(tail).collect())
    };
    classes.iter().copied().flat_map(with_first).collect()
}

fn extend_runs(costs: &StepCosts, order: &[usize], sequence: Vec<usize>, all: &mut Vec<Vec<usize>>) {
    let missing = costs.stages() - sequence.len();
    if missing == 0 {
        all.push(sequence);
        return;
    }
    let Some((class, rest)) = order.split_first() else { return };
    for run in 0..=missing.min(costs.capacities[*class]) {
        if all.len() >= MOST_SEQUENCES {
            return;
        }
        let longer = sequence.iter().copied().chain(std::iter::repeat_n(*class, run)).collect();
        extend_runs(costs, rest, longer, all);
    }
}
