//! The facts of a model, as data and as text.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;

use cutplane_graph::{Dtype, Folded, ModelGraph, OpId, ParamId, Pass, ValueId};
use cutplane_units::{Bytes, Flops};
use serde::Serialize;

use crate::verbs::models::grouped;

/// Facts of a model on one sample.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    model: String,
    digest: String,
    parameters: u64,
    active_parameters: u64,
    layers: usize,
    operators: usize,
    tokens_per_sample: u64,
    inputs: Vec<Tensor>,
    forward_flops_per_sample: Flops,
    backward_flops_per_sample: Flops,
    memory: Vec<Memory>,
    blocks: Vec<Class>,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    #[serde(rename = "type")]
    ty: String,
}

/// Memory when floats are held in one element type.
#[derive(Debug, Serialize)]
struct Memory {
    dtype: Dtype,
    weight_bytes: Bytes,
    /// Kept by one sample between its passes, attention scores included.
    activation_bytes_per_sample: Bytes,
    /// Attention scores among them, which a fused kernel does not keep.
    attention_score_bytes_per_sample: Bytes,
}

/// A class of identical blocks.
#[derive(Debug, Serialize)]
struct Class {
    name: String,
    count: usize,
    /// Of all its blocks; a shared parameter counts where it is used first.
    parameters: u64,
    /// Of one block.
    forward_flops_per_sample: Flops,
    output: String,
    operators: Vec<Operator>,
}

#[derive(Debug, Serialize)]
struct Operator {
    name: String,
    kind: &'static str,
    parameters: u64,
    forward_flops_per_sample: Flops,
    output: String,
}

impl Summary {
    pub(super) fn new(model: &ModelGraph, folded: &Folded) -> Self {
        let own = own_parameters(model);
        let classes = 0..folded.classes.len();
        Self {
            model: model.name().to_owned(),
            digest: model.digest(),
            parameters: model.parameter_count(),
            active_parameters: model.active_parameter_count(),
            layers: model.layer_count(),
            operators: model.ops().len(),
            tokens_per_sample: tokens(model),
            inputs: model.inputs().map(|id| Tensor::of(model, id)).collect(),
            forward_flops_per_sample: flops(model, 0..model.ops().len(), Pass::Forward),
            backward_flops_per_sample: flops(model, 0..model.ops().len(), Pass::Backward),
            memory: [Dtype::F32, Dtype::Bf16].into_iter().map(|dtype| Memory::new(model, dtype)).collect(),
            blocks: classes.map(|class| Class::new(model, folded, &own, class)).collect(),
        }
    }

    /// For people; with every operator where `ops` is set.
    pub(super) fn text(&self, ops: bool) -> String {
        let mut text = String::new();
        let mut active = String::new();
        if self.active_parameters != self.parameters {
            active = format!(", of which a token uses {}", grouped(self.active_parameters));
        }
        let folded = self.blocks.len();
        let inputs: Vec<String> = self.inputs.iter().map(|input| format!("{} {}", input.name, input.ty)).collect();
        let _ = writeln!(text, "model        {}", self.model);
        let _ = writeln!(text, "parameters   {}{active}", grouped(self.parameters));
        let _ = writeln!(
            text,
            "structure    {} layers, {} operators, {folded} different blocks",
            self.layers, self.operators
        );
        let _ = writeln!(text, "inputs       {}", shortened(&inputs));
        let (forward, backward) = (self.forward_flops_per_sample, self.backward_flops_per_sample);
        let _ = writeln!(text, "work         forward {forward}, backward {backward} a sample{}", self.per_token());
        for memory in &self.memory {
            let (weights, kept) = (memory.weight_bytes, memory.activation_bytes_per_sample);
            let scores = match memory.attention_score_bytes_per_sample {
                Bytes::ZERO => String::new(),
                scores => format!(", of which attention scores {scores}"),
            };
            let _ = writeln!(text, "memory {:<5} weights {weights}, activations {kept} a sample{scores}", memory.dtype);
        }
        text.push_str(&self.table(ops));
        text
    }

    fn per_token(&self) -> String {
        let tokens = u128::from(self.tokens_per_sample);
        if tokens < 2 {
            return String::new();
        }
        let total = self.forward_flops_per_sample.get() + self.backward_flops_per_sample.get();
        format!(" of {} tokens; {} a token", grouped(self.tokens_per_sample), Flops::new(total / tokens))
    }

    fn table(&self, ops: bool) -> String {
        let mut text = String::new();
        let widest = self.blocks.iter().map(|class| class.name.chars().count()).max().unwrap_or(0);
        let mut width = widest.clamp(12, 44);
        if ops {
            width = 56;
        }
        let head = format!("{:<width$} {:>6} {:>18} {:>14}  output", "block", "times", "parameters", "forward");
        let _ = writeln!(text, "\n{head}");
        for class in &self.blocks {
            let (parameters, work) = (grouped(class.parameters), class.forward_flops_per_sample.to_string());
            let name = fitted(&class.name, width);
            let _ = writeln!(text, "{name:<width$} {:>6} {parameters:>18} {work:>14}  {}", class.count, class.output);
            for operator in class.operators.iter().filter(|_| ops && class.operators.len() > 1) {
                let (parameters, work) = (grouped(operator.parameters), operator.forward_flops_per_sample.to_string());
                let name = fitted(&format!("  {} ({})", operator.name, operator.kind), width);
                let _ = writeln!(text, "{name:<width$} {:>6} {parameters:>18} {work:>14}  {}", "", operator.output);
            }
        }
        text
    }
}

/// The end of a name that is too long for its column: the part that tells it apart.
fn fitted(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        name.to_owned()
    } else {
        std::iter::once('…').chain(name.chars().skip(length - width + 1)).collect()
    }
}

/// At most the first four of a list.
fn shortened(list: &[String]) -> String {
    let more = list.len().saturating_sub(4);
    let shown = list[..list.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

impl Tensor {
    fn of(model: &ModelGraph, id: ValueId) -> Self {
        let value = model.value(id);
        Self { name: value.name.clone(), ty: value.ty.to_string() }
    }
}

impl Memory {
    fn new(model: &ModelGraph, dtype: Dtype) -> Self {
        let weight_bytes = Bytes::new(model.parameter_count().saturating_mul(dtype.size()));
        let kept: u128 =
            kept_values(model).into_iter().map(|id| u128::from(model.value(id).ty.bytes_in(1, dtype).get())).sum();
        let internal: u128 = model.op_ids().map(|op| u128::from(model.saved(op, 1).internal_elements)).sum();
        let scores: u128 = model.op_ids().map(|op| kept_scores(model, op)).sum();
        let size = u128::from(dtype.size());
        let bytes = |total: u128| Bytes::new(u64::try_from(total).unwrap_or(u64::MAX));
        Self {
            dtype,
            weight_bytes,
            activation_bytes_per_sample: bytes(kept + internal * size),
            attention_score_bytes_per_sample: bytes(scores * size),
        }
    }
}

/// Scores that an attention keeps: all of them, or none where its kernel is fused.
fn kept_scores(model: &ModelGraph, op: OpId) -> u128 {
    let scores = model.attention_scores(op, 1);
    if model.saved(op, 1).internal_elements >= scores { u128::from(scores) } else { 0 }
}

/// Values that operators keep for their backward passes, each once.
fn kept_values(model: &ModelGraph) -> HashSet<ValueId> {
    let mut kept = HashSet::new();
    for op in model.op_ids() {
        let (node, saved) = (model.op(op), model.saved(op, 1));
        if saved.inputs {
            kept.extend(node.inputs.iter().copied());
        }
        if saved.output {
            kept.insert(node.output);
        }
    }
    kept
}

impl Class {
    fn new(model: &ModelGraph, folded: &Folded, own: &[u64], class: usize) -> Self {
        let ops = folded.ops_of(class);
        let blocks = folded.classes[class].blocks.iter().map(|block| folded.blocks[*block].ops.clone());
        let last = &model.ops()[ops.end - 1];
        Self {
            name: folded.name(model, class),
            count: folded.classes[class].blocks.len(),
            parameters: blocks.flatten().map(|op| own[op]).sum(),
            forward_flops_per_sample: flops(model, ops.clone(), Pass::Forward),
            output: model.value(last.output).ty.to_string(),
            operators: ops.map(|op| Operator::new(model, own, op)).collect(),
        }
    }
}

impl Operator {
    fn new(model: &ModelGraph, own: &[u64], op: usize) -> Self {
        let node = &model.ops()[op];
        Self {
            name: node.name.clone(),
            kind: node.kind.label(),
            parameters: own[op],
            forward_flops_per_sample: model.facts(OpId::new(op), Pass::Forward, 1).flops,
            output: model.value(node.output).ty.to_string(),
        }
    }
}

/// Parameters of every operator; a shared one counts for its first user.
fn own_parameters(model: &ModelGraph) -> Vec<u64> {
    let mut own = vec![0; model.ops().len()];
    for (index, param) in model.params().iter().enumerate() {
        if let Some(first) = param.users.first() {
            own[first.index()] += model.param(ParamId::new(index)).elements();
        }
    }
    own
}

fn flops(model: &ModelGraph, ops: Range<usize>, pass: Pass) -> Flops {
    ops.map(|op| model.facts(OpId::new(op), pass, 1).flops).sum()
}

/// Tokens of a sample: the length of its first input of ids; 1 for a model of vectors or images.
fn tokens(model: &ModelGraph) -> u64 {
    let ids = model.inputs().map(|id| &model.value(id).ty).find(|ty| !ty.dtype.is_float() && !ty.dims.is_empty());
    ids.map_or(1, |ty| ty.dims[0])
}
