//! From the time of a step to the row's metric and back.

use super::{FlopCount, Item, Metric, Per, Quantity, StepPart};
use crate::prediction::{RowPrediction, Skip};

/// What the conversion of a step's time needs; unknown numbers make metrics that need them a [`Skip`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepFacts {
    /// Samples in a step over all replicas.
    pub samples: f64,
    /// Tokens of a sample.
    pub tokens_per_sample: Option<f64>,
    /// Devices.
    pub devices: f64,
    /// Operations of the model in a step, over all devices: forward, and twice that backward.
    pub model_flops: Option<f64>,
    /// Operations executed in a step, over all devices, recomputation included.
    pub executed_flops: Option<f64>,
    /// Dense peak of a device in the precision of the products, FLOP/s.
    pub peak_flops: Option<f64>,
}

impl Metric {
    /// The row's metric for a step that takes `seconds`, in the row's unit.
    ///
    /// # Errors
    /// [`Skip`] when the metric is not one of a whole step, or needs a number that the facts leave out.
    pub fn of_step(&self, seconds: f64, facts: &StepFacts) -> Result<f64, Skip> {
        match self.amount_of_step(facts)? {
            None => Ok(self.in_unit(seconds)),
            Some(amount) => Ok(self.in_unit(amount / seconds)),
        }
    }

    /// The time of a step whose metric has this value in the row's unit, s. The inverse of [`Metric::of_step`].
    ///
    /// # Errors
    /// As [`Metric::of_step`].
    pub fn step_seconds(&self, value: f64, facts: &StepFacts) -> Result<f64, Skip> {
        match self.amount_of_step(facts)? {
            None => Ok(self.in_base(value)),
            Some(amount) => Ok(amount / self.in_base(value)),
        }
    }

    /// A prediction of the row's metric from the step's time and the ends of its interval, s.
    ///
    /// # Errors
    /// As [`Metric::of_step`].
    pub fn step_prediction(&self, seconds: [f64; 3], facts: &StepFacts) -> Result<RowPrediction, Skip> {
        let [low, middle, high] = seconds;
        Ok(RowPrediction::new(self.of_step(middle, facts)?, self.of_step(low, facts)?, self.of_step(high, facts)?))
    }

    /// What the metric divides by the time of a step, in base units; `None` when it is the time itself.
    fn amount_of_step(&self, facts: &StepFacts) -> Result<Option<f64>, Skip> {
        let missing = |what: &str| Skip::new("missing-for-metric", what.to_owned());
        match self.quantity {
            Quantity::Step { part: StepPart::Whole, one_layer: false } => Ok(None),
            Quantity::Throughput { item, per } => {
                let items = match item {
                    Item::Sample => facts.samples,
                    Item::Token => {
                        facts.samples * facts.tokens_per_sample.ok_or_else(|| missing("tokens of a sample"))?
                    }
                    Item::OutputToken | Item::PromptToken | Item::DecodedToken | Item::Request => {
                        return Err(Skip::new("unsupported-metric", "requests in a training step"));
                    }
                };
                Ok(Some(items / devices(per, facts)?))
            }
            Quantity::StepFlops { count, per } => Ok(Some(flops(count, facts)? / devices(per, facts)?)),
            Quantity::Utilisation { count } => {
                let peak = facts.peak_flops.ok_or_else(|| missing("peak of the device"))?;
                Ok(Some(flops(count, facts)? / (peak * facts.devices)))
            }
            _ => Err(Skip::new("unsupported-metric", "not a metric of a whole step")),
        }
    }
}

fn flops(count: FlopCount, facts: &StepFacts) -> Result<f64, Skip> {
    let flops = match count {
        FlopCount::Model | FlopCount::Unstated => facts.model_flops,
        FlopCount::Executed => facts.executed_flops,
    };
    flops.ok_or_else(|| Skip::new("missing-for-metric", "operations of the model"))
}

/// Devices that a figure is divided by.
fn devices(per: Per, facts: &StepFacts) -> Result<f64, Skip> {
    match per {
        Per::All => Ok(1.0),
        Per::Device => Ok(facts.devices),
        Per::Unstated if facts.devices <= 1.0 => Ok(1.0),
        Per::Unstated => Err(Skip::new("ambiguous-metric", "of one device or of all: the row does not say")),
    }
}
