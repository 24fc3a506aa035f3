//! Weights of a model, by the names of its parameters: `model.safetensors`, `model.safetensors.index.json` with its parts,
//! and the initializers of an ONNX file. A checkpoint is a table of places; only the slices that are asked for are read,
//! so a rank loads what its stage owns and nothing else.

mod names;
mod safetensors;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use cutplane_graph::{ModelGraph, Param, ParamId};
use half::{bf16, f16};
use thiserror::Error;

/// Element type of stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F16,
    Bf16,
    F64,
}

/// Where the numbers of a tensor lie.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    /// First byte.
    pub(crate) offset: u64,
    pub(crate) element: Element,
    pub(crate) shape: Vec<u64>,
    /// Elements that make the parameter, in its order; empty for all as they lie.
    pub(crate) ranges: Vec<[u64; 2]>,
}

/// A checkpoint that does not fit a model, or cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightError {
    /// The operating system refused.
    #[error("{file}: cannot read: {source}", file = file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not what it is called.
    #[error("{file}: {problem}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A parameter that no tensor stands for.
    #[error("{place}: no tensor for the parameter '{param}' of shape {shape:?}; tensors with names like it: {alike}")]
    Missing {
        /// The file or folder.
        place: String,
        /// The parameter.
        param: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Names that end as it does.
        alike: String,
    },
    /// A tensor of another shape.
    #[error("{file}: tensor '{tensor}' has the shape {found:?}, the model expects {expected:?}", file = file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The parameter's shape.
        expected: Vec<u64>,
        /// The tensor's shape.
        found: Vec<u64>,
    },
}

/// Tensors by name, none of them read.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    origin: PathBuf,
    tensors: HashMap<String, Place>,
}

impl Element {
    pub(crate) const fn size(self) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    pub(crate) const fn of_onnx(element: i64) -> Option<Self> {
        match element {
            1 => Some(Self::F32),
            10 => Some(Self::F16),
            11 => Some(Self::F64),
            16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Little-endian numbers as f32.
    fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four))),
            Self::F64 => out.extend(bytes.as_chunks::<8>().0.iter().map(|eight| f64::from_le_bytes(*eight) as f32)),
            Self::F16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|two| f16::from_le_bytes(*two).to_f32())),
            Self::Bf16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|two| bf16::from_le_bytes(*two).to_f32())),
        }
    }
}

impl Checkpoint {
    /// Reads the table of a checkpoint: a `.safetensors` file, an `.index.json`, or a folder that holds
    /// `model.safetensors.index.json` or `model.safetensors`. No weight is read.
    ///
    /// # Errors
    /// [`WeightError::Io`] and [`WeightError::File`], naming the file.
    pub fn open(path: &Path) -> Result<Self, WeightError> {
        Ok(Self { origin: path.to_owned(), tensors: safetensors::tables(path)? })
    }

    /// The table of a safetensors file of `size` bytes, from its first bytes; `path` is where its weights are read.
    ///
    /// # Errors
    /// [`WeightError::File`].
    pub fn of_table(path: &Path, first: &[u8], size: u64) -> Result<Self, WeightError> {
        Ok(Self { origin: path.to_owned(), tensors: safetensors::first_bytes(path, first, size)? })
    }

    pub(crate) fn insert(&mut self, name: String, place: Place) {
        self.origin.clone_from(&place.file);
        self.tensors.insert(name, place);
    }

    /// The names of its tensors, in alphabetical order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Checks that every parameter of `model` has a tensor of its shape; reads none.
    ///
    /// # Errors
    /// [`WeightError::Missing`] or [`WeightError::Shape`] of the first that has not.
    pub fn check(&self, model: &ModelGraph) -> Result<(), WeightError> {
        model.params().iter().try_for_each(|param| self.find(param).map(|_| ()))
    }

    /// The numbers of a parameter in f32, in the order and layout of its shape.
    ///
    /// # Errors
    /// [`WeightError`].
    pub fn read(&self, model: &ModelGraph, param: ParamId) -> Result<Vec<f32>, WeightError> {
        self.read_param(model.param(param))
    }

    /// As [`Checkpoint::read`], for a parameter at hand.
    ///
    /// # Errors
    /// [`WeightError`].
    pub fn read_param(&self, param: &Param) -> Result<Vec<f32>, WeightError> {
        let rows = param.shape.first().copied().unwrap_or(1);
        self.read_rows(param, 0..rows)
    }

    /// The rows `rows` of a parameter's first axis: what a rank that owns part of it needs.
    ///
    /// # Errors
    /// [`WeightError`]; [`WeightError::Shape`] for rows that are not there.
    pub fn read_rows(&self, param: &Param, rows: Range<u64>) -> Result<Vec<f32>, WeightError> {
        let found = self.find(param)?;
        let place = found.place;
        let (first, height) = (param.shape.get(1..).unwrap_or(&[]), param.shape.first().copied().unwrap_or(1));
        let width: u64 = first.iter().product();
        if rows.start > rows.end || rows.end > height {
            let found = vec![rows.start, rows.end];
            return Err(WeightError::Shape {
                file: place.file.clone(),
                tensor: param.name.clone(),
                expected: param.shape.clone(),
                found,
            });
        }
        if found.transposed {
            let whole = place.read(&[[0, width * height]])?;
            let (width, height) = (width as usize, height as usize);
            let row = |row: u64| (0..width).map(move |column| (row as usize, column));
            return Ok(rows.flat_map(row).map(|(row, column)| whole[column * height + row]).collect());
        }
        place.read(&place.elements(rows.start * width..rows.end * width))
    }

    fn find(&self, param: &Param) -> Result<Found<'_>, WeightError> {
        let Some((name, place)) = names::find(&self.tensors, &param.name) else {
            return Err(WeightError::Missing {
                place: self.origin.display().to_string(),
                param: param.name.clone(),
                shape: param.shape.clone(),
                alike: names::alike(&self.tensors, &param.name),
            });
        };
        let turned = matches!((&place.shape[..], &param.shape[..]), ([a, b], [c, d]) if (a, b) == (d, c) && a != b);
        if place.shape == param.shape || turned {
            return Ok(Found { place, transposed: turned });
        }
        Err(WeightError::Shape {
            file: place.file.clone(),
            tensor: name.to_owned(),
            expected: param.shape.clone(),
            found: place.shape.clone(),
        })
    }
}

/// A tensor for a parameter.
struct Found<'a> {
    place: &'a Place,
    /// Whether it lies transposed.
    transposed: bool,
}

impl Place {
    /// Elements of the file that make the elements `wanted` of the parameter.
    fn elements(&self, wanted: Range<u64>) -> Vec<[u64; 2]> {
        if self.ranges.is_empty() {
            return vec![[wanted.start, wanted.end]];
        }
        let mut at = 0;
        let mut list = Vec::new();
        for [start, end] in &self.ranges {
            let (from, to) = (wanted.start.max(at), wanted.end.min(at + end - start));
            if from < to {
                list.push([start + from - at, start + to - at]);
            }
            at += end - start;
        }
        list
    }

    fn read(&self, ranges: &[[u64; 2]]) -> Result<Vec<f32>, WeightError> {
        let io = |source| WeightError::Io { file: self.file.clone(), source };
        let size = self.element.size();
        let mut file = File::open(&self.file).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut numbers = Vec::new();
        for [start, end] in ranges {
            let (first, bytes) = (self.offset.saturating_add(start * size), (end - start) * size);
            if first.checked_add(bytes).is_none_or(|last| last > length) {
                let problem = format!("ends at byte {length}, before the weights that its table names: is it whole?");
                return Err(WeightError::File { file: self.file.clone(), problem });
            }
            file.seek(SeekFrom::Start(first)).map_err(io)?;
            let mut raw = vec![0; bytes as usize];
            file.read_exact(&mut raw).map_err(io)?;
            self.element.decode(&raw, &mut numbers);
        }
        Ok(numbers)
    }
}
