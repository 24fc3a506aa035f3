//! Plans by name: `single`, `dp2`, `pp2-1f1b-m8`, `tp2xdp2-zero1`.

mod interleave;
mod name;

use cutplane_plan::Plan;

use super::chain_dp::best_of_costs;
use super::configuration::{Configuration, Placement};
use super::error::PlanError;
use super::estimate::StepCosts;
use super::fleet::Fleet;
use super::infeasible::infeasible;
use super::outcome::plan;
use super::prices::Prices;
use super::problem::Problem;
use super::search::{Candidate, Found, class_runs};
use super::split::even_cuts;
use crate::cost::CostModel;

use interleave::interleave;
pub use name::PLAN_NAME_PARTS;
use name::PlanName;

/// Builds the plan that a name describes; [`PLAN_NAME_PARTS`] says what a name is made of. The plan carries the name and no
/// search record. [`Problem::limits`] is ignored.
///
/// The cuts are the fastest ones under the closed form of [`super::estimate`], for the nearest schedule that it knows. Of
/// plans that keep less on a device than plain ones, those with a tensor axis, divided state or recomputation, no cut is
/// refused for its memory: what they need is left to the simulator. The stages of an interleaved pipeline are as equal in time
/// as cuts make them.
///
/// # Errors
/// [`PlanError::Name`] naming the part that is wrong or does not fit the problem; [`PlanError::Infeasible`]; others of
/// [`PlanError`].
pub fn named_plan(problem: &Problem<'_>, cost: &dyn CostModel, name: &str) -> Result<Plan, PlanError> {
    let refuse = |reason: String| PlanError::Name { name: name.to_owned(), problem: reason };
    let parsed = PlanName::parse(name).map_err(refuse)?;
    let execution = parsed.execution(problem.model).map_err(refuse)?;
    check_batch(problem, &parsed).map_err(refuse)?;
    // Ranks of a tensor axis are counted as replicas; with as many times the batch, micro-batches stay what they are.
    let widened =
        Problem { global_batch: problem.global_batch.saturating_mul(parsed.axis_degree() as u64), ..problem.clone() };
    let prices = Prices::new(&widened, cost)?;
    check_fit(&prices.fleet, prices.blocks.len(), &parsed).map_err(refuse)?;
    let found = found(&prices, &parsed)?;
    let mut plan = plan(&prices, &found, name);
    plan.workload.global_batch = problem.global_batch;
    plan.schedule = parsed.schedule();
    plan.execution = execution;
    if parsed.stages_a_rank > 1 {
        interleave(&mut plan, &prices, cost, &parsed)?;
    }
    Ok(plan)
}

/// The cuts of the plan.
fn found(prices: &Prices<'_>, parsed: &PlanName) -> Result<Found, PlanError> {
    let single_class = prices.fleet.classes().len() == 1;
    let neighbours_split = parsed.axis_degree() > 1 || parsed.stages_a_rank > 1;
    let placements: &[Placement] = if single_class && !neighbours_split {
        &[Placement::ReplicasAdjacent, Placement::StagesAdjacent]
    } else {
        &[Placement::ReplicasAdjacent]
    };
    let mut best: Option<Found> = None;
    for placement in placements {
        let costs = prices.step_costs(parsed.configuration(*placement))?;
        let costs = if parsed.is_searched() { costs } else { costs.without_memory_limits() };
        let found = if parsed.even { even(&costs) } else { best_of_costs(&costs) };
        let faster = |known: &Found| found.as_ref().is_some_and(|new| new.estimate.total < known.estimate.total);
        if best.as_ref().is_none_or(faster) {
            best = found.or(best);
        }
    }
    let configuration = parsed.configuration(Placement::ReplicasAdjacent);
    match best {
        Some(found) => Ok(found),
        None => Err(infeasible(prices, &[Candidate { configuration, bound: 0 }])?),
    }
}

fn check_batch(problem: &Problem<'_>, parsed: &PlanName) -> Result<(), String> {
    let (batch, replicas) = (problem.global_batch, parsed.data_degree);
    let micro_batches = parsed.configuration(Placement::ReplicasAdjacent).micro_batches;
    let parts = (replicas as u64).saturating_mul(micro_batches);
    if batch == 0 || !batch.is_multiple_of(parts) {
        return Err(format!(
            "the global batch of {batch} cannot be cut into {replicas} replicas x {micro_batches} micro-batches: \
             choose a multiple of {parts}"
        ));
    }
    Ok(())
}

fn check_fit(fleet: &Fleet<'_>, blocks: usize, parsed: &PlanName) -> Result<(), String> {
    let Configuration { data_degree: group, stages, .. } = parsed.configuration(Placement::ReplicasAdjacent);
    let capacity: usize = fleet.capacities(group).iter().sum();
    if stages > capacity {
        let wanted = group.saturating_mul(stages);
        return Err(format!(
            "asks for {wanted} devices ({stages} stages of {group} equal ones), the cluster has {}",
            fleet.device_count()
        ));
    }
    let pieces = stages.saturating_mul(parsed.stages_a_rank);
    if pieces > blocks {
        return Err(format!("'pp{stages}' asks for more stages ({pieces}) than the model has operators ({blocks})"));
    }
    Ok(())
}

/// The equal split of a configuration, in the first order of classes in which it fits.
fn even(costs: &StepCosts) -> Option<Found> {
    let fits = |sequence: Vec<usize>| {
        let cuts = even_cuts(costs, &sequence);
        let estimate = costs.estimate(&cuts)?;
        Some(Found { configuration: costs.configuration, cuts, estimate })
    };
    class_runs(costs).into_iter().find_map(fits)
}
