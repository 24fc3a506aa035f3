//! From an argument to a model source, and from a source to a graph.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cutplane_graph::{ModelGraph, ModelSource, Overrides};

use crate::builtin;
use crate::error::ZooError;
use crate::huggingface;
use crate::limits::field_error;
use crate::onnx::{OnnxOptions, read_onnx};
use crate::recipe;
use crate::weights::Checkpoint;

/// Largest `config.json` that is read, bytes; real ones have a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Builds the graph of a model.
///
/// # Errors
/// [`ZooError`], naming the field that is at fault.
pub fn build(source: &ModelSource) -> Result<ModelGraph, ZooError> {
    match source {
        ModelSource::BuiltIn { name, overrides, sequence_length } => {
            let unknown = || ZooError::UnknownBuiltIn { name: name.clone(), known: builtin::names() };
            let model = builtin::find(name).ok_or_else(unknown)?;
            recipe::graph(model.recipe(), name, overrides, *sequence_length)
        }
        ModelSource::HuggingFace { config, overrides, sequence_length } => {
            let origin = "config.json";
            recipe::graph(huggingface::recipe(origin, config)?, origin, overrides, *sequence_length)
        }
        ModelSource::Onnx { path, dims, loss, sequence_length } => {
            let sequence_length = Some(*sequence_length);
            let options = OnnxOptions { sequence_length, dims: dims.clone(), loss: *loss, ..OnnxOptions::default() };
            read_onnx(Path::new(path), &options).map(|found| found.graph)
        }
    }
}

/// Reads what a user wrote: a built-in name, the path of a `config.json`, of a folder that holds one, or of an ONNX file. A name wins
/// over a path; `./gpt2` is always a path. Without a sequence length, a built-in model has its default, and a file the
/// length of its position table.
///
/// # Errors
/// [`ZooError`], naming file and field; everything is checked but the graph itself, which [`build`] makes.
pub fn source_from_argument(
    argument: &str,
    sequence_length: Option<u64>,
    overrides: Overrides,
) -> Result<ModelSource, ZooError> {
    if let Some(model) = builtin::find(argument) {
        let sequence_length = sequence_length.unwrap_or(model.default_sequence_length);
        let mut recipe = model.recipe();
        recipe.override_with(argument, &overrides)?;
        recipe.check(argument, sequence_length)?;
        return Ok(ModelSource::BuiltIn { name: argument.to_owned(), overrides, sequence_length });
    }
    let path = config_path(argument)?;
    if is_onnx(&path) {
        if overrides.is_empty() {
            return onnx_source(&path, sequence_length, BTreeMap::new());
        }
        let (problem, remedy) = ("cannot be replaced in an ONNX file", "change the model and export it again");
        return Err(field_error(argument, "(sizes)", problem.to_owned(), remedy));
    }
    let origin = path.display().to_string();
    let json = |source| ZooError::Json { origin: origin.clone(), source };
    let config = serde_json::from_str(&read_text(&path)?).map_err(json)?;
    let mut recipe = huggingface::recipe(&origin, &config)?;
    recipe.override_with(&origin, &overrides)?;
    let sequence_length = sequence_length.unwrap_or_else(|| recipe.context());
    recipe.check(&origin, sequence_length)?;
    Ok(ModelSource::HuggingFace { config, overrides, sequence_length })
}

/// Whether a path is that of an ONNX file.
fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// An ONNX file to train: the cross-entropy of its first output is added, unless that is a loss already. `dims` are the
/// lengths of single axes, see [`OnnxOptions::dims`]; without a sequence length, no other axis may be open.
///
/// # Errors
/// As [`read_onnx`].
pub fn onnx_source(
    path: &Path,
    sequence_length: Option<u64>,
    dims: BTreeMap<String, u64>,
) -> Result<ModelSource, ZooError> {
    let options = OnnxOptions { sequence_length, dims, loss: true, ..OnnxOptions::default() };
    let graph = read_onnx(path, &options)?.graph;
    let ids = graph.inputs().map(|id| &graph.value(id).ty).find(|ty| !ty.dtype.is_float() && !ty.dims.is_empty());
    let sequence_length = sequence_length.unwrap_or_else(|| ids.map_or(1, |ty| ty.dims[0]));
    let path = path.display().to_string();
    Ok(ModelSource::Onnx { path, dims: options.dims, loss: true, sequence_length })
}

/// The weights at `path` for a model: a safetensors file, its index or a folder; or the ONNX file that the model is from.
///
/// # Errors
/// [`ZooError::Weights`], naming the file, and as [`read_onnx`].
pub fn checkpoint(path: &Path, source: &ModelSource) -> Result<Checkpoint, ZooError> {
    if !is_onnx(path) {
        return Checkpoint::open(path).map_err(ZooError::Weights);
    }
    let (dims, loss) = match source {
        ModelSource::Onnx { dims, loss, .. } => (dims.clone(), *loss),
        _ => (BTreeMap::new(), false),
    };
    let sequence_length = Some(source.sequence_length());
    let options = OnnxOptions { sequence_length, dims, loss, ..OnnxOptions::default() };
    Ok(read_onnx(path, &options)?.weights)
}

fn config_path(argument: &str) -> Result<PathBuf, ZooError> {
    let path = Path::new(argument);
    if path.is_dir() {
        return Ok(path.join("config.json"));
    }
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_json || path.exists() || argument.contains(['/', '\\']) {
        return Ok(path.to_owned());
    }
    Err(ZooError::UnknownModel { argument: argument.to_owned(), known: builtin::names() })
}

fn read_text(path: &Path) -> Result<String, ZooError> {
    let io = |source| ZooError::Io { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_CONFIG_BYTES {
        let (origin, remedy) =
            (path.display().to_string(), "give a Hugging Face config.json, which has a few kilobytes");
        return Err(field_error(&origin, "(whole file)", format!("has {size} bytes"), remedy));
    }
    std::fs::read_to_string(path).map_err(io)
}
