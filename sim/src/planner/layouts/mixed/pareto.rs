//! Step time against devices of each class.

use super::super::error::LayoutError;
use super::super::objective::Objective;
use super::super::problem::LayoutBudget;
use super::plan::{MixedOutcome, MixedPlan};
use super::problem::MixedProblem;
use super::search::{all_reservations, attempt, check};
use super::stages::Stages;

/// The front of step time against devices: for each choice of classes, whole or halved down to one host, the fastest plan,
/// without those that another plan is as fast as with no more devices of any class. Fewest reserved devices first. Each
/// search has the whole budget.
///
/// # Errors
/// [`LayoutError`] of a search; devices on which nothing fits are left out.
pub fn pareto(problem: &MixedProblem<'_>, budget: &LayoutBudget<'_>) -> Result<Vec<MixedOutcome>, LayoutError> {
    check(problem)?;
    let timed = MixedProblem { objective: Objective::StepTime, ..problem.clone() };
    let budget = LayoutBudget { top_k: 1, ..*budget };
    let stages = Stages::new(&timed);
    let mut all: Vec<MixedOutcome> = Vec::new();
    for caps in all_reservations(problem) {
        let Some(found) = attempt(&stages, &[caps], &budget)? else { continue };
        if !all.iter().any(|known| is_no_worse(&known.plan, &found.plan)) {
            all.retain(|known| !is_no_worse(&found.plan, &known.plan));
            all.push(found);
        }
    }
    Ok(all)
}

/// Whether `one` takes no more time and no more devices of any class than `other`.
fn is_no_worse(one: &MixedPlan, other: &MixedPlan) -> bool {
    let of_other = |class: &str| other.devices.iter().find(|(name, _)| name == class).map_or(0, |(_, count)| *count);
    one.predicted_step_s <= other.predicted_step_s && one.devices.iter().all(|(class, count)| *count <= of_other(class))
}
