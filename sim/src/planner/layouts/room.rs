//! Whether any split of a model's layers fits a grid of devices: what is true of all splits is asked once.

use super::leaf::Appraiser;
use super::space::{Arithmetic, Grid, Timing};
use super::tally::Tally;
use crate::estimate::{EstimateError, Layout, PipelineSchedule, Recompute, ZeroStage};

/// The schedule that holds the fewest micro-batches.
const LEAN: Timing = Timing { schedule: PipelineSchedule::OneForwardOneBackward, vpp: 1 };

impl Appraiser<'_> {
    /// Whether weights, gradients and optimizer state fit however the layers are split, when all is sharded and offloaded
    /// that may be: their mean over the stages does.
    pub(super) fn state_fits(
        &self,
        arithmetic: &Arithmetic,
        grid: &Grid,
        tally: &mut Tally,
    ) -> Result<bool, EstimateError> {
        let layout = self.space.layout(arithmetic, grid, &LEAN, &self.space.frugal(ZeroStage::Three));
        let layout = Layout { recompute: Recompute::Full, ..layout };
        let needed = self.footprint(&layout)?;
        let mean = needed.stages.iter().map(|stage| stage.parts.state()).sum::<f64>() / needed.stages.len() as f64;
        let fits = mean <= needed.room(self.problem.device_memory);
        if !fits {
            tally.too_large(&layout, &needed);
        }
        Ok(fits)
    }

    /// Whether the stages of a grid have room for all layers, however they are split, when all is sharded, offloaded and
    /// recomputed that may be. No schedule holds fewer micro-batches than 1F1B, but for one that takes them one by one.
    pub(super) fn layers_fit(&self, arithmetic: &Arithmetic, grid: &Grid) -> Result<bool, EstimateError> {
        let timing = match self.problem.pins.schedule {
            Some(schedule @ PipelineSchedule::Vanilla) => Timing { schedule, ..LEAN },
            _ => LEAN,
        };
        let layout = self.space.layout(arithmetic, grid, &timing, &self.space.frugal(ZeroStage::Three));
        let layout = Layout { recompute: arithmetic.recompute.leanest(), ..layout };
        let most = self.counter.most_layers(&layout, self.problem.device_memory)?;
        Ok(most.is_none_or(|most| most >= self.space.layers()))
    }
}
