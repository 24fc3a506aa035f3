//! Training data that is not text: which format a file has.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use cutplane_graph::{InputRole, ModelGraph};
use cutplane_runtime::data::{Batches, Pictures, TokenFile, TokenFormat};

/// What a data file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text: bytes, or what --tokenizer makes of it.
    Text,
    /// Tokens as 16-bit little-endian integers.
    U16,
    /// Tokens as 32-bit little-endian integers.
    U32,
    /// Tokens as one axis of a NumPy file.
    Npy,
    /// Pictures and labels as in MNIST.
    Idx,
    /// Pictures as in the binary version of CIFAR-10: a file, or the folder of its batches.
    Cifar10,
}

/// How data that is not text is read.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FormatArgs {
    /// What the file of --data holds [default: by its name; .bin is CIFAR-10 for a model that takes pictures and u16 for
    /// others].
    #[arg(long, value_enum, value_name = "FORMAT")]
    data_format: Option<Format>,
    /// The labels of pictures in IDX files [default: the name of the pictures with "labels-idx1" for "images-idx3"].
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
}

impl FormatArgs {
    /// Samples from `path`; `None` when it is a text, or nothing at all.
    pub(crate) fn batches(
        &self,
        path: Option<&Path>,
        model: &ModelGraph,
        global_batch: u64,
        seed: u64,
    ) -> Result<Option<Batches>> {
        let Some(path) = path else { return Ok(None) };
        let format = self.data_format.unwrap_or_else(|| guess(path, model));
        let tokens = |format| -> Result<Batches> {
            Ok(Batches::of_tokens(Arc::new(TokenFile::open(path, format)?), model, global_batch, seed)?)
        };
        let pictures = |set| -> Result<Batches> { Ok(Batches::of_pictures(Arc::new(set), model, global_batch, seed)?) };
        match format {
            Format::Text => return Ok(None),
            Format::U16 => tokens(TokenFormat::U16),
            Format::U32 => tokens(TokenFormat::U32),
            Format::Npy => tokens(TokenFormat::Npy),
            Format::Idx => pictures(Pictures::idx(path, &self.labels_of(path)?)?),
            Format::Cifar10 => pictures(Pictures::cifar10(path)?),
        }
        .map(Some)
    }

    fn labels_of(&self, pictures: &Path) -> Result<PathBuf> {
        if let Some(labels) = &self.labels {
            return Ok(labels.clone());
        }
        let name = pictures.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let labels = name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1");
        if labels == name {
            bail!("{}: the name of the labels does not follow from it; give --labels", pictures.display());
        }
        Ok(pictures.with_file_name(labels))
    }
}

/// By the name; a `.bin` file by the model.
fn guess(path: &Path, model: &ModelGraph) -> Format {
    let takes_pictures = model.inputs().any(|value| model.value(value).role == Some(InputRole::Image));
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    match path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).as_deref() {
        Some("npy") => Format::Npy,
        Some("bin") if takes_pictures => Format::Cifar10,
        Some("bin") => Format::U16,
        _ if path.is_dir() => Format::Cifar10,
        _ if name.contains("idx3") => Format::Idx,
        _ => Format::Text,
    }
}

#[cfg(test)]
mod tests {
    use cutplane_graph::Overrides;

    use super::*;

    fn model(name: &str) -> ModelGraph {
        let source = cutplane_zoo::source_from_argument(name, None, Overrides::default()).unwrap();
        cutplane_zoo::build(&source).unwrap()
    }

    #[test]
    fn formats_follow_from_names_and_models() {
        let (words, pictures) = (model("gpt-nano"), model("mnist"));
        let of = |name: &str, model| guess(Path::new(name), model);
        assert_eq!((of("a.bin", &words), of("a.bin", &pictures)), (Format::U16, Format::Cifar10));
        assert_eq!((of("a.npy", &words), of("a.txt", &words)), (Format::Npy, Format::Text));
        assert_eq!(of("train-images-idx3-ubyte", &pictures), Format::Idx);
    }

    #[test]
    fn labels_stand_beside_their_pictures() {
        let labels = FormatArgs::default().labels_of(Path::new("mnist/train-images-idx3-ubyte")).unwrap();
        assert_eq!(labels, Path::new("mnist/train-labels-idx1-ubyte"));
        let error = FormatArgs::default().labels_of(Path::new("pictures")).unwrap_err().to_string();
        assert!(error.contains("--labels"), "{error}");
    }
}
