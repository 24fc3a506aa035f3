//! Models that PyTorch and `transformers` wrote, loaded and run on Burn: the same logits, whole and cut in two anywhere.
//! The goldens are made by `tools/make_importer_goldens.py`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cutplane_graph::{InputRole, ModelGraph, OpId, OpKind, Overrides, ParamId, ValueId};
use cutplane_plan::{Optimizer, Segment};
use cutplane_runtime::{Backend, HostTensor, OptimizerSettings, SegmentRunner};
use cutplane_zoo::weights::Checkpoint;
use cutplane_zoo::{OnnxOptions, build, read_onnx, source_from_argument};
use serde::Deserialize;

const FAMILIES: [&str; 4] = ["gpt2", "bert", "llama", "t5"];
const LENGTH: u64 = 8;

/// Of logits as large as `scale`.
const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    exports: Vec<String>,
    #[serde(default)]
    inputs: BTreeMap<String, Vec<Vec<i32>>>,
    #[serde(default)]
    features: Vec<f32>,
    #[serde(default)]
    features_shape: Vec<usize>,
    logits_shape: Vec<usize>,
    logits: Vec<f32>,
}

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/zoo/tests/data/importers").join(family)
}

fn golden(family: &str) -> Golden {
    let text = std::fs::read_to_string(folder(family).join("golden.json")).expect("the golden");
    serde_json::from_str(&text).expect("JSON")
}

/// Operators `range`, of which values in `kept` leave even where nothing reads them.
fn segment(model: &ModelGraph, range: Range<usize>, kept: ValueId) -> Segment {
    let inside = |op: &OpId| range.contains(&op.index());
    let ops: Vec<OpId> = range.clone().map(OpId::new).collect();
    let sorted = |mut ids: Vec<ValueId>| {
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let read = ops.iter().flat_map(|op| model.op(*op).inputs.clone());
    let inputs = read.filter(|value| !model.value(*value).producer.is_some_and(|op| inside(&op))).collect();
    let leaves = |value: &ValueId| *value == kept || model.value(*value).consumers.iter().any(|op| !inside(op));
    let outputs = ops.iter().map(|op| model.op(*op).output).filter(leaves).collect();
    let mut params: Vec<ParamId> = ops.iter().flat_map(|op| model.op(*op).params.clone()).collect();
    params.sort_unstable();
    params.dedup();
    Segment { stage: 0, inputs: sorted(inputs), outputs: sorted(outputs), params, ops }
}

/// The logits of a model that is cut before operator `cut`, each part with the weights that it owns.
fn logits(
    model: &Arc<ModelGraph>,
    weights: &Checkpoint,
    feeds: &HashMap<ValueId, HostTensor>,
    cut: Option<usize>,
) -> HostTensor {
    let output = logits_value(model);
    let end = model.value(output).producer.expect("an operator").index() + 1;
    let load = |id: ParamId| {
        let shape: Vec<usize> = model.param(id).shape.iter().map(|dim| *dim as usize).collect();
        HostTensor::f32(shape, weights.read(model, id).expect("the weights"))
    };
    let mut values = feeds.clone();
    let bounds: Vec<usize> = [Some(0), cut, Some(end)].into_iter().flatten().collect();
    for pair in bounds.windows(2) {
        let segment = segment(model, pair[0]..pair[1], output);
        let inputs = segment.inputs.iter().map(|id| (*id, values[id].clone())).collect();
        let settings = OptimizerSettings::new(Optimizer::Sgd, 0.0);
        let runner = SegmentRunner::new(model.clone(), segment, &Backend::cpu(), &load, settings);
        values.extend(runner.expect("the weights fit").infer(0, inputs).expect("a forward pass"));
    }
    values.remove(&output).expect("the logits")
}

/// What the loss reads, or the first output of a model without one.
fn logits_value(model: &ModelGraph) -> ValueId {
    let loss = model.ops().iter().find(|op| op.kind.is_loss());
    loss.map_or_else(|| model.outputs()[0], |loss| loss.inputs[0])
}

fn tensor(rows: &[Vec<i32>], length: usize) -> HostTensor {
    let padded = |row: &Vec<i32>| (0..length).map(|at| row.get(at).copied().unwrap_or(0)).collect::<Vec<_>>();
    HostTensor::i32(vec![rows.len(), length], rows.iter().flat_map(padded).collect())
}

/// Feeds by role; inputs that a model of another length has more of are filled with zeros, which causal logits do not see.
fn feeds(model: &ModelGraph, golden: &Golden) -> HashMap<ValueId, HostTensor> {
    let feed = |id: ValueId| {
        let value = model.value(id);
        let name = match value.role {
            Some(InputRole::Tokens) => "input_ids",
            Some(InputRole::TokenTypes) => "token_type_ids",
            Some(InputRole::DecoderTokens) => "decoder_input_ids",
            Some(InputRole::Features | InputRole::Image) => {
                return Some((id, HostTensor::f32(golden.features_shape.clone(), golden.features.clone())));
            }
            _ => return None,
        };
        Some((id, tensor(&golden.inputs[name], value.ty.dims[0] as usize)))
    };
    model.inputs().filter_map(feed).collect()
}

/// The largest difference to the golden, relative to its largest logit.
fn difference(found: &HostTensor, golden: &Golden) -> f32 {
    let numbers = found.as_f32().expect("floats");
    let batch = golden.logits_shape[0];
    let (own, wanted) = (numbers.len() / batch, golden.logits.len() / batch);
    let scale = golden.logits.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let pairs = golden.logits.chunks(wanted).zip(numbers.chunks(own)).flat_map(|(a, b)| a.iter().zip(b));
    pairs.fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / scale
}

#[test]
fn hugging_face_folders_give_pytorchs_logits() {
    for family in FAMILIES {
        let argument = folder(family).display().to_string();
        let source = source_from_argument(&argument, Some(LENGTH), Overrides::default()).expect("a config");
        let model = Arc::new(build(&source).expect("a graph"));
        let (golden, weights) = (golden(family), Checkpoint::open(&folder(family)).expect("weights"));
        let feeds = feeds(&model, &golden);
        let cuts = (1..model.ops().len() - 1).map(Some);
        for cut in std::iter::once(None).chain(cuts) {
            let apart = difference(&logits(&model, &weights, &feeds, cut), &golden);
            assert!(apart <= TOLERANCE, "{family} cut at {cut:?}: logits differ by {apart}");
        }
    }
}

#[test]
fn onnx_files_give_pytorchs_logits_whole_and_cut_anywhere() {
    for family in FAMILIES {
        let golden = golden(family);
        for file in &golden.exports {
            let dims = [("decoder_sequence".to_owned(), 6)].into();
            let options = OnnxOptions { sequence_length: Some(LENGTH), dims, ..OnnxOptions::default() };
            let found = read_onnx(&folder(family).join(file), &options).expect("a graph");
            let model = Arc::new(found.graph);
            let feeds = feeds(&model, &golden);
            for cut in std::iter::once(None).chain((1..model.ops().len()).map(Some)) {
                let apart = difference(&logits(&model, &found.weights, &feeds, cut), &golden);
                assert!(apart <= TOLERANCE, "{family}/{file} cut at {cut:?}: logits differ by {apart}");
            }
        }
    }
}

/// Recurrent layers with their gates in another order, both directions, convolutions with batch norms folded in.
#[test]
fn recurrent_and_convolutional_files_give_pytorchs_outputs() {
    for family in ["lstm", "gru", "cnn"] {
        let golden = golden(family);
        for file in &golden.exports {
            let found = read_onnx(&folder(family).join(file), &OnnxOptions::default()).expect("a graph");
            let model = Arc::new(found.graph);
            let feeds = feeds(&model, &golden);
            for cut in std::iter::once(None).chain((1..model.ops().len()).map(Some)) {
                let apart = difference(&logits(&model, &found.weights, &feeds, cut), &golden);
                assert!(apart <= TOLERANCE, "{family}/{file} cut at {cut:?}: outputs differ by {apart}");
            }
        }
    }
}

/// Masks, rotations, norms and activations as the exporter wrote them, operator by operator.
#[test]
fn operators_that_stay_apart_give_the_same_logits() {
    for (family, file) in
        [("gpt2", "dynamo-18-eager.onnx"), ("bert", "script-13-eager.onnx"), ("llama", "dynamo-18-eager.onnx")]
    {
        let golden = golden(family);
        let options = OnnxOptions { sequence_length: Some(LENGTH), keep_apart: true, ..OnnxOptions::default() };
        let found = read_onnx(&folder(family).join(file), &options).expect("a graph");
        let model = Arc::new(found.graph);
        assert!(model.ops().iter().all(|op| !matches!(op.kind, OpKind::Attention(_))));
        let feeds = feeds(&model, &golden);
        for cut in std::iter::once(None).chain((1..model.ops().len()).step_by(5).map(Some)) {
            let apart = difference(&logits(&model, &found.weights, &feeds, cut), &golden);
            assert!(apart <= TOLERANCE, "{family}/{file} cut at {cut:?}: logits differ by {apart}");
        }
    }
}
