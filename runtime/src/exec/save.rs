//! Saving a run between steps, and what a rank takes from a checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cutplane_graph::ParamId;
use cutplane_plan::Rank;

use super::rank::{Answer, Command};
use super::run::Run;
use super::step::{Fault, RankState, Shared};
use crate::checkpoint::{
    Checkpoint, CheckpointError, CheckpointWriter, DataPosition, Manifest, Part, Piece, ShardFile,
};
use crate::comm::Communicator;
use crate::error::RuntimeError;
use crate::optimizer::LossScale;
use crate::segment::SegmentRunner;

/// What the ranks are to write.
#[derive(Debug)]
pub(super) struct SaveOrder {
    pub(super) writer: CheckpointWriter,
    pub(super) step: u64,
    /// By rank.
    pub(super) pieces: Vec<Vec<Piece>>,
}

/// What a rank has written, and the counts that all ranks share.
#[derive(Debug)]
pub(super) struct SavedRank {
    pub(super) file: Option<ShardFile>,
    pub(super) optimizer_steps: u32,
    pub(super) loss_scale: Option<LossScale>,
}

impl Run {
    /// Writes a checkpoint of the state after the last step and returns the path of its manifest. Every rank writes what
    /// it alone holds, and its share of what several hold alike.
    ///
    /// # Errors
    /// [`RuntimeError::Checkpoint`] when it cannot be written; the run is whole and can go on.
    /// [`RuntimeError::Rank`] when the run is over.
    pub fn save(&mut self, writer: &CheckpointWriter) -> Result<PathBuf, RuntimeError> {
        let held = self.ask(&Command::Pieces)?.into_iter().map(|answer| match answer {
            Answer::Pieces(pieces) => pieces,
            _ => Vec::new(),
        });
        let pieces = dealt(held.collect());
        let order = SaveOrder { writer: writer.clone(), step: self.next_step(), pieces };
        let answers = self.ask(&Command::Save(Arc::new(order)))?;
        let saved = answers.into_iter().filter_map(|answer| match answer {
            Answer::Saved(saved) => Some(saved),
            _ => None,
        });
        let saved = saved.collect::<Result<Vec<_>, _>>()?;
        self.check_shared(writer, &saved)?;
        Ok(writer.commit(&self.manifest(saved)?)?)
    }

    /// Files of other hosts are here too, where the folder is shared.
    fn check_shared(&self, writer: &CheckpointWriter, saved: &[SavedRank]) -> Result<(), CheckpointError> {
        let files = saved.iter().filter_map(|rank| rank.file.as_ref()).filter(|_| self.processes().is_some());
        let mut paths = files.map(|file| writer.folder().join(&file.file));
        paths.find(|path| !path.exists()).map_or(Ok(()), |path| Err(CheckpointError::NotShared { path }))
    }

    fn manifest(&self, saved: Vec<SavedRank>) -> Result<Manifest, CheckpointError> {
        let (shared, step) = (self.shared(), self.next_step());
        let steps: Vec<u32> = saved.iter().map(|rank| rank.optimizer_steps).collect();
        if steps.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(CheckpointError::Unsynchronised { steps });
        }
        let (model, program, batches) = (&shared.whole, &shared.program, &shared.batches);
        let data = DataPosition {
            name: batches.name().to_owned(),
            seed: batches.seed(),
            epoch_samples: batches.epoch_samples(),
            next_sample: batches.first_sample(step),
        };
        Ok(Manifest {
            plan: program.plan_name.clone(),
            plan_digest: program.plan_digest.clone(),
            optimizer_steps: steps.first().copied().unwrap_or(0),
            seed: shared.seed,
            loss_scale: saved.iter().find_map(|rank| rank.loss_scale).map(Into::into),
            files: saved.into_iter().filter_map(|rank| rank.file).collect(),
            ..Manifest::new(model.name(), model.digest(), step, shared.optimizer.rule, data)
        })
    }
}

/// What of a parameter's weight a rank holds: all, or its share of an axis that is split over a tensor axis.
fn held(shared: &Shared, rank: Rank, param: ParamId) -> Piece {
    let whole = shared.held_param(param, rank);
    let piece = Piece::whole(&whole.name, Part::Weight, &whole.shape);
    match shared.local.as_ref().and_then(|local| local.places(param, shared.place(rank) as u64)) {
        None => piece,
        Some((axis, places)) => piece.at(axis, &places),
    }
}

/// Deals every piece to one of the ranks that hold it: to the one that has least to write so far.
fn dealt(held: Vec<Vec<Piece>>) -> Vec<Vec<Piece>> {
    let mut holders: BTreeMap<Piece, Vec<usize>> = BTreeMap::new();
    let ranks = held.len();
    for (rank, pieces) in held.into_iter().enumerate() {
        for piece in pieces {
            holders.entry(piece).or_default().push(rank);
        }
    }
    let (mut dealt, mut load) = (vec![Vec::new(); ranks], vec![0; ranks]);
    for (piece, holders) in holders {
        if let Some(rank) = holders.into_iter().min_by_key(|rank| load[*rank]) {
            load[rank] += piece.elements();
            dealt[rank].push(piece);
        }
    }
    dealt
}

impl<C: Communicator> RankState<C> {
    /// What this rank could save.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        self.runner.pieces(&|param| held(&self.shared, self.rank, param))
    }

    /// Writes what this rank is to save.
    pub(super) fn save(&self, order: &SaveOrder) -> Result<SavedRank, CheckpointError> {
        let name = |param| self.shared.held_param(param, self.rank).name.clone();
        let tensors = self.runner.export(&order.pieces[self.rank.index()], &name)?;
        Ok(SavedRank {
            file: order.writer.write_shard(order.step, self.rank.0, tensors)?,
            optimizer_steps: self.runner.optimizer_steps(),
            loss_scale: self.loss_scale,
        })
    }
}

pub(super) fn first_step(shared: &Shared) -> u64 {
    shared.resume.as_ref().map_or(0, |checkpoint| checkpoint.manifest().step)
}

/// The scale to begin with, in f16: that of the checkpoint, if it had one.
pub(super) fn loss_scale(shared: &Shared) -> Option<LossScale> {
    let saved = shared.resume.as_ref().and_then(|checkpoint| checkpoint.manifest().loss_scale);
    let fresh = LossScale::of(shared.program.precision)?;
    Some(saved.map_or(fresh, |saved| LossScale::resumed(saved.scale, saved.good_steps)))
}

/// Gives a rank what the optimizer kept.
pub(super) fn restore(
    shared: &Shared,
    rank: Rank,
    checkpoint: &Checkpoint,
    runner: &mut SegmentRunner,
) -> Result<(), Fault> {
    let moments = |id| -> Result<_, CheckpointError> {
        let param = shared.held_param(id, rank);
        let mean = checkpoint.numbers(param, Part::Mean)?;
        let square = checkpoint.numbers(param, Part::MeanSquare)?;
        Ok(mean.zip(square).map(|(mean, square)| [mean, square].map(|numbers| shared.own(id, rank, numbers))))
    };
    runner.restore(checkpoint.manifest().optimizer_steps, &moments).map_err(|error| RuntimeError::from(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_hold_is_written_once_and_the_work_is_shared() {
        let piece = |name: &str, size| Piece::whole(name, Part::Weight, &[size]);
        let (a, b, c, d) = (piece("a", 4), piece("b", 4), piece("c", 4), piece("d", 2));
        let dealt = dealt(vec![vec![a.clone(), b.clone(), c.clone()], vec![c, b, a], vec![d.clone()]]);
        let sizes: Vec<usize> = dealt.iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1, 1]);
        let mut all: Vec<&str> = dealt.iter().flatten().map(|piece| piece.parameter.as_str()).collect();
        all.sort_unstable();
        assert_eq!(all, ["a", "b", "c", "d"]);
        assert_eq!(dealt[2], [d]);
    }
}
