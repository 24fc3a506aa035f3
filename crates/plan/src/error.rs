//! What can be wrong with a plan or its file.

use std::path::PathBuf;

use cutplane_units::Bytes;
use thiserror::Error;

/// A rule that a plan breaks. [`crate::verify`] returns all that it finds.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum PlanViolation {
    /// Not a plan file, or one of another kind.
    #[error("field 'format' is '{found}', expected 'cutplane-plan'")]
    Format {
        /// What the file says.
        found: String,
    },
    /// A version that this build does not read.
    #[error("field 'version' is {found}; this build reads version {expected}: make the plan again with this build")]
    Version {
        /// What the file says.
        found: u32,
        /// What this build reads.
        expected: u32,
    },
    /// The model has changed since.
    #[error("field 'model.digest' is {planned}, but the model's digest is {actual}: the model has changed, plan again")]
    ModelChanged {
        /// In the plan.
        planned: String,
        /// Of the graph at hand.
        actual: String,
    },
    /// The cluster has changed since.
    #[error(
        "field 'cluster.digest' is {planned}, but the cluster's digest is {actual}: the cluster has changed, plan again"
    )]
    ClusterChanged {
        /// In the plan.
        planned: String,
        /// Of the graph at hand.
        actual: String,
    },
    /// No stage.
    #[error("field 'stages' is empty")]
    NoStages,
    /// A stage without operators.
    #[error("stage {stage} has no operators")]
    EmptyStage {
        /// Which.
        stage: usize,
    },
    /// A stage without devices.
    #[error("stage {stage} has no devices")]
    NoDevices {
        /// Which.
        stage: usize,
    },
    /// Stages with unequal numbers of replicas.
    #[error("stage {stage} has {got} devices, stage 0 has {expected}: all stages need the same number of replicas")]
    UnequalReplicas {
        /// Which.
        stage: usize,
        /// Devices of stage 0.
        expected: usize,
        /// Devices of this one.
        got: usize,
    },
    /// A device that the cluster does not have.
    #[error("stage {stage} names device '{device}', which the cluster does not have")]
    UnknownDevice {
        /// Which stage.
        stage: usize,
        /// The name.
        device: String,
    },
    /// One device twice.
    #[error("device '{device}' is given to stage {first} and to stage {second}")]
    DeviceReused {
        /// The name.
        device: String,
        /// First use.
        first: usize,
        /// Second use.
        second: usize,
    },
    /// An operator id beyond the model.
    #[error("stage {stage} names operator {op}, but the model has only {count}")]
    UnknownOp {
        /// Which stage.
        stage: usize,
        /// The id.
        op: usize,
        /// Operators in the model.
        count: usize,
    },
    /// An operator in no stage.
    #[error("operator '{op}' is in no stage")]
    OpMissing {
        /// Its name.
        op: String,
    },
    /// An operator in two stages.
    #[error("operator '{op}' is in stage {first} and in stage {second}")]
    OpRepeated {
        /// Its name.
        op: String,
        /// First stage.
        first: usize,
        /// Second stage.
        second: usize,
    },
    /// A value would have to flow from a later stage to an earlier one.
    #[error("'{value}' flows from stage {from} back to stage {to}: stages must follow the data")]
    BackwardFlow {
        /// Name of the value.
        value: String,
        /// Stage of the producer.
        from: usize,
        /// Stage of the consumer.
        to: usize,
    },
    /// The batch cannot be cut evenly.
    #[error(
        "field 'workload.global_batch' is {global_batch}, which {replicas} replicas x {micro_batches} micro-batches do not \
         divide: choose a multiple of {}",
        replicas.saturating_mul(*micro_batches)
    )]
    BatchDoesNotDivide {
        /// Samples a step.
        global_batch: u64,
        /// Data-parallel degree.
        replicas: u64,
        /// Micro-batches a replica.
        micro_batches: u64,
    },
    /// A count that must be at least one.
    #[error("field '{field}' must be at least 1")]
    Zero {
        /// Which.
        field: &'static str,
    },
    /// More micro-batches than any pipeline has use for, and than a program could be written out for.
    #[error("field 'micro_batches' is {found}; at most {most} can be lowered: make the micro-batches larger")]
    TooManyMicroBatches {
        /// In the plan.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// Training needs a loss.
    #[error(
        "model '{model}' has no loss, so it cannot be trained: choose a head with a loss, or give --vocab to one that has none without"
    )]
    NoLoss {
        /// Name of the model.
        model: String,
    },
    /// A stage on other devices than the one whose devices it shares under an interleaved schedule.
    #[error(
        "stage {stage} must be on the devices of stage {of}: interleaved stages take turns on {ranks} device groups, each as often as any other"
    )]
    NotInterleaved {
        /// The stage.
        stage: usize,
        /// The stage whose devices it needs.
        of: usize,
        /// Groups of devices.
        ranks: usize,
    },
    /// Micro-batches that an interleaved schedule cannot deal out.
    #[error(
        "field 'micro_batches' is {micro_batches}; an interleaved schedule over {ranks} device groups needs a multiple of it"
    )]
    InterleavedMicroBatches {
        /// In the plan.
        micro_batches: u64,
        /// Groups of devices.
        ranks: usize,
    },
    /// Two settings that exclude each other.
    #[error("field 'execution.{field}' is {value}, which {why}: {remedy}")]
    Execution {
        /// Which.
        field: &'static str,
        /// What it says.
        value: String,
        /// What is wrong with it.
        why: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A split over a tensor axis that cannot be executed.
    #[error("field 'execution.tensor': {problem}: leave the operator out of the splits, or choose another degree")]
    Tensor {
        /// What is wrong, with the operator.
        problem: String,
    },
    /// An element type that a device cannot compute in.
    #[error("device '{device}' has no peak rate for {precision}: choose another precision or device")]
    Precision {
        /// The device.
        device: String,
        /// The element type.
        precision: String,
    },
    /// Parameters, gradients and optimizer state alone pass a device's memory.
    #[error(
        "device '{device}' has {available}, but parameters, gradients and optimizer state of stage {stage} alone need \
         {needed}, {} too much",
        Bytes::new(needed.get() - available.get())
    )]
    StateExceedsMemory {
        /// The device.
        device: String,
        /// The stage.
        stage: usize,
        /// Its state.
        needed: Bytes,
        /// Memory of the device.
        available: Bytes,
    },
}

/// A plan file that cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanFileError {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `write`.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Not the JSON of a plan.
    #[error("{path}: not a plan: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A plan of another format or version.
    #[error("{path}: {violation}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        violation: PlanViolation,
    },
}
