//! The stages of a layout one by one, for plans whose stages lie on unlike devices.

use std::iter::repeat_n;

use super::error::EstimateError;
use super::layout::Layout;
use super::stage::Stage;
use super::step::Estimator;
use super::sync::Sync;

/// What one stage of a pipeline costs, s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StagePrice {
    /// Forward and backward pass of one micro-batch.
    pub(crate) seconds: f64,
    /// What follows the last backward pass: gradients between replicas, the optimizer.
    pub(crate) tail: f64,
}

impl Estimator<'_> {
    /// Each stage of a layout, and the part of a message between two stages that neither waits for, s.
    ///
    /// # Errors
    /// [`EstimateError`] for fields that do not fit together or the model.
    pub(crate) fn stage_prices(&self, layout: &Layout) -> Result<(Vec<StagePrice>, f64), EstimateError> {
        let priceable = self.priceable(layout)?;
        let stages = priceable.stages.runs.iter().flat_map(|stage| repeat_n(price(stage), stage.count as usize));
        Ok((stages.collect(), priceable.hop))
    }
}

fn price(stage: &Stage) -> StagePrice {
    let Sync { travel, behind, after_update } = &stage.sync;
    let beside = travel.slowed + travel.slowed_before + travel.behind;
    StagePrice { seconds: stage.both(), tail: beside + behind + after_update + stage.optimizer }
}
