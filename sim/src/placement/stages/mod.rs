//! Pipelines whose stages differ in replication and tensor-parallel degree, for graphs of given costs.
//!
//! The problem is that of Tarnawski, Narayanan, Phanishayee, "Piper: Multidimensional Planner for DNN Parallelization",
//! NeurIPS 2021, section 3; with one tensor-parallel degree and one variant a layer it is that of PipeDream's optimizer
//! (Narayanan et al., SOSP 2019, section 3.1). A stage is a contiguous part of the graph on `t d` devices: `d` replicas
//! of `t` tensor-parallel devices. A layer has variants (with and without recomputation) for each `t`. The time of a
//! micro-batch in a stage is
//!
//! ```text
//! sum of (p + 2 (c + sync) / B) / d + 4 w (d - 1) / (d N B)
//! ```
//!
//! with the computing time `p`, bytes `c` and `sync` of the edges that enter or leave the stage, weights of `w` bytes,
//! `N` micro-batches a step and bandwidth `B`. The slowest stage sets the pace. A device keeps `a y + b` bytes of a layer,
//! where `y` is the sum of the replicas of this stage and those behind it over `d`, rounded up: the micro-batches in flight.

mod error;
mod file;
mod memory;
mod search;

use std::collections::BTreeMap;

pub use error::StagesError;
pub use file::{read_stages_problem, stages_problem_from_str};
pub use search::{StagedPlan, search_stages};

/// Most layers of a problem: sets of them are words of so many bits.
pub const MOST_STAGED_LAYERS: usize = 128;

/// One way to compute a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerVariant {
    /// Its name.
    pub name: String,
    /// Both passes of a micro-batch on one replica, s.
    pub seconds: f64,
    /// Weights that replicas synchronise, bytes.
    pub weight_bytes: f64,
    /// Memory for each micro-batch in flight, bytes.
    pub bytes_per_micro_batch: f64,
    /// Memory whatever is in flight, bytes.
    pub bytes: f64,
    /// What tensor-parallel devices exchange besides when the edge from this layer leads in from another stage, bytes.
    pub sync_in: BTreeMap<usize, f64>,
    /// The same for edges that lead out to this layer.
    pub sync_out: BTreeMap<usize, f64>,
}

/// A layer with its variants for each tensor-parallel degree.
#[derive(Clone, Debug, PartialEq)]
pub struct StagedLayer {
    /// Its name.
    pub name: String,
    /// Variants by degree.
    pub variants: BTreeMap<u64, Vec<LayerVariant>>,
}

/// Layers to be cut into stages.
#[derive(Clone, Debug, PartialEq)]
pub struct StagesProblem {
    /// Devices, all alike.
    pub devices: u64,
    /// Memory of one, bytes.
    pub memory: f64,
    /// Bandwidth of each towards all others, bytes/s.
    pub bandwidth: f64,
    /// Micro-batches of a step, which degrees of replication divide. `None`: PipeDream's rounds, where replicas synchronise
    /// after one micro-batch each, and every degree goes.
    pub micro_batches: Option<u64>,
    /// The layers.
    pub layers: Vec<StagedLayer>,
    /// Edges by position of their layers, with the bytes of a micro-batch that they carry.
    pub edges: Vec<(usize, usize, f64)>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Its layers with the position of the variant that was chosen.
    pub layers: Vec<(usize, usize)>,
    /// Replicas.
    pub replicas: u64,
    /// Tensor-parallel devices of each.
    pub tensor: u64,
}

/// What a stage takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageUse {
    /// Time of a micro-batch, s.
    pub seconds: f64,
    /// Memory of one of its devices, bytes.
    pub bytes: f64,
}

impl StagesProblem {
    /// Checks amounts, degrees and edges.
    ///
    /// # Errors
    /// [`StagesError`], naming the layer.
    pub fn check(&self) -> Result<(), StagesError> {
        let count = self.layers.len();
        if count == 0 || count > MOST_STAGED_LAYERS {
            return Err(StagesError::Layers { count });
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if self.devices == 0 || self.micro_batches == Some(0) || !positive(self.memory) || !positive(self.bandwidth) {
            return Err(StagesError::Machine);
        }
        for layer in &self.layers {
            let all = || layer.variants.values().flatten();
            let amounts = |own: &LayerVariant| {
                let fixed = [own.seconds, own.weight_bytes, own.bytes_per_micro_batch, own.bytes];
                fixed.into_iter().chain(own.sync_in.values().copied()).chain(own.sync_out.values().copied()).collect()
            };
            let wrong = |own: &LayerVariant| -> bool {
                let amounts: Vec<f64> = amounts(own);
                amounts.iter().any(|value| !value.is_finite() || *value < 0.0)
            };
            if all().next().is_none() || layer.variants.contains_key(&0) || all().any(wrong) {
                return Err(StagesError::Layer { name: layer.name.clone() });
            }
        }
        let outside = |(from, to, bytes): &&(usize, usize, f64)| {
            *from >= count || *to >= count || from == to || !bytes.is_finite() || *bytes < 0.0
        };
        match self.edges.iter().find(outside) {
            Some((from, to, _)) => Err(StagesError::Edge { from: *from, to: *to }),
            None => Ok(()),
        }
    }

    /// Time and memory of each stage, from the first to the last, counted anew from the definition.
    ///
    /// # Errors
    /// [`StagesError::Plan`] when the stages are no plan of this problem.
    pub fn evaluate(&self, stages: &[Stage]) -> Result<Vec<StageUse>, StagesError> {
        let refuse = |problem: &str| StagesError::Plan { problem: problem.to_owned() };
        let mut at = vec![usize::MAX; self.layers.len()];
        for (number, stage) in stages.iter().enumerate() {
            for (layer, _) in &stage.layers {
                match at.get_mut(*layer) {
                    Some(place) if *place == usize::MAX => *place = number,
                    _ => return Err(refuse("a layer is on two stages, or unknown")),
                }
            }
        }
        if at.contains(&usize::MAX) || self.edges.iter().any(|(from, to, _)| at[*from] > at[*to]) {
            return Err(refuse("a layer is on no stage, or behind one that needs it"));
        }
        let devices: u64 = stages.iter().map(|stage| stage.replicas * stage.tensor).sum();
        if devices > self.devices || stages.iter().any(|stage| stage.replicas == 0 || stage.tensor == 0) {
            return Err(refuse("it takes more devices than there are, or none"));
        }
        let one = |(number, stage): (usize, &Stage)| -> Result<StageUse, StagesError> {
            let behind: u64 = stages[number..].iter().map(|other| other.replicas).sum();
            self.stage_use(stage, &at, number, behind.div_ceil(stage.replicas)).ok_or_else(|| refuse("no such variant"))
        };
        stages.iter().enumerate().map(one).collect()
    }

    fn stage_use(&self, stage: &Stage, at: &[usize], number: usize, in_flight: u64) -> Option<StageUse> {
        let replicas = stage.replicas as f64;
        let between_syncs = self.micro_batches.unwrap_or(stage.replicas) as f64;
        let mut used = StageUse { seconds: 0.0, bytes: 0.0 };
        for (layer, variant) in &stage.layers {
            let own = self.layers[*layer].variants.get(&stage.tensor)?.get(*variant)?;
            let mut exchanged = 0.0;
            for (from, to, bytes) in &self.edges {
                if to == layer && at[*from] != number {
                    exchanged += bytes + own.sync_in.get(from).copied().unwrap_or(0.0);
                }
                if from == layer && at[*to] != number {
                    exchanged += bytes + own.sync_out.get(to).copied().unwrap_or(0.0);
                }
            }
            let weights = 4.0 * own.weight_bytes * (replicas - 1.0) / (replicas * between_syncs);
            used.seconds += own.seconds / replicas + (2.0 * exchanged / replicas + weights) / self.bandwidth;
            used.bytes += own.bytes_per_micro_batch * in_flight as f64 + own.bytes;
        }
        Some(used)
    }
}
