//! Fitting a family's parameters to measured kernels.
//!
//! Minimises the mean absolute error of the logarithm of the time, plus, for each parameter, the square of its distance
//! from its prior in prior standard deviations, weighed like one observation in [`PRIOR_WEIGHT`]: what the rows do not tell
//! stays at its prior. The search is a coordinate search with shrinking steps: deterministic, without derivatives.

use cutplane_graph::DeviceSpec;
use serde::Serialize;

use super::{GpuModel, Kernel, KernelClass, Parameters, Precision, Spreads};

/// A parameter one prior standard deviation off costs as much as this many observations erring by one hundred per cent.
pub const PRIOR_WEIGHT: f64 = 0.1;
/// First and least step in the logarithm of a parameter.
const STEPS: (f64, f64) = (0.16, 0.004);
/// Searches from places around the best, and how far around, in the logarithm.
const RESTARTS: usize = 4;
const RESTART_STEP: f64 = 0.12;
/// Share of the measurements that an interval is to hold.
const COVERED: f64 = 0.9;
/// Observations of a kind that tell its spread.
const ENOUGH: usize = 10;

/// A measured kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// What ran, one after the other.
    pub kernels: Vec<Kernel>,
    /// In which precision.
    pub precision: Precision,
    /// How long, s.
    pub measured_seconds: f64,
}

impl Observation {
    /// The kind that its first kernel is of.
    pub fn class(&self) -> Option<KernelClass> {
        self.kernels.first().map(Kernel::class)
    }
}

/// What a fit found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fitted {
    /// All parameters.
    pub parameters: Parameters,
    /// Names of those that the observations moved.
    pub fitted: Vec<&'static str>,
    /// Median of |predicted - measured| / measured over the observations that were fitted.
    pub median_error: f64,
}

/// Fits the parameters of `spec`'s device to `observations`, from `start` (of which every parameter is held to, as its
/// prior, by [`Parameters::PRIORS`]' spreads and bounds). A parameter that no observation depends on stays.
pub fn fit(spec: &DeviceSpec, observations: &[Observation], start: Parameters) -> Fitted {
    let model = GpuModel::from_spec(spec);
    let objective = |values: &[f64]| cost(&model, observations, values, &start);
    let free = free(&model, observations, &start);
    let values: Vec<f64> = search(start.values(), &free, &objective).into_iter().map(rounded).collect();
    let parameters = Parameters::from_values(&values);
    let moved = Parameters::PRIORS.iter().zip(values.iter().zip(start.values()));
    let fitted = moved.filter(|(_, (new, old))| (*new / old).ln().abs() > STEPS.1).map(|(prior, _)| prior.name);
    let model = model.clone().with_parameters(parameters);
    let errors = relative_errors(&model, observations);
    Fitted { parameters, fitted: fitted.collect(), median_error: quantile(errors, 0.5).unwrap_or(0.0) }
}

/// Places of the parameters that some observation depends on.
fn free(model: &GpuModel, observations: &[Observation], start: &Parameters) -> Vec<usize> {
    let times = |values: &[f64]| -> Vec<f64> {
        let model = model.clone().with_parameters(Parameters::from_values(values));
        observations.iter().map(|seen| predicted_seconds(&model, seen)).collect()
    };
    let usual = times(&start.values());
    let matters = |index: &usize| {
        [1.0 + STEPS.0, 1.0 - STEPS.0].into_iter().any(|factor| {
            let mut values = start.values();
            values[*index] *= factor;
            times(&values).iter().zip(&usual).any(|(new, old)| (new / old - 1.0).abs() > 1e-9)
        })
    };
    (0..Parameters::PRIORS.len()).filter(matters).collect()
}

/// Logarithm of predicted over measured of each observation, predicted from a fit to the others: the observations are dealt
/// to `folds` parts in turn, and each part is left out once (one observation at a time, when there are no more than
/// `folds`).
pub fn left_out_log_errors(
    spec: &DeviceSpec,
    observations: &[Observation],
    start: Parameters,
    folds: usize,
) -> Vec<f64> {
    let folds = folds.min(observations.len()).max(1);
    let mut errors = vec![0.0; observations.len()];
    for fold in 0..folds {
        let others = observations.iter().enumerate().filter(|(index, _)| index % folds != fold);
        let others: Vec<Observation> = others.map(|(_, observation)| observation.clone()).collect();
        let model = GpuModel::from_spec(spec).with_parameters(fit(spec, &others, start).parameters);
        let left_out = errors.iter_mut().zip(observations).skip(fold).step_by(folds);
        left_out.for_each(|(error, observation)| *error = log_error(&model, observation));
    }
    errors
}

/// Four decimals: more would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Coordinate search with shrinking steps, from several places: the error has kinks where one way of computing overtakes
/// another, and a search along the axes stops in some of them.
fn search(start: Vec<f64>, free: &[usize], objective: &dyn Fn(&[f64]) -> f64) -> Vec<f64> {
    let (mut values, mut best) = descend(start, free, objective);
    let mut noise = 1u64;
    for _ in 0..RESTARTS {
        let mut moved = values.clone();
        for &index in free {
            let value = moved[index] * (RESTART_STEP * signed_unit(&mut noise)).exp();
            moved[index] = value.min(Parameters::PRIORS[index].most);
        }
        let (tried, cost) = descend(moved, free, objective);
        if cost < best {
            (values, best) = (tried, cost);
        }
    }
    values
}

fn descend(mut values: Vec<f64>, free: &[usize], objective: &dyn Fn(&[f64]) -> f64) -> (Vec<f64>, f64) {
    let mut best = objective(&values);
    let mut step = STEPS.0;
    while step >= STEPS.1 {
        if !sweep(&mut values, &mut best, step, free, objective) {
            step /= 2.0;
        }
    }
    (values, best)
}

/// A number from -1 to 1: splitmix64 (Steele, Lea and Flood 2014).
fn signed_unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// One try of each free parameter, up and down. True when any helped.
fn sweep(values: &mut [f64], best: &mut f64, step: f64, free: &[usize], objective: &dyn Fn(&[f64]) -> f64) -> bool {
    let mut helped = false;
    for &index in free {
        let (old, most) = (values[index], Parameters::PRIORS[index].most);
        for factor in [step.exp(), (-step).exp()] {
            values[index] = (old * factor).min(most);
            let cost = objective(values);
            if cost < *best - 1e-9 {
                (*best, helped) = (cost, true);
                break;
            }
            values[index] = old;
        }
    }
    helped
}

fn cost(model: &GpuModel, observations: &[Observation], values: &[f64], start: &Parameters) -> f64 {
    let model = model.clone().with_parameters(Parameters::from_values(values));
    let data: f64 = observations.iter().map(|seen| log_error(&model, seen).abs()).sum();
    let priors = Parameters::PRIORS.iter().zip(values.iter().zip(start.values()));
    let held: f64 = priors.map(|(prior, (value, start))| ((value / start).ln() / prior.spread).powi(2)).sum();
    data + PRIOR_WEIGHT * held
}

/// Predicted time of an observation, s.
pub fn predicted_seconds(model: &GpuModel, observation: &Observation) -> f64 {
    observation.kernels.iter().map(|kernel| model.seconds(kernel, observation.precision)).sum()
}

fn log_error(model: &GpuModel, observation: &Observation) -> f64 {
    (predicted_seconds(model, observation) / observation.measured_seconds).ln()
}

/// |predicted - measured| / measured of each observation.
pub fn relative_errors(model: &GpuModel, observations: &[Observation]) -> Vec<f64> {
    observations.iter().map(|seen| (predicted_seconds(model, seen) / seen.measured_seconds - 1.0).abs()).collect()
}

/// Interval factors that hold nine of ten observations of each kind, from the logarithms of their errors. The prior's factor
/// stands for a kind with few observations, unless they spread more.
pub fn spreads(observations: &[Observation], log_errors: &[f64]) -> Spreads {
    let of = |class: KernelClass| {
        let own = observations.iter().zip(log_errors).filter(|(seen, _)| seen.class() == Some(class));
        let own: Vec<f64> = own.map(|(_, error)| error.abs()).collect();
        let (enough, prior) = (own.len() >= ENOUGH, Spreads::PRIOR.of(class));
        let factor = quantile(own, COVERED).map_or(prior, f64::exp);
        rounded(if enough { factor } else { factor.max(prior) })
    };
    Spreads {
        matmul: of(KernelClass::Matmul),
        attention: of(KernelClass::Attention),
        memory: of(KernelClass::MemoryBound),
        convolution: of(KernelClass::Convolution),
        recurrent: of(KernelClass::Recurrent),
    }
}

/// The value that a share of the values does not exceed.
pub fn quantile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((share * last as f64).round() as usize).copied()
}
