//! What to say when nothing fits: which device lacks how many bytes in the best case, and what would help.

use cutplane_plan::{Optimizer, Schedule};

use super::chain::{ends, starts};
use super::configuration::{Configuration, Placement, ScheduleKey};
use super::error::{PlanError, Shortfall};
use super::estimate::{StageCut, StepCosts};
use super::prices::Prices;
use super::problem::{MAX_MICRO_BATCHES, Problem};
use super::search::{Candidate, class_runs};

/// Most configurations that are examined for the explanation.
const MOST_EXAMINED: usize = 64;

/// The error for a problem whose candidates all fail. The best case is the split whose worst stage lacks least, over the
/// candidates that promise the smallest stages.
pub(super) fn infeasible(prices: &Prices<'_>, candidates: &[Candidate]) -> Result<PlanError, PlanError> {
    let mut configurations: Vec<Configuration> = candidates.iter().map(|candidate| candidate.configuration).collect();
    let held = |configuration: &Configuration| {
        configuration.micro_batch_size(prices.problem.global_batch).saturating_mul(configuration.in_flight(0))
    };
    configurations.sort_by_key(|configuration| (std::cmp::Reverse(configuration.stages), held(configuration)));
    let mut least: Option<Shortfall> = None;
    for configuration in configurations.into_iter().take(MOST_EXAMINED) {
        let shortfall = least_shortfall(prices, configuration)?;
        let better = |known: &Shortfall| shortfall.as_ref().is_some_and(|new| new.missing() < known.missing());
        if least.as_ref().is_none_or(better) {
            least = shortfall.or(least);
        }
    }
    let Some(shortfall) = least else {
        // Memory is no obstacle, so only the numbers of devices of the classes are.
        let reason = "no class of devices has room for the asked data degree and stages".to_owned();
        return Ok(PlanError::EmptySpace { reason });
    };
    if shortfall.missing().is_zero() && !prices.problem.limits.layer_pins.is_empty() {
        let reason = "the pinned layers leave no plan: later layers lie on later stages; drop a pin".to_owned();
        return Ok(PlanError::EmptySpace { reason });
    }
    let remedy = remedy(prices, &shortfall)?;
    Ok(PlanError::Infeasible { shortfall: Box::new(shortfall), remedy })
}

/// The shortfall of the best split of one configuration; `None` when it has no split at all.
fn least_shortfall(prices: &Prices<'_>, configuration: Configuration) -> Result<Option<Shortfall>, PlanError> {
    let costs = prices.step_costs(configuration)?;
    let mut best: Option<(u64, Vec<StageCut>)> = None;
    for sequence in class_runs(&costs) {
        let split = least_missing(prices, &costs, &sequence)?;
        if best.as_ref().is_none_or(|known| split.0 < known.0) {
            best = Some(split);
        }
    }
    let Some((_, cuts)) = best else { return Ok(None) };
    let (mut first, mut worst) = (0, None::<Shortfall>);
    for (stage, cut) in cuts.iter().enumerate() {
        let needed = prices.needed(&configuration, first, cut.end, stage, cut.class)?;
        let available = prices.fleet.memory(cut.class);
        let missing = needed.saturating_sub(available);
        if worst.as_ref().is_none_or(|known| missing > known.missing()) {
            let ordinal = cuts[..stage].iter().filter(|other| other.class == cut.class).count();
            let device = prices.fleet.device(prices.fleet.group(cut.class, &configuration, ordinal)[0]);
            worst = Some(Shortfall {
                device: device.name.clone(),
                device_model: device.spec.model.clone(),
                configuration: configuration.name(),
                stage,
                needed,
                available,
            });
        }
        first = cut.end;
    }
    Ok(worst)
}

/// The split whose largest excess over memory is least: bytes missing, and the split.
fn least_missing(
    prices: &Prices<'_>,
    costs: &StepCosts,
    sequence: &[usize],
) -> Result<(u64, Vec<StageCut>), PlanError> {
    let (blocks, stages) = (costs.blocks, costs.stages());
    let mut rest: Vec<u64> = (0..=blocks).map(|cut| if cut == blocks { 0 } else { u64::MAX }).collect();
    let mut choice = vec![vec![blocks; blocks + 1]; stages];
    for position in (0..stages).rev() {
        let class = sequence[position];
        let available = prices.fleet.memory(class);
        let mut here = vec![u64::MAX; blocks + 1];
        for first in starts(position, stages, blocks) {
            for end in ends(first, position, stages, blocks) {
                let needed = prices.needed(&costs.configuration, first, end, position, class)?;
                let missing = needed.saturating_sub(available).get().max(rest[end]);
                if missing < here[first] {
                    here[first] = missing;
                    choice[position][first] = end;
                }
            }
        }
        rest = here;
    }
    let mut first = 0;
    let cut = |(position, class): (usize, &usize)| {
        first = choice[position][first];
        StageCut { end: first, class: *class }
    };
    Ok((rest[0], sequence.iter().enumerate().map(cut).collect()))
}

/// The first change of a list, from small to large, with which something fits.
fn remedy(prices: &Prices<'_>, shortfall: &Shortfall) -> Result<String, PlanError> {
    let problem = prices.problem;
    let configuration = Configuration {
        data_degree: 1,
        stages: prices.fleet.device_count().min(prices.blocks.len()),
        micro_batches: 1,
        schedule: ScheduleKey::OneFOneB,
        placement: Placement::ReplicasAdjacent,
    };
    let asked_only = |list: &Option<Vec<Schedule>>| list.as_ref().is_some_and(|l| !l.contains(&Schedule::OneFOneB));
    if asked_only(&problem.limits.schedules) && fits_somehow(prices, problem, configuration)? {
        return Ok("allow the 1f1b schedule, which holds fewer micro-batches".to_owned());
    }
    if let Some(count) = micro_batches_that_fit(prices, configuration)? {
        let name = Configuration { micro_batches: count, ..configuration }.name();
        return Ok(format!("it would fit as {name}: allow {count} micro-batches and {} stages", configuration.stages));
    }
    if let Some(devices) = devices_that_fit(prices)? {
        return Ok(format!("it would fit on {devices} devices like {}: take a larger cluster", shortfall.device));
    }
    if problem.optimizer != Optimizer::Sgd {
        let plain = Problem { optimizer: Optimizer::Sgd, ..problem.clone() };
        if fits_somehow(prices, &plain, configuration)? {
            return Ok("it would fit with --optimizer sgd, which keeps no state".to_owned());
        }
    }
    Ok(format!("devices with at least {} would do, or a smaller model or batch", shortfall.needed))
}

fn divisors(number: u64, most: u64) -> impl Iterator<Item = u64> {
    (1..=number.min(most)).filter(move |count| number.is_multiple_of(*count))
}

/// Whether the configuration fits with as many micro-batches as the batch allows.
fn fits_somehow(prices: &Prices<'_>, problem: &Problem<'_>, like: Configuration) -> Result<bool, PlanError> {
    let most = divisors(problem.global_batch, MAX_MICRO_BATCHES * 64).max().unwrap_or(1);
    let configuration = Configuration { micro_batches: most, ..like };
    let batch = configuration.micro_batch_size(problem.global_batch);
    chain_fits(prices, problem, &configuration, batch, None)
}

/// The least number of micro-batches with which one replica on all devices fits.
fn micro_batches_that_fit(prices: &Prices<'_>, like: Configuration) -> Result<Option<u64>, PlanError> {
    let problem = prices.problem;
    for micro_batches in divisors(problem.global_batch, MAX_MICRO_BATCHES * 64) {
        let configuration = Configuration { micro_batches, ..like };
        let batch = configuration.micro_batch_size(problem.global_batch);
        if chain_fits(prices, problem, &configuration, batch, None)? {
            return Ok(Some(micro_batches));
        }
    }
    Ok(None)
}

/// The least number of devices of the roomiest class on which a pipeline with the smallest micro-batches fits.
fn devices_that_fit(prices: &Prices<'_>) -> Result<Option<usize>, PlanError> {
    let problem = prices.problem;
    let roomiest = (0..prices.fleet.classes().len()).max_by_key(|class| prices.fleet.memory(*class)).unwrap_or(0);
    let micro_batches = divisors(problem.global_batch, MAX_MICRO_BATCHES * 64).max().unwrap_or(1);
    for stages in prices.fleet.device_count() + 1..=prices.blocks.len() {
        let (schedule, placement) = (ScheduleKey::OneFOneB, Placement::ReplicasAdjacent);
        let configuration = Configuration { data_degree: 1, stages, micro_batches, schedule, placement };
        let batch = configuration.micro_batch_size(problem.global_batch);
        if chain_fits(prices, problem, &configuration, batch, Some(roomiest))? {
            return Ok(Some(stages));
        }
    }
    Ok(None)
}

/// Whether a pipeline fits when each stage takes as many blocks as it can; `class` stands for every device, or else the
/// cluster's own run of classes is used.
fn chain_fits(
    prices: &Prices<'_>,
    problem: &Problem<'_>,
    configuration: &Configuration,
    batch: u64,
    class: Option<usize>,
) -> Result<bool, PlanError> {
    let own = (0..prices.fleet.classes().len())
        .flat_map(|class| std::iter::repeat_n(class, prices.fleet.classes()[class].devices.len()));
    let classes: Vec<usize> = match class {
        Some(class) => vec![class; configuration.stages],
        None => own.take(configuration.stages).collect(),
    };
    let mut first = 0;
    for (position, class) in classes.iter().enumerate() {
        let memory = prices.memory(batch, *class)?;
        let available = prices.fleet.memory(*class);
        let fits = |end: usize| {
            let ops = prices.blocks.ops(first, end);
            let in_flight = configuration.in_flight(position);
            memory.interval(ops.start, ops.end, problem.optimizer, in_flight).total <= available
        };
        // Later stages hold fewer micro-batches, so leaving as little as possible to them is best.
        let last = prices.blocks.len() - (classes.len() - position - 1).min(prices.blocks.len() - first - 1);
        let Some(end) = (first + 1..=last).rev().find(|end| fits(*end)) else { return Ok(false) };
        first = end;
        if first == prices.blocks.len() {
            return Ok(true);
        }
    }
    Ok(false)
}
