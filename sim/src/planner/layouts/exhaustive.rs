//! Everything, one by one: the oracle of the tests.

use super::error::LayoutError;
use super::outcome::label;
use super::problem::LayoutProblem;
use super::space::Space;
use super::splits;
use super::times::{Clock, Pieces};
use crate::estimate::{EstimateError, Estimator, Layout, Recompute};
use crate::footprint;

use super::pins::RecomputeChoice;

/// The least value of the objective over the whole space, with its layout in a line, by pricing every layout that fits.
/// Shares the space with [`super::search`](fn@super::search), and nothing of its bounds, orders and cuts: numbers of recomputed layers are
/// tried one after the other.
///
/// # Errors
/// [`LayoutError`] when the model cannot be priced; `Ok(None)` when nothing fits.
pub fn exhaustive(problem: &LayoutProblem<'_>) -> Result<Option<(f64, String)>, LayoutError> {
    let pieces = Pieces::of(problem.model);
    let clock = Clock::new(problem, &pieces);
    let space = Space::new(problem);
    let estimator = Estimator::new(problem.model, problem.gpu, problem.fabric, problem.stack);
    let mut best: Option<(f64, Layout)> = None;
    for layout in all_layouts(&space, &clock)? {
        if !footprint::of_model(problem.graph, &layout, problem.keeping)?.verdict(problem.device_memory).fits {
            continue;
        }
        match estimator.estimate(&layout) {
            Ok(step) => {
                let value = problem.objective.value(
                    step.predicted.seconds,
                    layout.devices() as f64,
                    problem.dollars_per_device_hour,
                );
                if best.as_ref().is_none_or(|(least, _)| value < *least) {
                    best = Some((value, layout));
                }
            }
            Err(EstimateError::Inconsistent { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(best.map(|(value, layout)| (value, label(&layout))))
}

fn all_layouts(space: &Space, clock: &Clock<'_>) -> Result<Vec<Layout>, EstimateError> {
    let mut all = Vec::new();
    for arithmetic in space.arithmetics() {
        let times = clock.times(&arithmetic, space)?;
        for grid in space.grids(&arithmetic) {
            for timing in space.timings(&arithmetic, &grid) {
                for split in splits::family(&times, space.layers(), grid.pp, timing.vpp) {
                    for sharing in space.sharings(&arithmetic, &grid) {
                        let layout = space.layout(&arithmetic, &grid, &timing, &sharing);
                        let stage_split = (grid.pp > 1).then(|| split.clone());
                        let layout = Layout { stage_split, ..layout };
                        let devices = grid.pp as usize;
                        let most = (0..devices).map(|at| split.iter().skip(at).step_by(devices).sum::<u64>()).max();
                        all.extend(recomputed(layout, arithmetic.recompute, most.unwrap_or(0)));
                    }
                }
            }
        }
    }
    Ok(all)
}

/// Every number of recomputed layers of a stage that holds at most so many, but for all of them.
fn recomputed(layout: Layout, choice: RecomputeChoice, most: u64) -> Vec<Layout> {
    if choice != RecomputeChoice::Layers {
        return vec![layout];
    }
    (1..most).map(|some| Layout { recompute: Recompute::Layers(some), ..layout.clone() }).collect()
}
