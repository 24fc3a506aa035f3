//! What alternatives would cost: the same search with one thing changed.

use serde::{Deserialize, Serialize};

use super::error::LayoutError;
use super::outcome::{Candidate, label};
use super::pins::{Pins, RecomputeChoice};
use super::problem::{LayoutBudget, LayoutProblem};
use super::search::{Attempt, attempt};
use crate::estimate::{Layout, Offload, Zero, ZeroStage};
use crate::network::{Fabric, Level};

/// The best that there is when one thing is changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// What is changed.
    pub change: String,
    /// The objective then; absent when nothing fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The objective then over the objective now, less one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<f64>,
    /// The best layout then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
}

impl Sensitivity {
    /// A change with the best layout under it; the objective is `now` without the change.
    pub(super) fn found(change: String, value: f64, now: f64, layout: String) -> Self {
        Self { change, value: Some(value), relative: Some(value / now - 1.0), layout: Some(layout) }
    }

    /// A change under which nothing fits, or nothing was found in time.
    pub(super) fn nothing(change: String) -> Self {
        Self { change, value: None, relative: None, layout: None }
    }
}

/// What it costs, with everything else free to follow: another number of stages, other tensor-parallel degrees, less or
/// more recomputation, no sharding, half of each level's bandwidth, a tenth more and less memory.
///
/// # Errors
/// [`LayoutError`] of a search.
pub fn sensitivities(
    problem: &LayoutProblem<'_>,
    chosen: &Candidate,
    budget: &LayoutBudget<'_>,
) -> Result<Vec<Sensitivity>, LayoutError> {
    let mut all = Vec::new();
    let divides = |pp: &u64| problem.devices().is_multiple_of(*pp);
    let (fewer, more) = (1..chosen.layout.pp, chosen.layout.pp + 1..=problem.model.layers());
    let stages = [fewer.rev().find(divides), { more }.find(divides)];
    for (change, pins) in decisions(&problem.pins, &chosen.layout, stages) {
        let changed = LayoutProblem { pins, ..problem.clone() };
        all.push(compare(change, &changed, chosen, budget)?);
    }
    for level in 0..problem.fabric.levels().len() {
        let Some(fabric) = halved(problem.fabric, level) else { continue };
        let name = format!("half the bandwidth of {:?}", problem.fabric.levels()[level].interconnect);
        let changed = LayoutProblem { fabric: &fabric, ..problem.clone() };
        all.push(compare(name, &changed, chosen, budget)?);
    }
    for (change, share) in [("a tenth more memory", 1.1), ("a tenth less memory", 0.9)] {
        let device_memory = (problem.device_memory as f64 * share) as u64;
        let changed = LayoutProblem { device_memory, ..problem.clone() };
        all.push(compare(change.to_owned(), &changed, chosen, budget)?);
    }
    Ok(all)
}

/// Decisions that differ from the chosen layout's, each pinned, with other numbers of stages; what the user pinned stays as
/// it is.
pub(super) fn decisions(pins: &Pins, layout: &Layout, stages: [Option<u64>; 2]) -> Vec<(String, Pins)> {
    let mut all = Vec::new();
    if pins.pp.is_none() {
        let pin = |pp| (format!("{pp} stages"), Pins { pp: Some(pp), ..pins.clone() });
        all.extend(stages.into_iter().flatten().map(pin));
    }
    if pins.tp.is_none() {
        let fewer = (layout.tp > 1).then_some(layout.tp / 2);
        let pin = |tp| (format!("tensor parallel {tp}"), Pins { tp: Some(tp), ..pins.clone() });
        all.extend([fewer, Some(layout.tp * 2)].into_iter().flatten().map(pin));
    }
    if pins.recompute.is_none() {
        let others = [RecomputeChoice::None, RecomputeChoice::Full].into_iter();
        let others = others.filter(|choice| *choice != RecomputeChoice::of(layout.recompute));
        let name = |choice| if choice == RecomputeChoice::None { "no recomputation" } else { "full recomputation" };
        all.extend(others.map(|choice| (name(choice).to_owned(), Pins { recompute: Some(choice), ..pins.clone() })));
    }
    if pins.zero.is_none() && layout.zero.stage != ZeroStage::None {
        all.push(("no sharding of state".to_owned(), Pins { zero: Some(Zero::default()), ..pins.clone() }));
    }
    if pins.offload.is_none() && layout.offload != Offload::None {
        all.push(("nothing on the host".to_owned(), Pins { offload: Some(Offload::None), ..pins.clone() }));
    }
    all
}

fn compare(
    change: String,
    changed: &LayoutProblem<'_>,
    chosen: &Candidate,
    budget: &LayoutBudget<'_>,
) -> Result<Sensitivity, LayoutError> {
    match attempt(changed, &LayoutBudget { top_k: 1, ..*budget }) {
        Ok(Attempt::Found(outcome)) => {
            let found = outcome.chosen();
            Ok(Sensitivity::found(change, found.value, chosen.value, label(&found.layout)))
        }
        Ok(Attempt::Nothing(_)) | Err(LayoutError::NoIncumbent { .. }) => Ok(Sensitivity::nothing(change)),
        Err(other) => Err(other),
    }
}

/// The same fabric with half the bandwidth of one level.
pub(super) fn halved(fabric: &Fabric, level: usize) -> Option<Fabric> {
    let mut levels: Vec<Level> = fabric.levels().to_vec();
    let slow = levels.get_mut(level)?;
    slow.bandwidth /= 2.0;
    slow.achieved = slow.achieved.map(|achieved| achieved / 2.0);
    Fabric::new(fabric.name(), levels).ok()
}
