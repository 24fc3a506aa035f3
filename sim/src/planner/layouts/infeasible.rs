//! What would have to change so that something fits.

use std::time::Duration;

use super::objective::Objective;
use super::outcome::{LayoutOutcome, label};
use super::problem::{LayoutBudget, LayoutProblem};
use super::search::{Attempt, attempt};
use crate::network::{Fabric, Level};

/// Time for each change that is tried.
const EACH_TRY: Duration = Duration::from_secs(2);
/// How many times the devices are doubled at most.
const MOST_DOUBLINGS: u32 = 8;

/// The smallest change found that makes a layout fit.
pub(super) fn remedy(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>) -> String {
    let pins: Vec<String> = problem
        .pins
        .texts()
        .into_iter()
        .filter(|pin| without(problem, budget, pin))
        .map(|pin| format!("drop {pin}"))
        .collect();
    if !pins.is_empty() {
        return format!("it fits without one pin: {}", pins.join(", or "));
    }
    match more_devices(problem, budget) {
        Some((devices, layout)) => format!("{devices} such devices would do: {layout}"),
        None => format!(
            "{} times as many devices would not do either: choose devices with more memory, shorter sequences or a smaller \
             model",
            1_u64 << MOST_DOUBLINGS
        ),
    }
}

fn without(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>, pin: &str) -> bool {
    let changed = LayoutProblem { pins: problem.pins.without(pin), ..problem.clone() };
    first_fit(&changed, budget).is_some()
}

/// Any layout that fits.
fn first_fit(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>) -> Option<LayoutOutcome> {
    let budget =
        LayoutBudget { time_limit: EACH_TRY, relative_gap: 1.0, top_k: 1, progress: None, interrupt: budget.interrupt };
    match attempt(problem, &budget) {
        Ok(Attempt::Found(outcome)) => Some(outcome),
        _ => None,
    }
}

/// The fewest devices of a larger cluster of the same make that something fits on.
fn more_devices(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>) -> Option<(u64, String)> {
    let pins = super::Pins { devices: None, ..problem.pins.clone() };
    (1..=MOST_DOUBLINGS).find_map(|doublings| {
        let fabric = larger(problem.fabric, 1 << doublings)?;
        let changed =
            LayoutProblem { fabric: &fabric, objective: Objective::Devices, pins: pins.clone(), ..problem.clone() };
        let found = first_fit(&changed, budget)?;
        let layout = &found.chosen().layout;
        Some((layout.devices(), label(layout)))
    })
}

/// The same fabric with so many times the ranks at its outermost level.
pub(super) fn larger(fabric: &Fabric, times: usize) -> Option<Fabric> {
    let mut levels: Vec<Level> = fabric.levels().to_vec();
    let last = levels.last_mut()?;
    last.ranks = last.ranks.checked_mul(times)?;
    Fabric::new(fabric.name(), levels).ok()
}
