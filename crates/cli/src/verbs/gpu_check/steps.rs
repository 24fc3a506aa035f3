//! Item c: predicted against measured step time and peak memory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use cutplane_graph::Dtype;
use cutplane_plan::Plan;
use cutplane_record::{Measurement, Provenance, Source, Summary, append_measurements};
use cutplane_runtime::exec::Transfers;
use cutplane_units::Bytes;

use super::journal::Journal;
use super::rates::PROFILE;
use super::work::{Passes, Target, Trial};
use crate::alone::measure_alone;
use crate::local;
use crate::pricing::{self, Pricing};
use crate::records::Subject;

/// File of predictions and measurements.
pub(crate) const RECORDS: &str = "records.csv";
const SEED: u64 = 17;
const TIMED: usize = 8;
/// A case ends after this time with the steps that it has.
const CASE_TIME: Duration = Duration::from_secs(40);

struct Case {
    model: &'static str,
    tokens: u64,
    batch: u64,
    precision: Dtype,
    plan: &'static str,
    ranks: usize,
    passes: Passes,
    transfers: Transfers,
}

impl Case {
    fn training(work: Work, precision: Dtype, (plan, ranks): PlanOf) -> Self {
        let (model, tokens, batch) = work;
        let (passes, transfers) = (Passes::Training, Transfers::OnDevice);
        Self { model, tokens, batch, precision, plan, ranks, passes, transfers }
    }

    fn name(&self) -> String {
        let Self { model, tokens, batch, precision, plan, .. } = self;
        let what = if self.passes == Passes::Inference { " inference" } else { "" };
        let how = if self.transfers == Transfers::Staged { " staged" } else { "" };
        format!("{model} {tokens} tokens x {batch} {precision} {plan}{what}{how}")
    }
}

/// A model, tokens a sample, samples a step.
type Work = (&'static str, u64, u64);
/// A plan with the ranks that it takes.
type PlanOf = (&'static str, usize);

/// The cases, the most telling first: every model alone on the card, training and inference, then several ranks, with tensors
/// handed over on the card and staged through the host, then other batch sizes.
fn cases(target: Target) -> Vec<Case> {
    if target == Target::Rehearsal {
        let work = ("gpt-nano", 64, 4);
        let train = |plan| Case::training(work, Dtype::F32, plan);
        let inference = Case { passes: Passes::Inference, ..train(("pp4-1f1b-m4", 4)) };
        return vec![train(("single", 1)), train(("dp2", 2)), train(("pp4-1f1b-m4", 4)), inference];
    }
    let mut cases = Vec::new();
    let mut add = |works: &[Work], plans: &[PlanOf], passes, transfers| {
        for plan in plans {
            for work in works {
                let case = |precision| Case { passes, transfers, ..Case::training(*work, precision, *plan) };
                cases.extend([Dtype::F32, Dtype::Bf16].map(case));
            }
        }
    };
    let (training, inference) = (Passes::Training, Passes::Inference);
    let (handed, staged) = (Transfers::OnDevice, Transfers::Staged);
    let models = [("gpt2", 1024, 8), ("bert-base", 128, 32), ("gpt2-medium", 1024, 4)];
    let shared = [("dp2", 2), ("pp2-1f1b-m4", 2), ("pp4-1f1b-m4", 4), ("dp4", 4)];
    add(&models, &[("single", 1)], training, handed);
    add(&models, &[("single", 1)], inference, handed);
    add(&models[..2], &shared[..2], training, handed);
    add(&models[..2], &shared[..2], training, staged);
    add(&[("gpt2", 1024, 4), ("bert-base", 128, 64), ("gpt2-medium", 1024, 8)], &[("single", 1)], training, handed);
    add(&models[..2], &shared[2..], training, handed);
    add(&[("gpt2", 1024, 16), ("bert-base", 128, 8)], &[("single", 1)], training, handed);
    add(&[("gpt2-medium", 1024, 8)], &shared, training, handed);
    cases
}

/// Runs the item.
pub(crate) fn run(target: Target, folder: &Path, journal: &mut Journal) -> Result<()> {
    let provenance = Provenance::capture();
    for case in cases(target) {
        let time = journal.left().min(CASE_TIME);
        journal.case(&case.name(), || {
            let Case { model, tokens, batch, precision, ranks, .. } = case;
            let trial = Trial::new(&target.ranks(ranks)?, model, tokens, batch, precision)?;
            // What an earlier case has left in the pool is neither measured nor in the way.
            local::backend(trial.places[0]).trim_pool();
            measure(&trial, &case, folder, &provenance, time)
        })?;
    }
    Ok(())
}

fn measure(trial: &Trial, case: &Case, folder: &Path, provenance: &Provenance, time: Duration) -> Result<()> {
    let inference = if case.passes == Passes::Inference { "-inference" } else { "" };
    let subject = Subject {
        experiment: format!("gpu-check{inference}"),
        model: &trial.model,
        devices: &trial.devices,
        sequence_length: case.tokens,
        seed: SEED,
        provenance,
    };
    let (plan, prices) = priced(trial, case.plan, &folder.join(PROFILE))?;
    let mut records = Vec::new();
    for (origin, pricing) in &prices {
        records.push(subject.predicted(&plan, &trial.predict(&plan, case.passes, pricing)?, origin));
    }
    let mut run = trial.start(&plan, case.passes, case.transfers, SEED)?;
    let measured = measure_alone(&mut run, TIMED, time)?;
    let steps: Vec<f64> = measured.timed.iter().map(|report| report.step_time.as_f64()).collect();
    let Some(summary) = Summary::of(&steps) else { bail!("not one timed step in {} s", time.as_secs()) };
    let backend = [vec![local::backend_names(&trial.places)], measured.notes].concat().join("; ");
    let mut row: Measurement = subject.record(&plan, Source::Measured, &backend).with_summary(&summary);
    let memory = measured.timed.iter().map(|report| report.timeline.max_peak_memory()).max();
    row.peak_memory_bytes = memory.map_or(0, Bytes::get);
    row.loss = measured.losses.last().copied();
    records.push(row);
    Ok(append_measurements(&folder.join(RECORDS), &records)?)
}

/// The plan of this name at the best prices that there are, and all prices: of the datasheet, and of the measured
/// profile where that covers the plan.
fn priced(trial: &Trial, name: &str, profile: &Path) -> Result<(Plan, Vec<(&'static str, Pricing)>)> {
    let mut prices = vec![("simulator, datasheet prices", pricing::datasheet())];
    if profile.exists() {
        let measured = trial.measured(profile).and_then(|pricing| Ok((trial.plan(name, &pricing)?, pricing)));
        match measured {
            Ok((plan, pricing)) => {
                prices.push(("simulator, measured prices", pricing));
                return Ok((plan, prices));
            }
            Err(error) => eprintln!("{name}: no prediction from {}: {error:#}", profile.display()),
        }
    }
    Ok((trial.plan(name, &prices[0].1)?, prices))
}
