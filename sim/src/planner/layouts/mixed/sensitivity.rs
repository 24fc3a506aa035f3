//! What alternatives to a plan over classes would cost: the same search with one thing changed.

use super::super::error::LayoutError;
use super::super::problem::LayoutBudget;
use super::super::sensitivity::{Sensitivity, decisions, halved};
use super::plan::{MixedOutcome, MixedShape};
use super::problem::{Joint, MOST_STAGES, MixedProblem};
use super::search::{attempt, check, reservations};
use super::stages::Stages;

/// What it costs, with everything else free to follow: decisions of the plan taken otherwise, a class left out, half the
/// bandwidth between classes and of each level of a class, a tenth more and less memory of a class.
///
/// # Errors
/// [`LayoutError`] of a search.
pub fn sensitivities(
    problem: &MixedProblem<'_>,
    chosen: &MixedOutcome,
    budget: &LayoutBudget<'_>,
) -> Result<Vec<Sensitivity>, LayoutError> {
    let mut all = Vec::new();
    for (change, pins) in of_plan(problem, chosen) {
        all.push(compare(change, &MixedProblem { pins, ..problem.clone() }, chosen, budget)?);
    }
    if problem.classes.len() > 1 {
        let joint = Joint { bandwidth: problem.joint.bandwidth / 2.0, ..problem.joint };
        let changed = MixedProblem { joint, ..problem.clone() };
        all.push(compare("half the bandwidth between classes".to_owned(), &changed, chosen, budget)?);
    }
    for (at, class) in problem.classes.iter().enumerate() {
        let name = &class.name;
        if problem.classes.len() > 1 {
            let mut changed = problem.clone();
            changed.classes.remove(at);
            all.push(compare(format!("without {name}"), &changed, chosen, budget)?);
        }
        for (level, joined) in class.fabric.levels().iter().enumerate() {
            let Some(fabric) = halved(class.fabric, level) else { continue };
            let mut changed = problem.clone();
            changed.classes[at].fabric = &fabric;
            let change = format!("half the bandwidth of {:?} of {name}", joined.interconnect);
            all.push(compare(change, &changed, chosen, budget)?);
        }
        for (change, share) in [("more", 1.1), ("less", 0.9)] {
            let mut changed = problem.clone();
            changed.classes[at].device_memory = (class.device_memory as f64 * share) as u64;
            all.push(compare(format!("a tenth {change} memory of {name}"), &changed, chosen, budget)?);
        }
    }
    Ok(all)
}

/// Decisions that differ from the plan's; only pipelines over classes have a number of stages in common.
fn of_plan(problem: &MixedProblem<'_>, chosen: &MixedOutcome) -> Vec<(String, super::super::Pins)> {
    let Some(layout) = chosen.plan.leading_layout() else { return Vec::new() };
    let most = problem.model.layers().min(MOST_STAGES);
    let stages = match chosen.plan.shape {
        MixedShape::Pipeline { .. } => [layout.pp - 1, layout.pp + 1].map(|pp| (1..=most).contains(&pp).then_some(pp)),
        MixedShape::Replicas { .. } => [None; 2],
    };
    decisions(&problem.pins, &layout, stages)
}

fn compare(
    change: String,
    changed: &MixedProblem<'_>,
    chosen: &MixedOutcome,
    budget: &LayoutBudget<'_>,
) -> Result<Sensitivity, LayoutError> {
    check(changed)?;
    let stages = Stages::new(changed);
    match attempt(&stages, &reservations(changed), &LayoutBudget { top_k: 1, ..*budget }) {
        Ok(Some(found)) => {
            Ok(Sensitivity::found(change, found.objective, chosen.objective, found.plan.lines().join("; ")))
        }
        Ok(None) | Err(LayoutError::NoIncumbent { .. }) => Ok(Sensitivity::nothing(change)),
        Err(other) => Err(other),
    }
}
