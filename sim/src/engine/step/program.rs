//! What a step asks of every class of ranks.

use cutplane_units::Nanos;
use serde::Serialize;

use super::error::StepError;
use super::schedule::PipelineSchedule;

/// What a rank does in a part of a pass, or behind the passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Activity {
    /// Kernels of a forward pass.
    Forward,
    /// Kernels of a backward pass.
    Backward,
    /// Kernels of weight gradients that are a pass of their own.
    WeightGradient,
    /// What is computed again before a backward pass.
    Recompute,
    /// A collective of tensor parallelism, as far as nothing hides it.
    TensorParallel,
    /// The exchange of context parallelism, as far as nothing hides it.
    ContextParallel,
    /// The all-to-all of expert parallelism.
    ExpertParallel,
    /// Gathering and scattering of shards of parameters, as far as nothing hides it.
    Sharding,
    /// The exchange with a neighbouring stage that a pass waits for.
    Exchange,
    /// The device waits for its host.
    Host,
    /// A message leaves for the next stage.
    Send,
    /// A message comes from a neighbouring stage.
    Receive,
    /// A bucket of gradients among the replicas.
    Gradients,
    /// Gradients of a parameter that the first and the last stage share.
    TiedGradients,
    /// The update of the parameters.
    Optimizer,
    /// Every rank gets the parameters that the others updated.
    ParameterGather,
    /// Fixed cost of a step: data, logging, bookkeeping.
    Overhead,
}

/// A part of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// What is done.
    pub activity: Activity,
    /// How long it takes.
    pub time: Nanos,
}

/// A pass over one micro-batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pass {
    /// How long it takes.
    pub time: Nanos,
    /// Its parts in order; their times add up to the pass, where there are any.
    pub pieces: Vec<Piece>,
}

impl Pass {
    /// A pass whose parts do not matter.
    pub const fn whole(time: Nanos) -> Self {
        Self { time, pieces: Vec::new() }
    }

    /// A pass of these parts.
    pub fn of_pieces(pieces: Vec<Piece>) -> Self {
        Self { time: pieces.iter().map(|piece| piece.time).sum(), pieces }
    }
}

/// The passes of one model chunk; equal chunks share an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChunkWork {
    /// Forward.
    pub forward: Pass,
    /// Backward; without the weight gradients where those are passes of their own.
    pub backward: Pass,
    /// Gradients of the weights; run by [`PipelineSchedule::ZeroBubble`] alone.
    pub weight_gradient: Pass,
}

/// Gradients that travel in equal buckets beside the pass that completes them: bucket `i` of `n` is ready when `i / n` of
/// that pass is done, and buckets of a rank travel one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gradients {
    /// How long all buckets take.
    pub time: Nanos,
    /// Number of buckets; 0 where nothing travels.
    pub buckets: u64,
}

/// One device of the pipeline: a class of equal ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceWork {
    /// Its chunks in the order of the model: indices into [`StepProgram::kinds`].
    pub chunks: Vec<usize>,
    /// The gradients of each chunk that travel beside its last pass.
    pub gradients: Vec<Gradients>,
    /// Synchronisation of gradients behind the last pass.
    pub sync: Nanos,
    /// The update of its parameters.
    pub optimizer: Nanos,
    /// What follows the update: parameters that replicas hand each other.
    pub gather: Nanos,
}

/// A message between two neighbouring stages; it travels beside computation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HopTime {
    /// Time that the link is busy; a link carries one message after the other, each direction by itself.
    pub transfer: Nanos,
    /// Latency after that.
    pub latency: Nanos,
}

/// One training step of a layout, one rank for each class of equal ranks ([module documentation](super)).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepProgram {
    /// Order of the passes.
    pub schedule: PipelineSchedule,
    /// Micro-batches of a replica; for [`PipelineSchedule::Interleaved`] a multiple of the devices.
    pub micro_batches: u64,
    /// Model chunks a device.
    pub chunks: usize,
    /// The distinct chunks.
    pub kinds: Vec<ChunkWork>,
    /// The devices of the pipeline, first to last.
    pub devices: Vec<DeviceWork>,
    /// Messages between stages, both ways.
    pub hop: HopTime,
    /// Time of kernels while buckets of gradients travel, over their time alone; at least 1.
    pub overlap_slowdown: f64,
    /// All-reduce of gradients that the first and the last device share.
    pub tied: Nanos,
    /// Fixed cost of the step.
    pub overhead: Nanos,
    /// Ranks that work in step on every pass of one replica of one device: tensor times context parallel degree.
    pub ranks_in_step: u64,
    /// Replicas that see different samples.
    pub replicas: u64,
}

impl StepProgram {
    /// Ranks that the step stands for.
    pub const fn ranks(&self) -> u64 {
        self.ranks_in_step * self.replicas * self.devices.len() as u64
    }

    pub(super) fn work(&self, device: usize, chunk: usize) -> &ChunkWork {
        &self.kinds[self.devices[device].chunks[chunk]]
    }
}

/// Most micro-batches, chunks and devices of a program.
const MOST: u64 = 1 << 24;

impl StepProgram {
    /// A step without devices, one micro-batch, one chunk a device, no communication: a base for others.
    pub const fn of(schedule: PipelineSchedule) -> Self {
        Self {
            schedule,
            micro_batches: 1,
            chunks: 1,
            kinds: Vec::new(),
            devices: Vec::new(),
            hop: HopTime { transfer: Nanos::ZERO, latency: Nanos::ZERO },
            overlap_slowdown: 1.0,
            tied: Nanos::ZERO,
            overhead: Nanos::ZERO,
            ranks_in_step: 1,
            replicas: 1,
        }
    }

    /// Checks that the fields fit together.
    pub(super) fn check(&self) -> Result<(), StepError> {
        let refuse = |field, problem: String, remedy| Err(StepError { field, problem, remedy });
        let counts = [
            ("devices", self.devices.len() as u64),
            ("chunks", self.chunks as u64),
            ("micro_batches", self.micro_batches),
            ("ranks_in_step", self.ranks_in_step),
            ("replicas", self.replicas),
        ];
        if let Some((field, count)) = counts.into_iter().find(|(_, count)| !(1..=MOST).contains(count)) {
            return refuse(field, format!("{count} is not between 1 and 2^24"), "give a positive number");
        }
        if self.chunks > 1 && self.schedule != PipelineSchedule::Interleaved {
            let problem = format!("{} chunks a device in {:?}", self.chunks, self.schedule);
            return refuse("chunks, schedule", problem, "interleave, or give every device one chunk");
        }
        if self.chunks > 1 && !self.micro_batches.is_multiple_of(self.devices.len() as u64) {
            let problem = format!("{} micro-batches on {} interleaved devices", self.micro_batches, self.devices.len());
            return refuse("micro_batches, devices", problem, "make micro-batches a multiple of the devices");
        }
        let fits = |device: &DeviceWork| {
            device.chunks.len() == self.chunks
                && device.gradients.len() == self.chunks
                && device.chunks.iter().all(|kind| *kind < self.kinds.len())
        };
        if let Some(device) = self.devices.iter().position(|device| !fits(device)) {
            let problem = format!("device {device} does not have {} chunks with gradients each", self.chunks);
            return refuse("devices", problem, "give one known kind and one exchange of gradients for each chunk");
        }
        if !(self.overlap_slowdown.is_finite() && self.overlap_slowdown >= 1.0) {
            return refuse("overlap_slowdown", self.overlap_slowdown.to_string(), "write 1 or more");
        }
        Ok(())
    }
}
