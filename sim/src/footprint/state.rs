//! Weights, gradients and optimizer state.

use cutplane_plan::Optimizer;
use serde::Serialize;

use super::keeping::{Keeping, Master};
use crate::estimate::{Precision, ZeroStage};

/// Bytes a trainable number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StateBytes {
    /// Of the weight that the passes read.
    pub weight: f64,
    /// Of its gradient.
    pub gradient: f64,
    /// Of optimizer state, a separate 32-bit weight among it.
    pub optimizer: f64,
    /// Of copies that exist during the optimizer's step only.
    pub during_step: f64,
}

impl StateBytes {
    /// As a framework keeps them.
    ///
    /// Mixed precision with Adam and 16-bit gradients: `2 + 2 + 12` (Rajbhandari et al. 2020, section 3.1); with gradients
    /// accumulated in 32 bits, as Megatron does for bf16: `2 + 4 + 12 = 18`, and `6 + 12 / d` with a distributed
    /// optimizer over `d` ranks.
    pub fn new(precision: Precision, optimizer: Optimizer, keeping: &Keeping) -> Self {
        let moments = 4.0 * optimizer.state_per_parameter() as f64;
        let gradient = keeping.gradient_bytes(precision);
        let (weight, optimizer) = match (precision.is_mixed(), keeping.master) {
            (true, Master::Separate) => (2.0, 4.0 + moments),
            (true, Master::Absent) => (2.0, moments / 2.0),
            _ => (4.0, moments),
        };
        let casts = keeping.casts_gradients && gradient < 4.0;
        Self { weight, gradient, optimizer, during_step: if casts { 4.0 } else { 0.0 } }
    }

    /// All that stays over the step, bytes.
    pub fn total(&self) -> f64 {
        self.weight + self.gradient + self.optimizer
    }
}

/// Weights, gradients and optimizer state on one rank, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ModelState {
    /// Weights.
    pub weights: f64,
    /// Gradients.
    pub gradients: f64,
    /// Optimizer state.
    pub optimizer: f64,
    /// Copies during the optimizer's step.
    pub during_step: f64,
}

impl ModelState {
    /// What stays over the step, bytes.
    pub fn total(&self) -> f64 {
        self.weights + self.gradients + self.optimizer
    }

    /// With the optimizer in host memory (Ren et al. 2021): its state goes, and where gradients are sharded they leave as
    /// soon as they are reduced.
    #[must_use]
    pub fn with_host_optimizer(self, stage: ZeroStage) -> Self {
        let gradients = if rank_of(stage) >= rank_of(ZeroStage::Two) { 0.0 } else { self.gradients };
        Self { gradients, optimizer: 0.0, during_step: 0.0, ..self }
    }
}

/// State of `parameters` trainable numbers on each of `ranks` ranks that share it at a ZeRO stage (Rajbhandari et al. 2020,
/// figure 1: with 16 bytes a parameter `4 P + 12 P / N`, `2 P + 14 P / N`, `16 P / N`).
///
/// ```
/// use cutplane_sim::estimate::ZeroStage;
/// use cutplane_sim::footprint::{StateBytes, model_state};
/// let adam = StateBytes { weight: 2.0, gradient: 2.0, optimizer: 12.0, during_step: 0.0 };
/// let gigabytes = |stage| model_state(7.5e9, adam, stage, 64).total() / 1e9;
/// assert_eq!(gigabytes(ZeroStage::None), 120.0);
/// assert_eq!(format!("{:.1}", gigabytes(ZeroStage::One)), "31.4");
/// ```
pub fn model_state(parameters: f64, bytes: StateBytes, stage: ZeroStage, ranks: u64) -> ModelState {
    let share = 1.0 / ranks.max(1) as f64;
    let of = |from: ZeroStage| if rank_of(stage) >= rank_of(from) { share } else { 1.0 };
    ModelState {
        weights: parameters * bytes.weight * of(ZeroStage::Three),
        gradients: parameters * bytes.gradient * of(ZeroStage::Two),
        optimizer: parameters * bytes.optimizer * of(ZeroStage::One),
        during_step: parameters * bytes.during_step * of(ZeroStage::One),
    }
}

const fn rank_of(stage: ZeroStage) -> u8 {
    match stage {
        ZeroStage::None => 0,
        ZeroStage::One => 1,
        ZeroStage::Two => 2,
        ZeroStage::Three => 3,
    }
}
