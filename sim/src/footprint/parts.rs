//! What a footprint is made of.

use cutplane_units::Bytes;
use serde::Serialize;

/// Memory of one device at its peak, bytes, by what it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Parts {
    /// Weights that the passes read.
    pub weights: f64,
    /// Gradients, summed over micro-batches.
    pub gradients: f64,
    /// Optimizer state, 32-bit master weights among it.
    pub optimizer: f64,
    /// Whole weights and gradients of the units that a shard's owner gathers for a moment (ZeRO-3).
    pub gathered: f64,
    /// What the repeated layers keep for their backward passes, all micro-batches in flight.
    pub layers: f64,
    /// What operators before and behind the layers keep.
    pub ends: f64,
    /// What only the moment of the peak needs.
    pub spike: f64,
    /// Messages of the pipeline that are sent or received.
    pub messages: f64,
    /// Copies of gradients on their way.
    pub buckets: f64,
    /// Workspaces of libraries.
    pub workspace: f64,
}

impl Parts {
    /// Every part with its name.
    pub const fn named(&self) -> [(&'static str, f64); 10] {
        [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("gathered weights", self.gathered),
            ("activations of the layers", self.layers),
            ("activations before and behind", self.ends),
            ("spike", self.spike),
            ("pipeline messages", self.messages),
            ("gradient buckets", self.buckets),
            ("workspace", self.workspace),
        ]
    }

    /// Weights, gradients and optimizer state, bytes.
    pub fn state(&self) -> f64 {
        self.weights + self.gradients + self.optimizer
    }

    /// All parts, bytes.
    pub fn total(&self) -> f64 {
        self.named().iter().map(|(_, bytes)| bytes).sum()
    }

    /// The largest part.
    pub fn largest(&self) -> (&'static str, f64) {
        self.named().into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("nothing", 0.0))
    }
}

/// When a device is fullest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// While the loss of a micro-batch is computed: its logits exist in several copies.
    Loss,
    /// While the backward pass of a layer runs.
    LayerBackward,
    /// While the optimizer updates the weights: no activations, but copies of the gradients.
    OptimizerStep,
}

impl Moment {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::LayerBackward => "backward pass of a layer",
            Self::OptimizerStep => "optimizer step",
        }
    }
}

/// The devices of one pipeline stage; they are alike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageFootprint {
    /// Number of the stage, from 0.
    pub stage: u64,
    /// What a device holds at its peak.
    pub parts: Parts,
    /// When that is.
    pub moment: Moment,
    /// What the layers keep for all micro-batches in flight, bytes, whether or not that is the peak's moment.
    pub activations: f64,
}

impl StageFootprint {
    /// Bytes that tensors hold at the peak.
    pub fn peak(&self) -> Bytes {
        bytes(self.parts.total())
    }
}

/// Memory of all devices of a training step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Footprint {
    /// The stages, first to last; at least one.
    pub stages: Vec<StageFootprint>,
    /// Bytes that the framework's allocator cannot do without for each byte that tensors hold at the peak.
    pub fragmentation: f64,
    /// Bytes that it holds in the end for each such byte, when there is room.
    pub cached: f64,
    /// Bytes that the driver counts besides: the context of the device, kernels, buffers of the communication library.
    pub context: f64,
}

/// Whether a step fits, and what decides it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether every device has room.
    pub fits: bool,
    /// Room left on the fullest device over its capacity; negative when it runs out.
    pub margin: f64,
    /// The fullest stage.
    pub stage: u64,
    /// Its largest part.
    pub binding: &'static str,
    /// Bytes of that part.
    pub binding_bytes: f64,
}

impl Footprint {
    /// The stage whose devices are fullest; the first of equals.
    pub fn fullest(&self) -> &StageFootprint {
        let fuller = |best: usize, at: usize| {
            if self.stages[at].parts.total() > self.stages[best].parts.total() { at } else { best }
        };
        &self.stages[(0..self.stages.len()).fold(0, fuller)]
    }

    /// The last stage.
    pub fn last(&self) -> &StageFootprint {
        &self.stages[self.stages.len() - 1]
    }

    /// Bytes that tensors hold at the peak on the fullest device (PyTorch's `max_memory_allocated`).
    pub fn allocated(&self) -> Bytes {
        self.fullest().peak()
    }

    /// Bytes that the allocator has reserved by then (`max_memory_reserved`).
    pub fn reserved(&self) -> Bytes {
        bytes(self.fullest().parts.total() * self.cached)
    }

    /// Bytes that the driver reports for the fullest device (`nvidia-smi`).
    pub fn device(&self) -> Bytes {
        bytes(self.fullest().parts.total() * self.cached + self.context)
    }

    /// Bytes that tensors may hold on a device of `capacity` bytes before it runs out.
    pub fn room(&self, capacity: u64) -> f64 {
        (capacity as f64 - self.context).max(0.0) / self.fragmentation
    }

    /// Whether devices of `capacity` bytes are enough.
    pub fn verdict(&self, capacity: u64) -> Verdict {
        let fullest = self.fullest();
        let (binding, binding_bytes) = fullest.parts.largest();
        let used = fullest.parts.total() * self.fragmentation + self.context;
        let capacity = capacity as f64;
        let margin = (capacity - used) / capacity.max(1.0);
        Verdict { fits: used <= capacity, margin, stage: fullest.stage, binding, binding_bytes }
    }
}

/// Rounded; sizes that no machine has saturate.
fn bytes(count: f64) -> Bytes {
    Bytes::new(count.round() as u64)
}
