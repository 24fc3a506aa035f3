//! Item a: losses and gradients on the device against f32 on a core.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use cutplane_graph::{Dtype, ParamId};
use cutplane_runtime::exec::{RankTensors, Run, Transfers};
use serde::Serialize;

use super::journal::Journal;
use super::table::append_row;
use super::work::{Passes, Target, Trial, cores};
use crate::pricing;

/// Largest relative difference of losses, and of gradients: the norm of the difference over the norm. The products of
/// a card may be rounded to 10 bits of mantissa even for f32 (TF32: 5e-4 each), bf16 has 8 (4e-3 each); sums over a
/// model's depth add a factor of a few.
fn tolerances(precision: Dtype) -> (f64, f64) {
    match precision {
        Dtype::F32 => (1e-3, 1e-2),
        _ => (2e-2, 8e-2),
    }
}

/// Rank counts with the plan that uses them all.
const PLANS: [(&str, usize); 4] = [("single", 1), ("dp2", 2), ("pp2-1f1b-m4", 2), ("pp4-1f1b-m4", 4)];
const BATCH: u64 = 8;
const SEED: u64 = 17;

/// One row of `correctness.csv`.
#[derive(Debug, Serialize)]
struct Row {
    model: String,
    plan: &'static str,
    devices: String,
    precision: String,
    loss_cpu: f64,
    loss_device: f64,
    /// Relative.
    loss_difference: f64,
    loss_tolerance: f64,
    /// Norm of the difference over the norm.
    gradient_difference: f64,
    gradient_tolerance: f64,
    passed: bool,
}

/// Runs the item.
pub(crate) fn run(target: Target, folder: &Path, journal: &mut Journal) -> Result<()> {
    let tokens = 64;
    for model in target.small_models() {
        for precision in target.precisions() {
            for (plan, ranks) in PLANS {
                journal.case(&format!("{model} {plan} {precision}"), || {
                    let reference = Trial::new(&cores(1)?, model, tokens, BATCH, Dtype::F32)?;
                    let (loss_cpu, expected) = one_step(&reference, "single")?;
                    let trial = Trial::new(&target.ranks(ranks)?, model, tokens, BATCH, precision)?;
                    let (loss_device, gradients) = one_step(&trial, plan)?;
                    let (loss_tolerance, gradient_tolerance) = tolerances(precision);
                    let loss_difference = (loss_device - loss_cpu).abs() / loss_cpu.abs();
                    let gradient_difference = difference(&gradients, &expected)?;
                    let passed = loss_difference <= loss_tolerance && gradient_difference <= gradient_tolerance;
                    let row = Row {
                        model: model.to_owned(),
                        plan,
                        devices: trial.devices.name().to_owned(),
                        precision: precision.to_string(),
                        loss_cpu,
                        loss_device,
                        loss_difference,
                        loss_tolerance,
                        gradient_difference,
                        gradient_tolerance,
                        passed,
                    };
                    append_row(&folder.join("correctness.csv"), &row)?;
                    ensure!(
                        passed,
                        "loss differs by {loss_difference:.1e} (at most {loss_tolerance:.0e}), gradients by \
                         {gradient_difference:.1e} (at most {gradient_tolerance:.0e})"
                    );
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

fn one_step(trial: &Trial, name: &str) -> Result<(f64, Vec<RankTensors>)> {
    let plan = trial.plan(name, &pricing::datasheet())?;
    let mut run = trial.start(&plan, Passes::Training, Transfers::OnDevice, SEED)?;
    let (report, gradients) = Run::step_with_gradients(&mut run)?;
    Ok((report.loss, gradients))
}

/// Norm of the difference over the norm, over all parameters; ranks that share one are all held to it.
fn difference(ranks: &[RankTensors], expected: &[RankTensors]) -> Result<f64> {
    let expected = expected.first().context("the reference has no rank")?;
    let (mut squares, mut norm) = (0.0, 0.0);
    let mut seen: Vec<ParamId> = Vec::new();
    for (id, gradient) in ranks.iter().flatten() {
        let reference = expected.get(id).and_then(|tensor| tensor.as_f32()).context("a gradient that the CPU lacks")?;
        let values = gradient.as_f32().context("gradients are f32")?;
        ensure!(values.len() == reference.len(), "a gradient of another size than on the CPU");
        for (value, reference) in values.iter().zip(reference) {
            squares += f64::from(value - reference).powi(2);
            norm += f64::from(*reference).powi(2);
        }
        seen.push(*id);
    }
    ensure!(expected.keys().all(|id| seen.contains(id)), "a gradient is missing on the device");
    let relative = (squares / f64::max(norm, f64::MIN_POSITIVE)).sqrt();
    ensure!(relative.is_finite(), "a gradient is not finite");
    Ok(relative)
}
