//! Rows of convolutional and recurrent networks: operator graphs of the zoo, priced operator by operator.

mod gnmt;
mod network;
mod plan;
mod setting;

use cutplane_sim::graph_step::{GraphCalibration, GraphStack};
use cutplane_sim::prediction::Predicted;

use crate::metric::{Item, Metric, Per, Quantity};
use crate::parse::{self, RowModel};
use crate::prediction::{Origin, RowPrediction, Skip};
use crate::profile::Profile;
use crate::row::Row;

pub(crate) use setting::GraphRow;

/// Predicts the row's metric for the network `name`, spelled as [`crate::parse::RowModel::Named`] does.
///
/// # Errors
/// [`Skip`] when the row cannot be represented.
pub(super) fn predict(row: &Row, metric: &Metric, name: &str, profile: &Profile) -> Result<RowPrediction, Skip> {
    let setting = GraphRow::of(row, metric, name, profile)?;
    let mut prediction = setting.prediction(metric, GraphCalibration::known(), setting.stack)?;
    setting.explain(&mut prediction);
    Ok(prediction)
}

/// A row of a network of this room with its metric: what a fit tries numbers on.
///
/// # Errors
/// [`Skip`] when the row cannot be represented.
pub(crate) fn graph_row(row: &Row, profile: &Profile) -> Result<(GraphRow, Metric), Skip> {
    let metric = Metric::of(row)?;
    match parse::model(row)? {
        RowModel::Named { name } => GraphRow::of(row, &metric, &name, profile).map(|graph| (graph, metric)),
        RowModel::Transformer(_) => Err(Skip::new("unsupported-network", "a transformer")),
    }
}

impl GraphRow {
    /// The row's metric with the numbers of `stack`.
    pub(crate) fn prediction(
        &self,
        metric: &Metric,
        calibration: &GraphCalibration,
        stack: &GraphStack,
    ) -> Result<RowPrediction, Skip> {
        let time = Predicted::within(self.seconds(metric, calibration, stack)?, stack.spread);
        let of = |time: Predicted, value: &dyn Fn(f64) -> f64| {
            RowPrediction::new(value(time.seconds), value(time.low), value(time.high))
        };
        let mut prediction = match metric.quantity {
            Quantity::Step { .. } => of(time, &|seconds| metric.in_unit(seconds)),
            Quantity::Throughput { item, per } => {
                let items = self.items(item)? / if per == Per::Device { self.devices as f64 } else { 1.0 };
                of(time, &|seconds| metric.in_unit(items / seconds))
            }
            _ => {
                return Err(Skip::new(
                    "unsupported-metric",
                    "a network of unlike operators has a time and a throughput",
                ));
            }
        };
        prediction.extrapolates = self.extrapolates;
        Ok(prediction)
    }

    /// Items of a step over all devices.
    fn items(&self, item: Item) -> Result<f64, Skip> {
        let samples = (self.micro_batch * self.micro_batches * self.replicas) as f64;
        match (item, self.network.tokens_per_sample) {
            (Item::Sample | Item::Request, _) => Ok(samples),
            (_, Some(tokens)) => Ok(samples * tokens),
            (_, None) => Err(Skip::new("unsupported-metric", "tokens of a network without tokens")),
        }
    }

    fn explain(&self, prediction: &mut RowPrediction) {
        let stack = self.stack;
        let origin = if stack.rows.starts_with("assumed") {
            Origin::Assumed
        } else {
            Origin::Calibrated { rows: stack.rows.as_str().into() }
        };
        prediction.note("device", self.gpu.name(), Origin::Datasheet);
        prediction.note("standing of its kernel parameters", format!("{:?}", self.gpu.standing()), Origin::Datasheet);
        prediction.note("stack", &stack.name, Origin::Stated);
        let numbers = [
            ("speed of products on vector lanes over bare kernels", stack.vector_speed, ""),
            ("speed of products on matrix units over bare kernels", stack.tensor_speed, ""),
            ("speed of passes over bare kernels", stack.pass_speed, ""),
            ("launch of a kernel", stack.launch_us, " us"),
            ("fixed time of a step", stack.step_ms, " ms"),
            ("speed of the exchange of gradients", stack.exchange_speed, ""),
            ("share of the exchange beside the backward pass", stack.exchange_overlap, ""),
        ];
        for (name, value, unit) in numbers {
            prediction.note(name, format!("{value}{unit}"), origin.clone());
        }
        prediction.trace.extend(self.trace.iter().cloned());
    }
}
