//! What would have to change so that something fits.

use std::time::Duration;

use cutplane_units::Bytes;

use super::objective::Objective;
use super::outcome::{LayoutOutcome, label};
use super::problem::{LayoutBudget, LayoutProblem};
use super::search::{Attempt, attempt};
use crate::network::{Fabric, Level};

/// Time for each change that is tried.
const EACH_TRY: Duration = Duration::from_secs(2);
/// How many times the devices are doubled at most.
const MOST_DOUBLINGS: u32 = 8;

/// How many times memory is doubled at most, and how often the span between too little and enough is halved.
const MEMORY_TRIES: u32 = 5;

/// From this memory on, it is told in whole GiB; below it, in whole MiB.
const COARSE: u64 = 8 << 30;

/// The smallest changes found that each make a layout fit: a pin less, memory of a device, number of devices. `nearest`
/// bytes of a device are what the nearest miss needs.
pub(super) fn remedy(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>, nearest: u64) -> String {
    let pins = problem.pins.texts().into_iter().filter(|pin| without(problem, budget, pin));
    let pins: Vec<String> = pins.map(|pin| format!("drop {pin}")).collect();
    let mut changes = Vec::new();
    if !pins.is_empty() {
        changes.push(format!("it fits without one pin: {}", pins.join(", or ")));
    }
    if let Some((memory, layout)) = more_memory(problem, budget, nearest) {
        changes.push(format!("{} of memory a device would do: {layout}", Bytes::new(memory)));
    }
    if let Some((devices, layout)) = more_devices(problem, budget) {
        changes.push(format!("{devices} such devices would do: {layout}"));
    }
    if changes.is_empty() {
        let (memory, devices) = (1_u64 << MEMORY_TRIES, 1_u64 << MOST_DOUBLINGS);
        return format!(
            "{memory} times the memory or {devices} times as many devices would not do either: choose shorter sequences, a \
             smaller batch or a smaller model"
        );
    }
    changes.join("; or ")
}

/// The least memory of a device found with which something fits, bytes: what the nearest miss needs, where that is in the
/// space; else by bisection.
fn more_memory(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>, nearest: u64) -> Option<(u64, String)> {
    let try_with = |device_memory: u64| {
        // What is shown is what was tried.
        let grain = if device_memory < COARSE { 1 << 20 } else { 1 << 30 };
        let device_memory = device_memory.next_multiple_of(grain);
        let found = first_fit(&LayoutProblem { device_memory, ..problem.clone() }, budget)?;
        Some((device_memory, label(&found.chosen().layout)))
    };
    if let Some(found) = try_with(nearest) {
        return Some(found);
    }
    let doubled = |times: u32| problem.device_memory.checked_mul(1 << times);
    let (mut too_little, mut found) = (1..=MEMORY_TRIES).find_map(|times| {
        let found = try_with(doubled(times)?)?;
        Some((doubled(times - 1)?, found))
    })?;
    for _ in 0..MEMORY_TRIES {
        let middle = u64::midpoint(too_little, found.0);
        match try_with(middle) {
            Some(better) => found = better,
            None => too_little = middle,
        }
    }
    Some(found)
}

fn without(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>, pin: &str) -> bool {
    let changed = LayoutProblem { pins: problem.pins.without(pin), ..problem.clone() };
    first_fit(&changed, budget).is_some()
}

/// Any layout that fits.
fn first_fit(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>) -> Option<LayoutOutcome> {
    fit_within(problem, budget, 1.0)
}

fn fit_within(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>, relative_gap: f64) -> Option<LayoutOutcome> {
    let budget =
        LayoutBudget { time_limit: EACH_TRY, relative_gap, top_k: 1, progress: None, interrupt: budget.interrupt };
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
        // A gap below one device in all: the number is what counts, not the step.
        let found = fit_within(&changed, budget, 1.0 / (fabric.ranks() as f64 + 1.0))?;
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
