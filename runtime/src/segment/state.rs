//! What of the segments of a rank outlives a run: weights and what the optimizer keeps of them.

use std::collections::BTreeMap;

use cutplane_graph::ParamId;

use super::{SegmentRunner, Slot};
use crate::checkpoint::{CheckpointError, Part, Piece};

impl SegmentRunner {
    /// What there is to save, without the numbers: of each parameter those that this rank updates. `held` tells what of a
    /// parameter's weight the rank holds.
    pub(crate) fn pieces(&self, held: &dyn Fn(ParamId) -> Piece) -> Vec<Piece> {
        let pieces = |(id, slot): (&ParamId, &Slot)| {
            let parts: &[Part] =
                if slot.has_moments() { &[Part::Weight, Part::Mean, Part::MeanSquare] } else { &[Part::Weight] };
            let piece = |part: &Part| Piece { part: *part, ..held(*id).within(slot.owned()) };
            parts.iter().map(piece).collect::<Vec<_>>()
        };
        self.slots.iter().flat_map(pieces).filter(|piece| piece.elements() > 0).collect()
    }

    /// The numbers of those of [`SegmentRunner::pieces`] that are wanted; `name` is what a parameter is called there.
    ///
    /// # Errors
    /// [`CheckpointError::NotHeld`] for a piece that is none of them.
    pub(crate) fn export(
        &self,
        wanted: &[Piece],
        name: &dyn Fn(ParamId) -> String,
    ) -> Result<Vec<(Piece, Vec<f32>)>, CheckpointError> {
        let slots: BTreeMap<String, &Slot> = self.slots.iter().map(|(id, slot)| (name(*id), slot)).collect();
        let numbers = |piece: &Piece| {
            let slot = slots.get(&piece.parameter)?;
            let numbers = match piece.part {
                Part::Weight => slot.owned_numbers(),
                Part::Mean => slot.moments()?.0,
                Part::MeanSquare => slot.moments()?.1,
            };
            Some((piece.clone(), numbers))
        };
        let missing = |piece: &Piece| CheckpointError::NotHeld {
            parameter: piece.parameter.clone(),
            part: piece.part.to_string(),
        };
        wanted.iter().map(|piece| numbers(piece).ok_or_else(|| missing(piece))).collect()
    }

    /// Updates made so far.
    pub(crate) fn optimizer_steps(&self) -> u32 {
        self.steps
    }

    /// Goes on after `steps` updates with what the optimizer then kept of each parameter, whole.
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
