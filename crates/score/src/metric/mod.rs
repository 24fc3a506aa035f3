//! Metrics under one definition each: what a row's value counts, over how many devices, in which unit.
//!
//! Conventions that differ between sources (and are told apart here): TFLOP/s and utilisation count the model's own
//! operations, or those executed with recomputation; throughput is of all devices unless the unit or the name says a
//! device.

mod convert;
mod name;
mod unit;

pub use convert::StepFacts;

use serde::Serialize;

use crate::prediction::Skip;
use crate::row::{Row, Workload};

/// Over which devices a rate is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// All devices together.
    All,
    /// One device.
    Device,
    /// The row does not say.
    Unstated,
}

/// What a throughput counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// Tokens; in inference, input and output together.
    Token,
    /// Tokens that a model generates, over the whole time of their requests.
    OutputToken,
    /// Tokens of prompts, over the time up to the first token.
    PromptToken,
    /// Tokens that a model generates, over the time after the first.
    DecodedToken,
    /// Samples: images, sequences, sentences.
    Sample,
    /// Requests to a server.
    Request,
}

/// Which operations FLOP/s count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlopCount {
    /// Those of the model: forward, and twice that backward.
    Model,
    /// Those executed, recomputation included.
    Executed,
    /// The row does not say; taken as the model's own.
    Unstated,
}

/// Part of a training step that a time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepPart {
    /// The whole step with its update.
    Whole,
    /// The forward pass of a batch.
    Forward,
    /// The backward pass of a batch, with recomputation.
    Backward,
    /// Both passes, no update.
    ForwardBackward,
    /// The forward pass in inference mode: nothing is kept.
    Evaluation,
}

/// Part of a request that a latency counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestPart {
    /// From the request to its last token; of an encoder, one forward pass.
    Whole,
    /// Up to the first token.
    FirstToken,
    /// A further token.
    NextToken,
}

/// Which of many latencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// The mean, the median, or the row does not say.
    Typical,
    /// The smallest.
    Least,
    /// The largest.
    Most,
    /// A percentile, such as 99.
    Percentile(f64),
}

/// What a bandwidth of a collective divides by the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bandwidth {
    /// What the busiest rank moves (`busbw` of nccl-tests).
    Bus,
    /// The message.
    Algorithm,
    /// The message times the ranks (DeepBench).
    AllRanks,
}

/// Which memory a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryPart {
    /// Everything at its peak.
    Peak,
    /// Activations.
    Activations,
    /// Parameters, gradients and optimizer state.
    ModelState,
}

/// What a row's value is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Quantity {
    /// Time of a training step or a part of it, s. `one_layer`: of one repeated layer and one micro-batch.
    Step {
        /// Which part.
        part: StepPart,
        /// Of one repeated layer only.
        one_layer: bool,
    },
    /// Items a second.
    Throughput {
        /// What is counted.
        item: Item,
        /// Over which devices.
        per: Per,
    },
    /// Operations a second of a training step, FLOP/s.
    StepFlops {
        /// Which operations.
        count: FlopCount,
        /// Over which devices.
        per: Per,
    },
    /// Operations a second over the peak of the devices, as a share.
    Utilisation {
        /// Which operations.
        count: FlopCount,
    },
    /// Time of a request, s.
    Latency {
        /// Which part.
        part: RequestPart,
        /// Which of many.
        statistic: Statistic,
    },
    /// Time of a kernel, s.
    KernelTime,
    /// Operations a second of a kernel, FLOP/s.
    KernelFlops,
    /// Time of a collective, s.
    CollectiveTime,
    /// Bandwidth of a collective, bytes/s.
    CollectiveBandwidth {
        /// What is divided by the time.
        of: Bandwidth,
    },
    /// Memory, GiB.
    Memory {
        /// Which.
        part: MemoryPart,
        /// On one device, or on all.
        per: Per,
    },
    /// Whether a step ran out of memory: 1 if it did.
    OutOfMemory,
}

/// A row's metric under one definition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// What it is.
    pub quantity: Quantity,
    /// Base units (s, items/s, FLOP/s, bytes/s, GiB, a share) in one unit of the row: 0.001 for ms.
    pub unit: f64,
}

impl Metric {
    /// The metric of a row.
    ///
    /// # Errors
    /// [`Skip`] `unknown-unit`, `unknown-metric` or `unsupported-metric` (understood, but nothing that is predicted: a
    /// ratio to another row, an epoch).
    pub fn of(row: &Row) -> Result<Self, Skip> {
        Self::parse(&row.metric_name, &row.metric_unit, row.workload)
    }

    /// As [`Metric::of`], from the texts.
    ///
    /// # Errors
    /// As [`Metric::of`].
    pub fn parse(metric_name: &str, metric_unit: &str, workload: Workload) -> Result<Self, Skip> {
        let name = metric_name.to_ascii_lowercase();
        let (unit, rest) = unit::parse(&name, metric_unit)?;
        let quantity = name::quantity(&format!("{name} {rest}"), unit.dimension, workload)?;
        Ok(Self { quantity, unit: unit.scale })
    }

    /// Whether the value is an amount of memory.
    pub const fn is_memory(&self) -> bool {
        matches!(self.quantity, Quantity::Memory { .. })
    }

    /// Whether the value is true or false.
    pub const fn is_boolean(&self) -> bool {
        matches!(self.quantity, Quantity::OutOfMemory)
    }

    /// A value in base units as a value in the row's unit.
    pub const fn in_unit(&self, base: f64) -> f64 {
        base / self.unit
    }

    /// A value in the row's unit as a value in base units.
    pub const fn in_base(&self, value: f64) -> f64 {
        value * self.unit
    }
}
