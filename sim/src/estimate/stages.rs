//! The stages of a layout one by one, for plans whose stages lie on unlike devices.

use super::error::EstimateError;
use super::layout::Layout;
use super::step::Estimator;

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
        let (_, stages, hop) = self.priced(layout)?;
        let price =
            |stage: &super::step::Stage| StagePrice { seconds: stage.time.both(), tail: stage.sync + stage.optimizer };
        Ok((stages.iter().map(price).collect(), hop))
    }
}
