//! Reading checkpoints.

use std::path::{Path, PathBuf};

use cutplane_graph::{ModelGraph, Param};
use cutplane_plan::Optimizer;

use super::error::CheckpointError;
use super::manifest::Manifest;
use super::piece::{Part, Piece};
use super::shard::Shard;
use super::write::manifests;
use crate::data::Batches;

/// A checkpoint whose files are all there and whole.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
    shards: Vec<Shard>,
}

impl Checkpoint {
    /// Opens the newest checkpoint of a folder, or the one whose manifest is named, and reads all its files through.
    ///
    /// # Errors
    /// [`CheckpointError::Nothing`], [`CheckpointError::Read`], [`CheckpointError::Manifest`],
    /// [`CheckpointError::Damaged`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let path = if path.is_dir() { newest(path)? } else { path.to_owned() };
        let manifest = Manifest::read(&path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let shards = manifest.files.iter().map(|file| Shard::open(folder, file)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { path, manifest, shards })
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The path of its manifest.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses another model, another update rule, or numbers that are not all there.
    ///
    /// # Errors
    /// [`CheckpointError::Other`], [`CheckpointError::Parameter`].
    pub fn check(&self, model: &ModelGraph, optimizer: Optimizer) -> Result<(), CheckpointError> {
        let other = |problem| Err(CheckpointError::Other { path: self.path.clone(), problem });
        let (saved, digest) = (&self.manifest, model.digest());
        if saved.model_digest != digest {
            return other(format!(
                "of the model {} with the digest {}, this plan is for {} with {digest}; take a plan of that model",
                saved.model,
                saved.model_digest,
                model.name()
            ));
        }
        if saved.optimizer != optimizer {
            let rule = saved.optimizer;
            return other(format!("with the optimizer {rule:?}, this plan has {optimizer:?}; plan with that one"));
        }
        for param in model.params() {
            for part in [Part::Weight, Part::Mean, Part::MeanSquare] {
                self.covered(param, part)?;
            }
        }
        Ok(())
    }

    /// The same samples from where the checkpoint stands on.
    ///
    /// # Errors
    /// [`CheckpointError::Other`] when they are other samples, or in another order.
    pub fn resume(&self, batches: Batches) -> Result<Batches, CheckpointError> {
        let (saved, given) = (&self.manifest.data, (batches.seed(), batches.epoch_samples()));
        if (saved.seed, saved.epoch_samples) != given {
            let problem = format!(
                "on {} with {} samples an epoch and seed {}, now there are {} of {} with seed {}; give the same --data",
                saved.name,
                saved.epoch_samples,
                saved.seed,
                given.1,
                batches.name(),
                given.0
            );
            return Err(CheckpointError::Other { path: self.path.clone(), problem });
        }
        Ok(batches.resumed(self.manifest.step, saved.next_sample))
    }

    /// All numbers of a part of a parameter, put together from wherever they are; `None` when nothing of it was saved,
    /// which is refused for the weight.
    ///
    /// # Errors
    /// [`CheckpointError::Parameter`], [`CheckpointError::Damaged`].
    pub fn numbers(&self, param: &Param, part: Part) -> Result<Option<Vec<f32>>, CheckpointError> {
        let elements = param.elements();
        let (mut all, mut there) = (vec![0.0; elements as usize], vec![false; elements as usize]);
        let mut found = part == Part::Weight;
        for (shard, facts) in self.shards.iter().zip(&self.manifest.files) {
            for piece in facts.pieces.iter().filter(|piece| piece.parameter == param.name && piece.part == part) {
                found = true;
                if !piece.fits(&param.shape) {
                    let problem =
                        format!("'{}' in {} does not fit its shape {:?}", piece.key(), facts.file, param.shape);
                    return Err(self.refuse(param, part, problem));
                }
                piece.put(&shard.read(piece)?, &mut all, &mut there);
            }
        }
        match there.iter().filter(|there| !**there).count() {
            0 => Ok(Some(all)),
            _ if !found => Ok(None),
            missing => Err(self.refuse(param, part, format!("{missing} of {elements} numbers are in no file"))),
        }
    }

    /// Refuses a part of which some numbers are missing, from what the manifest says alone. Pieces of one checkpoint are
    /// either the same, and then written once, or apart.
    fn covered(&self, param: &Param, part: Part) -> Result<(), CheckpointError> {
        let pieces = self.manifest.files.iter().flat_map(|file| &file.pieces);
        let mine: Vec<u64> =
            pieces.filter(|piece| piece.parameter == param.name && piece.part == part).map(Piece::elements).collect();
        let there: u64 = mine.iter().sum();
        if there == param.elements() || (mine.is_empty() && part != Part::Weight) {
            return Ok(());
        }
        Err(self.refuse(param, part, format!("{there} of {} numbers are there", param.elements())))
    }

    fn refuse(&self, param: &Param, part: Part, problem: String) -> CheckpointError {
        let (parameter, part) = (param.name.clone(), part.to_string());
        CheckpointError::Parameter { path: self.path.clone(), parameter, part, problem }
    }
}

fn newest(folder: &Path) -> Result<PathBuf, CheckpointError> {
    let found = manifests(folder).map_err(|source| CheckpointError::Read { path: folder.to_owned(), source })?;
    let newest = found.into_iter().next_back().map(|(_, path)| path);
    newest.ok_or_else(|| CheckpointError::Nothing { folder: folder.to_owned() })
}
