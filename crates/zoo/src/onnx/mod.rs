//! ONNX graphs, operator sets 13 and later, for planning and for running.
//!
//! The nodes are walked once, in their order. What is known from shapes alone is computed on the way, with the batch
//! left open; everything else becomes an operator of [`ModelGraph`]. Then patterns that exporters take apart — linear
//! layers with bias, norms, activations, gates, attention with masks, rotary positions and relative biases — are joined
//! again, and what nothing reads is dropped.
//!
//! The first axis of every input is the batch. Inputs named `attention_mask` are taken to be ones and `position_ids` to
//! count up: no data of this house is padded. Dropout does nothing, and batch norms use the statistics of the
//! micro-batch, as in training.

mod constant;
mod emit;
mod extent;
mod file;
mod fold;
mod fuse;
mod import;
mod inputs;
mod ir;
mod names;
mod node;
mod operators;
mod places;
mod proto;
mod reshape;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cutplane_graph::{ModelError, ModelGraph, OpKind};

use crate::error::ZooError;
use crate::weights::Checkpoint;
use import::{Entry, Importer};
use proto::Model;

/// Oldest operator set that is read: in 13, axes became inputs.
const OLDEST: i64 = 13;

/// How an ONNX file is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// Length of open axes that are not the batch, tokens; `None` to refuse them unless [`OnnxOptions::dims`] names them.
    pub sequence_length: Option<u64>,
    /// Lengths of single axes, by the name that the file gives them or as `input.axis`: `frames`, `pixel_values.2`. Each
    /// replaces what the file says.
    pub dims: BTreeMap<String, u64>,
    /// Whether the mean cross-entropy of the first output against the next tokens or the class is added, so that the
    /// model can be trained.
    pub loss: bool,
    /// Outputs that are kept, by name; empty for the first one.
    pub outputs: Vec<String>,
    /// Whether operators stay as the exporter took them apart: for placement at the finest grain. Attention with rotary
    /// operators or relative biases is refused then, because its parts have no meaning of their own.
    pub keep_apart: bool,
    /// Where external data lie: the folder of the file.
    pub folder: Option<PathBuf>,
}

/// A graph, and where its parameters' numbers are.
#[derive(Clone, Debug)]
pub struct OnnxModel {
    /// The graph.
    pub graph: ModelGraph,
    /// Its parameters by name.
    pub weights: Checkpoint,
}

/// The ONNX operators that can be read, in alphabetical order.
pub fn onnx_operators() -> Vec<&'static str> {
    operators::known()
}

/// Reads an ONNX file.
///
/// # Errors
/// [`ZooError::Io`], [`ZooError::Onnx`] that names node and operator, [`ZooError::Model`].
pub fn read_onnx(path: &Path, options: &OnnxOptions) -> Result<OnnxModel, ZooError> {
    let bytes = file::read(path)?;
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let options = OnnxOptions { folder: Some(folder), ..options.clone() };
    let origin = path.display().to_string();
    imported(&origin, &bytes, &options, Some(path))
}

/// Reads the bytes of an ONNX file; `origin` names them in errors. Parameters that lie inside the bytes have no place in
/// [`OnnxModel::weights`], because they are in no file.
///
/// # Errors
/// As [`read_onnx`].
pub fn onnx_from_bytes(origin: &str, bytes: &[u8], options: &OnnxOptions) -> Result<OnnxModel, ZooError> {
    imported(origin, bytes, options, None)
}

fn imported(origin: &str, bytes: &[u8], options: &OnnxOptions, path: Option<&Path>) -> Result<OnnxModel, ZooError> {
    let refuse =
        |node: &str, problem: String| ZooError::Onnx { origin: origin.to_owned(), node: node.to_owned(), problem };
    let model = Model::parse(bytes)
        .map_err(|problem| refuse("(whole file)", format!("is no ONNX: {problem}; is the file whole?")))?;
    check(&model).map_err(|problem| refuse("(whole file)", problem))?;
    let mut importer = Importer::new(&model, options);
    importer.walk().map_err(|found| refuse(&found.node, found.problem))?;
    let outputs = outputs(&importer).map_err(|(output, problem)| refuse(&output, problem))?;
    let (mut joined, places) = if options.keep_apart {
        (importer.ir.clone(), (0..importer.ir.nodes.len()).collect())
    } else {
        fuse::run(&importer.ir).map_err(|problem| refuse("(joined operators)", problem))?
    };
    let mut outputs: Vec<usize> = outputs.iter().map(|id| places[*id]).collect();
    if options.loss
        && let Some(first) = outputs.first_mut()
        && !joined.kind(*first).is_some_and(OpKind::is_loss)
    {
        *first = inputs::loss(&mut joined, *first).map_err(|problem| refuse("(loss)", problem))?;
    }
    outputs.dedup();
    places::tie(&mut joined, importer.initializers);
    let name = name(&model, origin);
    let (graph, origins) =
        emit::graph(&name, &joined, importer.initializers, &outputs).map_err(|refusal| match refusal {
            emit::Refusal::Leftover { node, problem } => refuse(&node, problem.to_owned()),
            emit::Refusal::Model(source) => of_model(origin, source),
        })?;
    let weights = places::checkpoint(&graph, &origins, &joined, importer.initializers, bytes, path)
        .map_err(|problem| refuse("(weights)", problem))?;
    Ok(OnnxModel { graph, weights })
}

fn of_model(origin: &str, source: ModelError) -> ZooError {
    ZooError::Model { origin: origin.to_owned(), source }
}

fn check(model: &Model<'_>) -> Result<(), String> {
    if model.graph.is_none() {
        return Err("holds no graph".to_owned());
    }
    if model.has_functions {
        return Err("defines functions of its own: inline them, for example with onnx.inliner".to_owned());
    }
    if model.opset < OLDEST {
        let (set, by) = (model.opset, names::shortened(model.producer));
        return Err(format!("has operator set {set} (by '{by}'): export it with {OLDEST} or later"));
    }
    Ok(())
}

/// The name of the graph, or of the file where an exporter gave none.
fn name(model: &Model<'_>, origin: &str) -> String {
    let given = model.graph.as_ref().map_or("", |graph| graph.name);
    if given.is_empty() || matches!(given, "main_graph" | "main" | "torch_jit" | "torch-jit-export") {
        let file = Path::new(origin).file_stem().map(|name| name.to_string_lossy().into_owned());
        return file.unwrap_or_else(|| "onnx".to_owned());
    }
    names::shortened(given)
}

/// The nodes of the outputs that are kept.
fn outputs(importer: &Importer<'_>) -> Result<Vec<usize>, (String, String)> {
    let declared = importer.model.graph.as_ref().map_or(&[][..], |graph| &graph.outputs);
    let wanted: Vec<&str> = match &importer.options.outputs[..] {
        [] => declared.first().map(|output| output.name).into_iter().collect(),
        list => list.iter().map(String::as_str).collect(),
    };
    if wanted.is_empty() {
        return Err(("(outputs)".to_owned(), "the graph has no output".to_owned()));
    }
    let one = |name: &&str| match importer.env.get(name).filter(|_| declared.iter().any(|output| output.name == *name))
    {
        Some(Entry::Value(value)) => Ok(value.id),
        Some(_) => Err((names::shortened(name), "is an output that does not depend on the data".to_owned())),
        None => {
            let known: Vec<String> = declared.iter().take(8).map(|output| names::shortened(output.name)).collect();
            Err((names::shortened(name), format!("is an output that no node gives; declared are {}", known.join(", "))))
        }
    };
    wanted.iter().map(one).collect()
}
