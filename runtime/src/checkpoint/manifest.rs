//! What a checkpoint consists of, as JSON.

use std::path::Path;

use cutplane_plan::Optimizer;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::CheckpointError;
use super::piece::Piece;
use crate::optimizer::LossScale;

/// The value of the field `format`.
const FORMAT: &str = "cutplane-checkpoint";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// What a checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always `cutplane-checkpoint`.
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// Name of the model.
    pub model: String,
    /// Digest of its graph.
    pub model_digest: String,
    /// Name of the plan that wrote it; any plan may read it.
    pub plan: String,
    /// Digest of that plan.
    pub plan_digest: String,
    /// Steps taken: the number of the next one.
    pub step: u64,
    /// Updates made: fewer than steps where one was left out because of an overflow.
    pub optimizer_steps: u32,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Seed of the initial weights and of dropout.
    pub seed: u64,
    /// The state of loss scaling, in f16.
    pub loss_scale: Option<SavedLossScale>,
    /// Where the data stand.
    pub data: DataPosition,
    /// The files with the numbers.
    pub files: Vec<ShardFile>,
    /// SHA-256 of this manifest with this field empty.
    pub checksum: String,
}

/// Where the data stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPosition {
    /// Where the samples come from.
    pub name: String,
    /// Seed of their order.
    pub seed: u64,
    /// Samples of an epoch.
    pub epoch_samples: u64,
    /// Samples dealt so far: the number of the next one, counted over all epochs.
    pub next_sample: u64,
}

/// The state of loss scaling.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedLossScale {
    /// By what losses are multiplied.
    pub scale: f32,
    /// Steps without an overflow since it was changed.
    pub good_steps: u32,
}

impl From<LossScale> for SavedLossScale {
    fn from(scale: LossScale) -> Self {
        let (scale, good_steps) = scale.state();
        Self { scale, good_steps }
    }
}

/// A file with numbers of one rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardFile {
    /// Its name in the folder of the manifest.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
    /// What its tensors are.
    pub pieces: Vec<Piece>,
}

impl Manifest {
    /// The manifest of a step, to be filled in.
    pub(crate) fn new(model: &str, model_digest: String, step: u64, optimizer: Optimizer, data: DataPosition) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            model: model.to_owned(),
            model_digest,
            plan: String::new(),
            plan_digest: String::new(),
            step,
            optimizer_steps: 0,
            optimizer,
            seed: 0,
            loss_scale: None,
            data,
            files: Vec::new(),
            checksum: String::new(),
        }
    }

    /// Its name: manifests sort by step.
    pub(super) fn file_name(step: u64) -> String {
        format!("step-{step:08}.json")
    }

    /// The text to write, checksum included.
    pub(super) fn to_json(&self) -> Result<String, serde_json::Error> {
        let sealed = Self { checksum: self.seal()?, ..self.clone() };
        serde_json::to_string_pretty(&sealed)
    }

    fn seal(&self) -> Result<String, serde_json::Error> {
        let open = Self { checksum: String::new(), ..self.clone() };
        Ok(hex(&Sha256::digest(serde_json::to_string(&open)?)))
    }

    /// Reads a manifest and checks that it is whole.
    pub(super) fn read(path: &Path) -> Result<Self, CheckpointError> {
        let refuse = |problem: String| CheckpointError::Manifest { path: path.to_owned(), problem };
        let text = std::fs::read(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| refuse(format!("no JSON: {error}")))?;
        if value["format"] != FORMAT {
            return Err(refuse(format!("field 'format' is not '{FORMAT}'")));
        }
        if value["version"] != VERSION {
            return Err(refuse(format!("version {}, this build reads version {VERSION}", value["version"])));
        }
        let manifest: Self = serde_json::from_value(value).map_err(|error| refuse(error.to_string()))?;
        let seal = manifest.seal().map_err(|error| refuse(error.to_string()))?;
        if seal != manifest.checksum {
            return Err(refuse("its text does not have the checksum that it tells: it is damaged".into()));
        }
        Ok(manifest)
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
