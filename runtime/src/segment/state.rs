//! What of a segment outlives a run: weights and what the optimizer keeps of them.

use cutplane_graph::ParamId;

use super::{SegmentRunner, Slot};
use crate::checkpoint::{Part, Piece};

impl SegmentRunner {
    /// What there is to save, without the numbers.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let pieces = |id: &ParamId| {
            let param = self.model.param(*id);
            let parts: &[Part] = if self.slots.get(id).is_some_and(Slot::has_moments) {
                &[Part::Weight, Part::Mean, Part::MeanSquare]
            } else {
                &[Part::Weight]
            };
            parts.iter().map(|part| Piece::whole(&param.name, *part, &param.shape)).collect::<Vec<_>>()
        };
        self.params().iter().flat_map(pieces).collect()
    }

    /// The numbers of those of [`SegmentRunner::pieces`] that are wanted.
    pub(crate) fn export(&self, wanted: &[Piece]) -> Vec<(Piece, Vec<f32>)> {
        let numbers = |piece: &Piece| {
            let id = self.params().iter().find(|id| self.model.param(**id).name == piece.parameter)?;
            let slot = self.slots.get(id)?;
            let all = match piece.part {
                Part::Weight => slot.weight.clone().into_data().convert::<f32>().try_into_vec().ok()?,
                Part::Mean => slot.moments()?.0,
                Part::MeanSquare => slot.moments()?.1,
            };
            Some((piece.clone(), piece.cut(&all)))
        };
        wanted.iter().filter_map(numbers).collect()
    }

    /// Updates made so far.
    pub(crate) fn optimizer_steps(&self) -> u32 {
        self.steps
    }

    /// Goes on after `steps` updates with what the optimizer then kept of each parameter.
    ///
    /// # Errors
    /// Those of `moments`.
    pub(crate) fn restore<E>(
        &mut self,
        steps: u32,
        moments: &dyn Fn(ParamId) -> Result<Option<[Vec<f32>; 2]>, E>,
    ) -> Result<(), E> {
        self.steps = steps;
        for (id, slot) in &mut self.slots {
            if let Some([mean, square]) = moments(*id)? {
                slot.set_moments(mean, square, &self.backend);
            }
        }
        Ok(())
    }
}
