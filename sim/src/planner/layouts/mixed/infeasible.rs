//! What binds when nothing fits, and the smallest change found that would do.

use std::time::{Duration, Instant};

use cutplane_units::Bytes;

use super::super::error::{LayoutError, LayoutShortfall};
use super::super::infeasible::larger;
use super::super::outcome::label;
use super::super::problem::LayoutBudget;
use super::problem::{MixedClass, MixedProblem};
use super::stages::{Miss, Stages};
use super::{pipelines, replicas};

/// Time for each change that is tried.
const EACH_TRY: Duration = Duration::from_secs(2);
/// How many times a class is doubled at most.
const MOST_DOUBLINGS: u32 = 6;

/// The error of a problem that no plan fits.
pub(super) fn infeasible(stages: &Stages<'_>, budget: &LayoutBudget<'_>) -> LayoutError {
    let problem = stages.problem;
    let Some(miss) = stages.nearest.borrow().clone() else {
        let pins = problem.pins.texts().join(", ");
        let reason = format!(
            "a batch of {} samples on {} leaves no plan ({}): degrees must divide heads, sequence and batch and lie regularly \
             on nodes; change the batch or drop a pin",
            problem.global_batch,
            names(problem),
            if pins.is_empty() { "no pins" } else { &pins }
        );
        return LayoutError::EmptySpace { reason };
    };
    LayoutError::Infeasible { shortfall: Box::new(shortfall(problem, &miss)), remedy: remedy(problem, budget, &miss) }
}

fn names(problem: &MixedProblem<'_>) -> String {
    let names = problem.classes.iter().map(|class| format!("{} x {}", class.devices(), class.name));
    names.collect::<Vec<_>>().join(" and ")
}

fn shortfall(problem: &MixedProblem<'_>, miss: &Miss) -> LayoutShortfall {
    let class = &problem.classes[miss.class];
    let parts = &miss.footprint.stages[miss.stage].parts;
    let (binding, binding_bytes) = parts.largest();
    let needed = parts.total() * miss.footprint.fragmentation + miss.footprint.context;
    LayoutShortfall {
        device_model: class.name.clone(),
        devices: problem.classes.iter().map(MixedClass::devices).sum(),
        layout: label(&miss.layout),
        stage: miss.stage as u64,
        binding,
        binding_bytes: Bytes::new(binding_bytes as u64),
        needed: Bytes::new(needed as u64),
        available: Bytes::new(class.device_memory),
    }
}

/// The fewest added devices of one class, in doublings, with which something fits.
fn remedy(problem: &MixedProblem<'_>, budget: &LayoutBudget<'_>, miss: &Miss) -> String {
    let mut order: Vec<usize> = (0..problem.classes.len()).collect();
    order.sort_by_key(|class| problem.classes[*class].devices());
    for doublings in 1..=MOST_DOUBLINGS {
        for class in &order {
            if let Some(devices) = fits_with(problem, budget, *class, 1 << doublings) {
                let name = &problem.classes[*class].name;
                return format!("{devices} x {name} beside the other devices would do");
            }
        }
    }
    let class = &problem.classes[miss.class];
    format!(
        "{} times as many devices of one class would not do either: choose devices with more memory than the {} of a {}, \
         shorter sequences or a smaller model",
        1_u64 << MOST_DOUBLINGS,
        Bytes::new(class.device_memory),
        class.name
    )
}

fn fits_with(problem: &MixedProblem<'_>, budget: &LayoutBudget<'_>, class: usize, times: usize) -> Option<u64> {
    let fabric = larger(problem.classes[class].fabric, times)?;
    let devices = fabric.ranks() as u64;
    let mut changed = problem.clone();
    changed.classes[class].fabric = &fabric;
    let caps: Vec<u64> = changed.classes.iter().map(MixedClass::devices).collect();
    let budget = LayoutBudget { time_limit: EACH_TRY, relative_gap: 1.0, top_k: 1, progress: None, ..*budget };
    let replicas = replicas::search(&changed, &caps, f64::INFINITY, &budget, Instant::now()).ok()?;
    let stages = Stages::new(&changed);
    let fits = !replicas.best.is_empty()
        || !pipelines::search(&stages, &caps, u64::MAX, &budget, Instant::now()).ok()?.best.is_empty();
    fits.then_some(devices)
}
