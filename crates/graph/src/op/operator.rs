//! What every kind of operator answers, and the view of the graph that the answers are made from.

use super::ParamSpec;
use crate::facts::{ProfileKey, Saved};
use crate::ids::ValueId;
use crate::model::{ModelGraph, Op};
use crate::sharding::{Layout, ShardRule, Sharded, Split};
use crate::tensor::TensorType;

/// Element type that an operator takes as its first input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Float,
    Integer,
    Any,
}

/// One kind of operator. Reasons in errors do not name the operator; the caller does.
pub(crate) trait Operator {
    fn label(&self) -> &'static str;

    fn arity(&self) -> usize {
        1
    }

    fn element(&self) -> Element {
        Element::Float
    }

    fn params(&self) -> Vec<ParamSpec> {
        Vec::new()
    }

    /// `inputs` are as many as [`Operator::arity`] says, the first of the element type that [`Operator::element`] says.
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String>;

    fn work(&self, at: &View<'_>) -> Work;

    fn saved(&self, at: &View<'_>) -> Saved;

    fn curve(&self, at: &View<'_>) -> ProfileKey;

    /// Ways to split it besides along the batch.
    fn rules(&self, _at: &View<'_>) -> Vec<ShardRule> {
        Vec::new()
    }
}

/// Work of both passes. Bytes of the backward pass are twice those of the forward pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) forward: u128,
    pub(crate) backward: u128,
    /// Kernels of the forward pass; the backward pass launches twice as many.
    pub(crate) kernels: u32,
    /// Bytes of the forward pass; `None` for [`View::moved`].
    pub(crate) bytes: Option<u128>,
}

impl Work {
    pub(crate) const fn new(forward: u128, backward: u128, kernels: u32) -> Self {
        Self { forward, backward, kernels, bytes: None }
    }

    /// `per_element` operations an element forward and twice that backward, in one kernel.
    pub(crate) fn pointwise(at: &View<'_>, per_element: u128) -> Self {
        let forward = per_element * at.elements();
        Self::new(forward, 2 * forward, 1)
    }

    pub(crate) const fn with_bytes(mut self, bytes: u128) -> Self {
        self.bytes = Some(bytes);
        self
    }
}

/// An operator in its graph, on a micro-batch.
pub(crate) struct View<'a> {
    graph: &'a ModelGraph,
    op: &'a Op,
    pub(crate) batch: u64,
}

impl<'a> View<'a> {
    pub(crate) const fn new(graph: &'a ModelGraph, op: &'a Op, batch: u64) -> Self {
        Self { graph, op, batch }
    }

    pub(crate) fn input(&self, index: usize) -> &'a TensorType {
        &self.graph.value(self.op.inputs[index]).ty
    }

    pub(crate) fn inputs(&self) -> Vec<&'a TensorType> {
        self.op.inputs.iter().map(|id| &self.graph.value(*id).ty).collect()
    }

    pub(crate) fn output(&self) -> &'a TensorType {
        &self.graph.value(self.op.output).ty
    }

    /// Elements of the output.
    pub(crate) fn elements(&self) -> u128 {
        u128::from(self.output().elements(self.batch))
    }

    /// Rows of the output.
    pub(crate) fn rows(&self) -> u64 {
        self.output().rows(self.batch)
    }

    /// Samples in a value of this type.
    pub(crate) fn samples(&self) -> u64 {
        if self.output().batched { self.batch } else { 1 }
    }

    /// Bytes of all inputs.
    pub(crate) fn input_bytes(&self) -> u128 {
        let bytes = |id: &ValueId| u128::from(self.graph.value(*id).ty.bytes(self.batch).get());
        self.op.inputs.iter().map(bytes).sum()
    }

    /// Bytes of the output.
    pub(crate) fn output_bytes(&self) -> u128 {
        u128::from(self.output().bytes(self.batch).get())
    }

    /// What an unfused kernel moves: each input and parameter once in, the output once out.
    pub(crate) fn moved(&self) -> u128 {
        let params: u128 = self.op.params.iter().map(|id| u128::from(self.graph.param(*id).bytes().get())).sum();
        self.input_bytes() + self.output_bytes() + params
    }

    /// A point of a curve over the elements of the output.
    pub(crate) fn per_element(&self, operator: &'static str) -> ProfileKey {
        let elements = self.output().elements(self.batch);
        ProfileKey { operator, axes: vec![elements], work: elements as f64 }
    }

    /// A point of a curve over the output's rows and width.
    pub(crate) fn per_row(&self, operator: &'static str) -> ProfileKey {
        let output = self.output();
        let elements = output.elements(self.batch);
        ProfileKey { operator, axes: vec![output.rows(self.batch), output.last()], work: elements as f64 }
    }

    /// Splits of an operator that treats the elements of all axes but the last `bound` ones alone, and whose inputs have
    /// the shape of the output: the first axis as a sequence, the last as a width where it is free. `params` follow a
    /// split of the last axis when `width_params` says so.
    pub(crate) fn free_axes(&self, params: usize, bound: usize, width_params: Option<Layout>) -> Vec<ShardRule> {
        let dims = &self.output().dims;
        let inputs = self.op.inputs.len();
        let rule = |split, axis: usize, param: Sharded| {
            let tensor = Sharded::split(Layout::Axis(axis));
            ShardRule::new(split, dims[axis], &vec![tensor; inputs], &vec![param; params], tensor)
        };
        let mut rules = Vec::new();
        if dims.len() > bound.max(1) {
            rules.push(rule(Split::Sequence, 0, Sharded::shared()));
        }
        if bound == 0 && !dims.is_empty() {
            let param = width_params.map_or(Sharded::shared(), Sharded::split);
            rules.push(rule(Split::Width, dims.len() - 1, param));
        }
        rules
    }
}

/// A value with other extents.
pub(crate) fn with_dims(ty: &TensorType, dims: Vec<u64>) -> TensorType {
    TensorType { dims, ..ty.clone() }
}

/// Nothing is kept.
pub(crate) const KEEPS_NOTHING: Saved = Saved { inputs: false, output: false, internal_elements: 0 };
/// The inputs are kept.
pub(crate) const KEEPS_INPUTS: Saved = Saved { inputs: true, output: false, internal_elements: 0 };
/// The output is kept.
pub(crate) const KEEPS_OUTPUT: Saved = Saved { inputs: false, output: true, internal_elements: 0 };
