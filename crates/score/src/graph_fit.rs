//! Fitting the graph step model to the drawn rows of whole networks: numbers of each framework, of families of devices that
//! no kernel rows tell, and of TF32.

use std::collections::BTreeSet;

use cutplane_sim::graph_step::{FamilySpeed, GraphCalibration, GraphStack};

use crate::fitted::{SEED, was_fitted};
use crate::metric::Metric;
use crate::profile::Profile;
use crate::row::{Grade, MeasuredRow, Workload};
use crate::training_rows::{GraphRow, graph_row};

/// Error of a row, as a logarithm, that weighs as much as a number one deviation from its prior.
const TOLERANCE: f64 = 0.06;
/// Steps of the search, as logarithms of a factor.
const STEPS: [f64; 6] = [0.3, 0.15, 0.08, 0.04, 0.02, 0.01];
/// Sweeps over all numbers with one step.
const SWEEPS: usize = 6;
/// Narrowest interval, as a factor: whole networks that nobody fitted err by as much.
const LEAST_SPREAD: f64 = 1.2;

/// A fit and what is left.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphFit {
    /// The numbers.
    pub calibration: GraphCalibration,
    /// Rows that were fitted.
    pub rows_fitted: usize,
    /// Median of |predicted - measured| / measured over them.
    pub median_error: f64,
    /// Rows of grades A and B that can be priced, fitted or not, in their order.
    pub rows: Vec<FittedRow>,
}

/// A row beside its prediction with the fitted numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedRow {
    /// Number of the row in what was given, from 0.
    pub index: usize,
    /// Whether it was fitted.
    pub fitted: bool,
    /// Predicted value of its metric, in its unit.
    pub predicted: f64,
    /// Measured value.
    pub measured: f64,
}

/// A row that can be priced.
struct Usable {
    index: usize,
    fitted: bool,
    row: GraphRow,
    metric: Metric,
    measured: f64,
    source: String,
}

/// A number of the calibration with its prior.
struct Number {
    of: Box<dyn Fn(&mut GraphCalibration) -> &mut f64>,
    prior: f64,
    /// Deviation of the prior, as a logarithm.
    spread: f64,
    /// Whether several stacks have it in common.
    shared: bool,
}

/// Fits the numbers of `start`, which are their own priors, to the rows that `data/fitted.toml` draws; numbers that no row
/// tells stay. The absolute errors of the logarithm are minimised, one number after the other.
pub fn fit_graph_steps(rows: &[MeasuredRow], start: &GraphCalibration) -> GraphFit {
    let all: Vec<Usable> = rows.iter().enumerate().filter_map(|(index, row)| usable(index, row)).collect();
    let (usable, held_out): (Vec<Usable>, Vec<Usable>) = all.into_iter().partition(|row| row.fitted);
    let numbers = numbers(start, &usable);
    let mut calibration = start.clone();
    // What stacks have in common is not left to each of them: it is searched alone first.
    for only_shared in [true, false] {
        search(&mut calibration, &numbers, &usable, only_shared);
    }
    record(&mut calibration, &usable);
    let errors = usable.iter().map(|row| (error(row, &calibration).exp() - 1.0).abs()).collect();
    let median_error = cutplane_sim::kernel::fit::quantile(errors, 0.5).unwrap_or(0.0);
    let mut rows: Vec<FittedRow> = usable.iter().chain(&held_out).filter_map(|row| beside(row, &calibration)).collect();
    rows.sort_by_key(|row| row.index);
    GraphFit { calibration, rows_fitted: usable.len(), median_error, rows }
}

/// Descends along one number after the other with ever smaller steps.
fn search(calibration: &mut GraphCalibration, numbers: &[Number], rows: &[Usable], only_shared: bool) {
    let mut least = objective(calibration, numbers, rows);
    for step in STEPS {
        for _ in 0..SWEEPS {
            let before = least;
            for number in numbers.iter().filter(|number| number.shared || !only_shared) {
                least = improved(calibration, number, step, least, numbers, rows);
            }
            if before - least < 1e-6 {
                break;
            }
        }
    }
}

fn beside(row: &Usable, calibration: &GraphCalibration) -> Option<FittedRow> {
    let predicted = predicted(row, calibration)?;
    Some(FittedRow { index: row.index, fitted: row.fitted, predicted, measured: row.measured })
}

fn usable(index: usize, row: &MeasuredRow) -> Option<Usable> {
    let scored = row.row.workload == Workload::Training && row.row.grade != Grade::C && row.unreadable.is_empty();
    let measured = row.measured_value.filter(|value| *value > 0.0 && scored)?;
    let (graph, metric) = graph_row(&row.row, &Profile::default()).ok()?;
    let usable =
        Usable { index, fitted: was_fitted(row), row: graph, metric, measured, source: row.row.source.clone() };
    predicted(&usable, GraphCalibration::known()).map(|_| usable)
}

fn predicted(row: &Usable, calibration: &GraphCalibration) -> Option<f64> {
    let stack = calibration.stack(&row.row.stack.name)?;
    row.row.prediction(&row.metric, calibration, stack).ok()?.predicted.filter(|value| *value > 0.0)
}

/// Logarithm of predicted over measured.
fn error(row: &Usable, calibration: &GraphCalibration) -> f64 {
    predicted(row, calibration).map_or(0.0, |predicted| (predicted / row.measured).ln())
}

/// Absolute errors over the tolerance, and squared deviations from the priors.
fn objective(calibration: &mut GraphCalibration, numbers: &[Number], rows: &[Usable]) -> f64 {
    let held: f64 = numbers
        .iter()
        .map(|number| 0.5 * ((*(number.of)(calibration) / number.prior).ln() / number.spread).powi(2))
        .sum();
    held + rows.iter().map(|row| error(row, calibration).abs() / TOLERANCE).sum::<f64>()
}

/// Tries a number a step up and down; keeps what lowers the objective.
fn improved(
    calibration: &mut GraphCalibration,
    number: &Number,
    step: f64,
    least: f64,
    numbers: &[Number],
    rows: &[Usable],
) -> f64 {
    let old = *(number.of)(calibration);
    for factor in [step.exp(), (-step).exp()] {
        *(number.of)(calibration) = old * factor;
        let found = objective(calibration, numbers, rows);
        if found < least {
            return found;
        }
    }
    *(number.of)(calibration) = old;
    least
}

/// A field of a stack and the deviation of its prior.
type Field = (fn(&mut GraphStack) -> &mut f64, f64);

/// Fields of a stack that rows may tell.
const FIELDS: [Field; 11] = [
    (|stack| &mut stack.vector_speed, 0.15),
    (|stack| &mut stack.tensor_speed, 0.15),
    (|stack| &mut stack.recurrent_speed, 0.15),
    (|stack| &mut stack.pass_speed, 0.2),
    (|stack| &mut stack.rare_speed, 0.7),
    (|stack| &mut stack.launch_us, 0.4),
    (|stack| &mut stack.step_ms, 0.7),
    (|stack| &mut stack.exchange_speed, 0.7),
    (|stack| &mut stack.copy_speed, 0.2),
    (|stack| &mut stack.host_gb_per_s, 0.7),
    (|stack| &mut stack.jitter, 0.7),
];

/// Deviations of what stacks share: TF32, vector lanes, passes in 16 bits, recurrent steps.
const SHARED_SPREADS: [f64; 4] = [0.25, 0.2, 0.3, 0.5];
/// Deviations of a family's products and passes.
const FAMILY_SPREADS: [f64; 2] = [0.3, 0.25];

fn numbers(start: &GraphCalibration, rows: &[Usable]) -> Vec<Number> {
    let mut start = start.clone();
    let mut number = |of: Box<dyn Fn(&mut GraphCalibration) -> &mut f64>, spread, shared| {
        let prior = *of(&mut start);
        Number { of, prior, spread, shared }
    };
    let mut numbers = vec![
        number(Box::new(|all| &mut all.tf32_speed), SHARED_SPREADS[0], true),
        number(Box::new(|all| &mut all.vector_speed), SHARED_SPREADS[1], true),
        number(Box::new(|all| &mut all.narrow_pass_speed), SHARED_SPREADS[2], true),
        number(Box::new(|all| &mut all.untold_recurrent_speed), SHARED_SPREADS[3], true),
    ];
    for at in 0..GraphCalibration::known().family.len() {
        numbers.push(number(Box::new(move |all| &mut all.family[at].products), FAMILY_SPREADS[0], true));
        numbers.push(number(Box::new(move |all| &mut all.family[at].passes), FAMILY_SPREADS[1], true));
    }
    for (at, stack) in GraphCalibration::known().stack.iter().enumerate() {
        if rows.iter().any(|row| row.row.stack.name == stack.name) {
            for (field, spread) in FIELDS {
                numbers.push(number(Box::new(move |all| field(&mut all.stack[at])), spread, false));
            }
        }
    }
    numbers
}

/// Writes down which rows told each stack and each family, and what they leave unexplained.
fn record(calibration: &mut GraphCalibration, rows: &[Usable]) {
    let fitted = calibration.clone();
    for stack in &mut calibration.stack {
        let own: Vec<&Usable> = rows.iter().filter(|row| row.row.stack.name == stack.name).collect();
        if own.is_empty() {
            continue;
        }
        let errors = own.iter().map(|row| error(row, &fitted).abs()).collect();
        let left = cutplane_sim::kernel::fit::quantile(errors, 0.9).unwrap_or(0.0);
        stack.spread = rounded(left.exp().max(LEAST_SPREAD));
        stack.rows = drawn(&own);
        for (field, _) in FIELDS {
            *field(stack) = rounded(*field(stack));
        }
    }
    for family in &mut calibration.family {
        let FamilySpeed { products, passes, .. } = family;
        (*products, *passes) = (rounded(*products), rounded(*passes));
    }
    let GraphCalibration { tf32_speed, vector_speed, narrow_pass_speed, untold_recurrent_speed, .. } = calibration;
    for shared in [tf32_speed, vector_speed, narrow_pass_speed, untold_recurrent_speed] {
        *shared = rounded(*shared);
    }
    calibration.rows = drawn(&rows.iter().collect::<Vec<_>>());
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn drawn(rows: &[&Usable]) -> String {
    let sources: BTreeSet<&str> = rows.iter().map(|row| row.source.as_str()).collect();
    let names = sources.into_iter().collect::<Vec<_>>().join(" and ");
    format!("{} rows of {names}, drawn by digest below the share of fitted.toml with seed {SEED}", rows.len())
}
