//! From an argument to a model source, and from a source to a graph.

use std::path::{Path, PathBuf};

use cutplane_graph::{ModelGraph, ModelSource, Overrides};

use crate::builtin;
use crate::error::ZooError;
use crate::huggingface;
use crate::limits::field_error;
use crate::recipe;

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
    }
}

/// Reads what a user wrote: a built-in name, the path of a `config.json`, or of a folder that holds one. A name wins
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
    let origin = path.display().to_string();
    let json = |source| ZooError::Json { origin: origin.clone(), source };
    let config = serde_json::from_str(&read_text(&path)?).map_err(json)?;
    let mut recipe = huggingface::recipe(&origin, &config)?;
    recipe.override_with(&origin, &overrides)?;
    let sequence_length = sequence_length.unwrap_or_else(|| recipe.context());
    recipe.check(&origin, sequence_length)?;
    Ok(ModelSource::HuggingFace { config, overrides, sequence_length })
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
