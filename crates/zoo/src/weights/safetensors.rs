//! The tables of safetensors files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::{Element, Place, WeightError};

/// Largest table that is read, as in the safetensors library.
const MAX_TABLE: u64 = 100_000_000;
/// Most files of a checkpoint.
const MAX_FILES: usize = 10_000;

/// The part of `model.safetensors.index.json` that is read.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn refuse(file: &Path, problem: impl Into<String>) -> WeightError {
    WeightError::File { file: file.to_owned(), problem: problem.into() }
}

/// The tensors of a file, an index, or a folder.
pub(super) fn tables(path: &Path) -> Result<HashMap<String, Place>, WeightError> {
    if path.is_dir() {
        let candidates = ["model.safetensors.index.json", "model.safetensors"].map(|name| path.join(name));
        let found = candidates.into_iter().find(|file| file.is_file());
        return match found {
            Some(file) => tables(&file),
            None => Err(refuse(path, "holds neither model.safetensors.index.json nor model.safetensors")),
        };
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        return index(path);
    }
    one(path)
}

fn index(path: &Path) -> Result<HashMap<String, Place>, WeightError> {
    let io = |source| WeightError::Io { file: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).map_err(io)?.take(MAX_TABLE).read_to_string(&mut text).map_err(io)?;
    let index: Index = serde_json::from_str(&text).map_err(|error| refuse(path, format!("is no index: {error}")))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let files: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    if files.len() > MAX_FILES {
        return Err(refuse(path, format!("names {} files; at most {MAX_FILES} are read", files.len())));
    }
    let mut all: HashMap<String, Place> = HashMap::new();
    for file in files {
        all.extend(one(&beside(path, folder, file)?)?);
    }
    match index.weight_map.keys().find(|name| !all.contains_key(*name)) {
        Some(name) => Err(refuse(path, format!("names the tensor '{name}', which its file does not hold"))),
        None => Ok(all),
    }
}

fn beside(path: &Path, folder: &Path, file: &str) -> Result<PathBuf, WeightError> {
    let relative = Path::new(file);
    if !file.is_empty() && relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(folder.join(relative));
    }
    Err(refuse(path, format!("names the file '{file}', which is not beside it")))
}

fn one(path: &Path) -> Result<HashMap<String, Place>, WeightError> {
    let io = |source| WeightError::Io { file: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut first = Vec::new();
    file.by_ref().take(8).read_to_end(&mut first).map_err(io)?;
    let table = table_bytes(path, &first, size)?;
    file.take(table).read_to_end(&mut first).map_err(io)?;
    first_bytes(path, &first, size)
}

/// Bytes of the table, from the first eight of a file of `size` bytes.
fn table_bytes(path: &Path, first: &[u8], size: u64) -> Result<u64, WeightError> {
    let short = || refuse(path, "is shorter than the 8 bytes that a safetensors file begins with");
    let length = first.first_chunk::<8>().ok_or_else(short)?;
    let table = u64::from_le_bytes(*length);
    let most = MAX_TABLE.min(size.saturating_sub(8));
    if table <= most {
        return Ok(table);
    }
    Err(refuse(path, format!("says that its table has {table} bytes, at most {most} are possible: is it whole?")))
}

/// The tensors of a file of `size` bytes that begins with `first`.
pub(super) fn first_bytes(path: &Path, first: &[u8], size: u64) -> Result<HashMap<String, Place>, WeightError> {
    let end = table_bytes(path, first, size)?.saturating_add(8);
    let table = usize::try_from(end).ok().and_then(|end| first.get(8..end));
    table_of(path, table.ok_or_else(|| refuse(path, "ends inside its table: is it whole?"))?, size)
}

/// The tensors of a table, in a file of `size` bytes.
fn table_of(path: &Path, bytes: &[u8], size: u64) -> Result<HashMap<String, Place>, WeightError> {
    let metadata: Metadata =
        serde_json::from_slice(bytes).map_err(|error| refuse(path, format!("has no table of tensors: {error}")))?;
    let begin = 8 + bytes.len() as u64;
    let data = metadata.data_len() as u64;
    if begin.checked_add(data).is_none_or(|end| end > size) {
        return Err(refuse(
            path,
            format!("has {size} bytes, and its table names {data} after the first {begin}: is it whole?"),
        ));
    }
    let mut places = HashMap::new();
    for (name, info) in metadata.tensors() {
        let element = match info.dtype {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            Dtype::F64 => Element::F64,
            // Buffers such as position ids are no parameters.
            _ => continue,
        };
        let shape = info.shape.iter().map(|extent| *extent as u64).collect();
        let offset = begin + info.data_offsets.0 as u64;
        let place = Place { file: path.to_owned(), offset, element, shape, ranges: Vec::new() };
        places.insert(name, place);
    }
    Ok(places)
}
