//! Everything, one by one: the oracle of the tests.

use super::super::error::LayoutError;
use super::super::exhaustive::exhaustive as of_class;
use super::pipelines::candidates;
use super::problem::{MixedProblem, nanos};
use super::replicas::compositions;
use super::search::{reservations, value};
use crate::estimate::{EstimateError, Estimator, Layout, Recompute};
use crate::footprint::{self, Footprint};
use crate::planner::layouts::RecomputeChoice;

/// The least value of the objective over all pipelines over classes and all unlike replicas. Shares the layouts and the price
/// of a stage with [`search`](fn@super::search), and nothing of its bounds, dynamic programs and windows: every split of the
/// layers, every class of every stage and every number of recomputed layers is tried, each stage priced and counted within
/// its whole pipeline.
///
/// # Errors
/// [`LayoutError`] when the model cannot be priced; `Ok(None)` when nothing fits.
pub fn exhaustive(problem: &MixedProblem<'_>) -> Result<Option<f64>, LayoutError> {
    let mut best: Option<f64> = None;
    for caps in reservations(problem) {
        let pipelines = pipelines(problem, &caps)?.map(|step| step as f64 / 1e9);
        for seconds in pipelines.into_iter().chain(replicas(problem, &caps)?) {
            let value = value(problem, seconds, &caps);
            best = Some(best.map_or(value, |best| best.min(value)));
        }
    }
    Ok(best)
}

fn replicas(problem: &MixedProblem<'_>, caps: &[u64]) -> Result<Option<f64>, LayoutError> {
    let step = problem.share_step();
    let mut best: Option<f64> = None;
    for shares in compositions(problem.global_batch / step, problem.classes.len()) {
        let mut longest = Some(0.0_f64);
        for (class, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0) {
            let mut own = problem.class(class, share * step);
            own.pins.devices = (caps[class] < own.devices()).then_some(caps[class]);
            let seconds = if caps[class] == 0 { None } else { of_class(&own)?.map(|(seconds, _)| seconds) };
            longest = longest.zip(seconds).map(|(a, b)| a.max(b));
        }
        let devices: Vec<u64> =
            caps.iter().zip(&shares).map(|(cap, share)| if *share > 0 { *cap } else { 0 }).collect();
        let seconds = longest.map(|longest| longest + problem.exchange_seconds(&devices));
        best = best.into_iter().chain(seconds).reduce(f64::min);
    }
    Ok(best)
}

fn pipelines(problem: &MixedProblem<'_>, caps: &[u64]) -> Result<Option<u64>, EstimateError> {
    let classes =
        problem.classes.iter().map(|class| Estimator::new(problem.model, class.gpu, class.fabric, class.stack));
    let estimators: Vec<Estimator<'_>> = classes.collect();
    let layers = problem.model.layers();
    let mut best: Option<u64> = None;
    for candidate in candidates(problem, caps)? {
        let room: usize = candidate.capacities.iter().sum();
        for stages in
            (1..=room.min(layers as usize)).filter(|count| problem.pins.pp.is_none_or(|pin| pin == *count as u64))
        {
            for split in compositions(layers - stages as u64, stages) {
                let split: Vec<u64> = split.iter().map(|more| more + 1).collect();
                let pp = stages as u64;
                let layout = Layout { pp, stage_split: (pp > 1).then_some(split.clone()), ..candidate.layout.clone() };
                for sequence in sequences(&candidate.capacities, stages) {
                    let step = step(problem, &estimators, &layout, &split, &sequence)?;
                    best = best.into_iter().chain(step).min();
                }
            }
        }
    }
    Ok(best)
}

/// Every class for every stage, as far as there is room.
fn sequences(capacities: &[usize], stages: usize) -> Vec<Vec<usize>> {
    if stages == 0 {
        return vec![Vec::new()];
    }
    let with = |class: usize| {
        let mut rest = capacities.to_vec();
        rest[class] -= 1;
        sequences(&rest, stages - 1).into_iter().map(move |tail| [vec![class], tail].concat())
    };
    (0..capacities.len()).filter(|class| capacities[*class] > 0).flat_map(with).collect()
}

/// The step of one pipeline, each stage recomputing what is cheapest; `None` when a stage does not fit.
fn step(
    problem: &MixedProblem<'_>,
    estimators: &[Estimator<'_>],
    layout: &Layout,
    split: &[u64],
    sequence: &[usize],
) -> Result<Option<u64>, EstimateError> {
    let (mut traverse, mut period, mut tail) = (0, 0, 0);
    for (stage, class) in sequence.iter().enumerate() {
        let mut cheapest: Option<(u64, u64)> = None;
        for recompute in recomputes(problem, split[stage]) {
            let own = Layout { recompute, ..layout.clone() };
            let footprint = footprint::of_model(problem.graph, &own, problem.keeping)?;
            if !fits(&footprint, stage, problem.classes[*class].device_memory) {
                continue;
            }
            let (prices, _) = estimators[*class].stage_prices(&own)?;
            let priced = (nanos(prices[stage].seconds), nanos(prices[stage].tail));
            if cheapest.is_none_or(|known| priced.0 < known.0) {
                cheapest = Some(priced);
            }
        }
        let Some((time, after)) = cheapest else { return Ok(None) };
        (traverse, period, tail) = (traverse + time, period.max(time), tail.max(after));
    }
    let crossing = problem.crossing_seconds(layout);
    for pair in sequence.windows(2) {
        let own = |class: usize| estimators[class].stage_prices(layout).map(|(_, hop)| hop);
        let hop = if pair[0] == pair[1] { own(pair[0])? } else { crossing.max(own(pair[0])?).max(own(pair[1])?) };
        (traverse, period) = (traverse + 2 * nanos(hop), period.max(nanos(hop)));
    }
    let tied = if sequence.len() > 1 { nanos(problem.tied_seconds(layout)) } else { 0 };
    let steady = (layout.micro_batches() - 1) * period;
    Ok(Some(traverse + tied + steady + tail + nanos(problem.overhead_seconds())))
}

fn fits(footprint: &Footprint, stage: usize, capacity: u64) -> bool {
    footprint.stages[stage].parts.total() <= footprint.room(capacity)
}

fn recomputes(problem: &MixedProblem<'_>, layers: u64) -> Vec<Recompute> {
    let some = (1..layers).map(Recompute::Layers);
    let all = [Recompute::None, Recompute::Selective, Recompute::Full].into_iter().chain(some);
    all.filter(|one| problem.pins.recompute.is_none_or(|pin| pin == RecomputeChoice::of(*one))).collect()
}
