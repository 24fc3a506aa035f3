//! Item c: predicted against measured step time and peak memory.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cutplane_graph::Dtype;
use cutplane_plan::Plan;
use cutplane_record::{Measurement, Provenance, Source, Summary, append_measurements};
use cutplane_units::Bytes;

use super::journal::Journal;
use super::rates::PROFILE;
use super::work::{Target, Trial};
use crate::local;
use crate::pricing::{self, Pricing};
use crate::records::Subject;

/// File of predictions and measurements.
pub(crate) const RECORDS: &str = "records.csv";
const SEED: u64 = 17;
/// Steps that are run before the clock is trusted, at most; kernels are compiled and chosen in the first.
const WARM_UPS: usize = 12;
/// Two successive steps that differ by less than this share end the warm-up.
const AGREEMENT: f64 = 0.05;
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
}

/// The cases, the most telling first: every model alone on the card, then other batch sizes, then several ranks.
fn cases(target: Target) -> Vec<Case> {
    let case = |(model, tokens, batch), precision, (plan, ranks)| Case { model, tokens, batch, precision, plan, ranks };
    if target == Target::Rehearsal {
        let plans = [("single", 1), ("dp2", 2), ("pp4-1f1b-m4", 4)];
        return plans.map(|plan| case(("gpt-nano", 64, 4), Dtype::F32, plan)).into_iter().collect();
    }
    let mut cases = Vec::new();
    let mut add = |works: &[(&'static str, u64, u64)], plans: &[(&'static str, usize)]| {
        for plan in plans {
            for work in works {
                cases.extend([Dtype::F32, Dtype::Bf16].map(|precision| case(*work, precision, *plan)));
            }
        }
    };
    add(&[("gpt2", 1024, 8), ("bert-base", 128, 32), ("gpt2-medium", 1024, 4)], &[("single", 1)]);
    add(&[("gpt2", 1024, 4), ("bert-base", 128, 64), ("gpt2-medium", 1024, 8)], &[("single", 1)]);
    let shared = [("dp2", 2), ("pp2-1f1b-m4", 2), ("pp4-1f1b-m4", 4), ("dp4", 4)];
    add(&[("gpt2", 1024, 8), ("bert-base", 128, 32)], &shared);
    add(&[("gpt2", 1024, 16), ("bert-base", 128, 8)], &[("single", 1)]);
    add(&[("gpt2-medium", 1024, 8)], &shared);
    cases
}

/// Runs the item.
pub(crate) fn run(target: Target, folder: &Path, journal: &mut Journal) -> Result<()> {
    let provenance = Provenance::capture();
    for case in cases(target) {
        let Case { model, tokens, batch, precision, plan, ranks } = case;
        let name = format!("{model} {tokens} tokens x {batch} {precision} {plan}");
        let time = journal.left().min(CASE_TIME);
        journal.case(&name, || {
            let trial = Trial::new(&target.ranks(ranks)?, model, tokens, batch, precision)?;
            // What an earlier case has left in the pool is neither measured nor in the way.
            local::backend(trial.places[0]).trim_pool();
            measure(&trial, &case, folder, &provenance, time)
        })?;
    }
    Ok(())
}

fn measure(trial: &Trial, case: &Case, folder: &Path, provenance: &Provenance, time: Duration) -> Result<()> {
    let subject = Subject {
        experiment: "gpu-check".to_owned(),
        model: &trial.model,
        devices: &trial.devices,
        sequence_length: case.tokens,
        seed: SEED,
        provenance,
    };
    let (plan, prices) = priced(trial, case.plan, &folder.join(PROFILE))?;
    let mut records = Vec::new();
    for (origin, pricing) in &prices {
        records.push(subject.predicted(&plan, &trial.predict(&plan, pricing)?, origin));
    }
    let (steps, memory, loss) = steps(trial, &plan, time)?;
    let Some(summary) = Summary::of(&steps) else { bail!("not one timed step in {} s", time.as_secs()) };
    let backend = local::backend_names(&trial.places);
    let mut row: Measurement = subject.record(&plan, Source::Measured, &backend).with_summary(&summary);
    row.peak_memory_bytes = memory.get();
    row.loss = Some(loss);
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

/// Step times after the warm-up, ns; peak memory of the fullest rank; the last loss.
fn steps(trial: &Trial, plan: &Plan, time: Duration) -> Result<(Vec<f64>, Bytes, f64)> {
    let started = Instant::now();
    let mut run = trial.start(plan, SEED)?;
    let mut last = f64::INFINITY;
    for _ in 0..WARM_UPS {
        let step = run.step()?.step_time.as_f64();
        let agrees = (step - last).abs() < AGREEMENT * last;
        last = step;
        if agrees || started.elapsed() >= time {
            break;
        }
    }
    let (mut times, mut memory, mut loss) = (Vec::new(), Bytes::ZERO, 0.0);
    while times.len() < TIMED && (times.is_empty() || started.elapsed() < time) {
        let report = run.step()?;
        times.push(report.step_time.as_f64());
        memory = memory.max(report.timeline.max_peak_memory());
        loss = report.loss;
    }
    Ok((times, memory, loss))
}
