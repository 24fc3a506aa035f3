//! Rows of convolutional and recurrent networks: operator graphs of the zoo, priced operator by operator.

mod gnmt;
mod network;
mod plan;
mod setting;

use cutplane_sim::graph_step::GraphStack;
use cutplane_sim::prediction::Predicted;

use crate::metric::{Item, Metric, Per, Quantity};
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
    let mut prediction = setting.prediction(metric, setting.stack)?;
    setting.explain(&mut prediction);
    Ok(prediction)
}

impl GraphRow {
    /// The row's metric with the numbers of `stack`.
    pub(crate) fn prediction(&self, metric: &Metric, stack: &GraphStack) -> Result<RowPrediction, Skip> {
        let time = Predicted::within(self.seconds(metric, stack)?, stack.spread);
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
            (Item::Token | Item::OutputToken, Some(tokens)) => Ok(samples * tokens),
            (Item::Token | Item::OutputToken, None) => {
                Err(Skip::new("unsupported-metric", "tokens of a network without tokens"))
            }
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
            ("speed of products over bare kernels", stack.product_speed, ""),
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
