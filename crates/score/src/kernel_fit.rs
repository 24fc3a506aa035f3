//! Fitting the kernel model to measured rows: which rows, on which devices, and how well the rest is then predicted.

use std::collections::BTreeMap;

use cutplane_graph::{AcceleratorFacts, DeviceSpec};
use cutplane_sim::kernel::fit::{self, Observation};
use cutplane_sim::kernel::{Calibration, GpuModel, Precision, Standing, prior_of};
use cutplane_zoo::{device_from_hardware_text, devices};
use serde::Serialize;

use crate::fitted::draw;
use crate::kernel_rows::{KernelQuestion, KernelRow};
use crate::row::{Grade, MeasuredRow, Workload};

/// Parts that the drawn rows are cut into to tell the error of rows that were left out; as many as rows, where they are
/// fewer.
const FOLDS: usize = 10;

/// What a fit of one device is made of and how good it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelFit {
    /// What to keep.
    pub calibration: Calibration,
    /// Rows that were fitted.
    pub rows_fitted: usize,
    /// Rows of the same device that were not.
    pub rows_held_out: usize,
    /// Median of |predicted - measured| / measured over the fitted rows, each predicted from a fit without its tenth.
    pub left_out_median_error: f64,
    /// The same over the rows that were not fitted at all; `None` where all were.
    pub held_out_median_error: Option<f64>,
}

/// One row that can be fitted.
struct Usable {
    device: &'static DeviceSpec,
    source: String,
    observation: Observation,
    drawn: bool,
}

/// Fits every device that the kernel rows name to the rows whose draw lies below `share`; grade A only. Devices on which
/// fewer than `least` rows were drawn are left out.
pub fn fit_kernels(rows: &[MeasuredRow], share: f64, seed: u64, least: usize) -> Vec<KernelFit> {
    let mut fitted_devices: BTreeMap<&str, Vec<Usable>> = BTreeMap::new();
    for usable in rows.iter().filter_map(|row| usable(row, share, seed)) {
        fitted_devices.entry(usable.device.model.as_str()).or_default().push(usable);
    }
    let enough = |rows: &&Vec<Usable>| rows.iter().filter(|row| row.drawn).count() >= least.max(1);
    fitted_devices.values().filter(enough).filter_map(|rows| fit_device(rows, share, seed)).collect()
}

/// A row that says a time on a known device; rows that keep the best of a search tell no typical time.
fn usable(row: &MeasuredRow, share: f64, seed: u64) -> Option<Usable> {
    let measured = row.measured_value.filter(|value| *value > 0.0)?;
    let scored = row.row.workload == Workload::Kernel && row.row.grade == Grade::A;
    let device = device_from_hardware_text(&row.row.hardware).filter(|_| scored)?;
    let read = KernelRow::read(&KernelQuestion::of(&row.row)).ok().filter(|read| !read.is_best_of_search())?;
    let measured_seconds = read.seconds_of(measured);
    Some(Usable {
        device,
        source: row.row.source.clone(),
        observation: Observation { kernels: read.kernels, precision: read.precision, measured_seconds },
        drawn: draw(&row.digest, seed) < share,
    })
}

fn fit_device(rows: &[Usable], share: f64, seed: u64) -> Option<KernelFit> {
    let spec = rows.first()?.device;
    let facts = spec.accelerator.as_ref()?;
    let part = |drawn: bool| -> Vec<Observation> {
        rows.iter().filter(|row| row.drawn == drawn).map(|row| row.observation.clone()).collect()
    };
    let (seen, unseen) = (part(true), part(false));
    let prior = prior_of(Some(facts.architecture));
    let fitted = fit::fit(spec, &seen, prior);
    let left_out = fit::left_out_log_errors(spec, &seen, prior, FOLDS);
    let model = GpuModel::from_spec(spec).with_parameters(fitted.parameters);
    let calibration = Calibration {
        name: format!("{}, {}", spec.model, sources(rows)),
        models: alike(spec, facts),
        architecture: facts.architecture,
        multiprocessors: f64::from(facts.multiprocessors),
        cache_mib: facts.l2_mib,
        memory_bandwidth_gb_per_s: spec.memory_bandwidth_gb_per_s,
        standing: Standing::Measured,
        precisions: precisions(&seen),
        rows: format!("{} rows of {}, drawn by digest below {share} with seed {seed}", seen.len(), sources(rows)),
        seed,
        fraction: share,
        fitted: fitted.fitted.iter().map(|name| (*name).to_owned()).collect(),
        spreads: fit::spreads(&seen, &left_out),
        parameters: fitted.parameters,
    };
    let errors = left_out.iter().map(|error| (error.exp() - 1.0).abs()).collect();
    Some(KernelFit {
        calibration,
        rows_fitted: seen.len(),
        rows_held_out: unseen.len(),
        left_out_median_error: fit::quantile(errors, 0.5).unwrap_or(0.0),
        held_out_median_error: fit::quantile(fit::relative_errors(&model, &unseen), 0.5),
    })
}

fn sources(rows: &[Usable]) -> String {
    let mut names: Vec<&str> = rows.iter().map(|row| row.source.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(" and ")
}

/// Catalogue models with the same silicon: they differ in memory size, clock within a few per cent, or links.
fn alike(spec: &DeviceSpec, facts: &AcceleratorFacts) -> Vec<String> {
    let near = |one: f64, two: f64, within: f64| (one / two).ln().abs() < within;
    let same = |other: &&DeviceSpec| {
        other.accelerator.as_ref().is_some_and(|theirs| {
            (theirs.architecture, theirs.multiprocessors) == (facts.architecture, facts.multiprocessors)
                && near(theirs.clock_mhz, facts.clock_mhz, 0.05)
                && near(theirs.l2_mib, facts.l2_mib, 0.01)
                && near(other.memory_bandwidth_gb_per_s, spec.memory_bandwidth_gb_per_s, 0.1)
        })
    };
    let others = devices().filter(same).map(|other| other.model.clone()).filter(|name| *name != spec.model);
    std::iter::once(spec.model.clone()).chain(others).collect()
}

/// The precisions that were measured; 16-bit formats of one width compute alike.
fn precisions(seen: &[Observation]) -> Vec<Precision> {
    let mut measured: Vec<Precision> = Vec::new();
    for observation in seen {
        let twin = match observation.precision {
            Precision::F16 => Some(Precision::Bf16),
            Precision::Bf16 => Some(Precision::F16),
            _ => None,
        };
        for precision in [Some(observation.precision), twin].into_iter().flatten() {
            if !measured.contains(&precision) {
                measured.push(precision);
            }
        }
    }
    measured
}
