//! An operator at work: what the functions of every family need to run it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use cutplane_graph::{ModelGraph, Op, ValueId};

use super::value::{Matrix, Tokens, Value, Weight};
use crate::backend::Backend;
use crate::error::RuntimeError;
use crate::segment::DeferredProduct;

/// Where dropout's random numbers come from: the same for a sample wherever it is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Samples {
    /// Of the run.
    pub(crate) seed: u64,
    /// Number of the micro-batch's first sample, counted over all steps and replicas; the others follow it.
    pub(crate) first: u64,
}

/// The rows of a table, or the experts, that a rank holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TablePart {
    /// Number of the first one.
    pub(crate) first: usize,
    /// How many there are in all.
    pub(crate) whole: usize,
}

/// How a rank computes: where, in which numbers, on which samples, and by what the gradient of its loss is multiplied.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub(crate) backend: &'a Backend,
    /// Against the underflow of f16 gradients; 1 in other precisions.
    pub(crate) loss_scale: f32,
    /// The samples of a training pass; `None` in inference, where dropout does nothing.
    pub(crate) samples: Option<Samples>,
    /// Where products of matrices put what their weight gradients will be computed from; they are computed with the rest
    /// of the backward pass when `None`.
    pub(crate) deferred: Option<&'a RefCell<Vec<DeferredProduct>>>,
    /// Tables and mixtures of which the rank holds a part, by the value that they give.
    pub(crate) tables: Option<&'a BTreeMap<ValueId, TablePart>>,
}

/// An operator of a graph with its weights.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) model: &'a ModelGraph,
    pub(super) op: &'a Op,
    pub(super) weights: &'a [&'a Weight],
    pub(super) manner: Manner<'a>,
    pub(super) backend: &'a Backend,
}

impl Call<'_> {
    /// Whether an input has a batch axis.
    pub(super) fn is_batched(&self, input: usize) -> bool {
        self.model.value(self.op.inputs[input]).ty.batched
    }

    /// Extents of an input after the batch axis.
    pub(super) fn dims(&self, input: usize) -> Vec<usize> {
        self.model.value(self.op.inputs[input]).ty.dims.iter().map(|dim| *dim as usize).collect()
    }

    /// Samples of an input: the extent of its batch axis, or 1.
    pub(super) fn samples(&self, input: usize, shape: &[usize]) -> usize {
        if self.is_batched(input) { shape[0] } else { 1 }
    }

    /// Shape of the output for the shape of input 0.
    pub(super) fn output_shape(&self, of_input: &[usize]) -> Vec<usize> {
        let ty = &self.model.value(self.op.output).ty;
        let batch = if self.is_batched(0) { of_input[0] } else { 1 };
        ty.shape(batch as u64).into_iter().map(|dim| dim as usize).collect()
    }

    pub(super) fn refuse(&self, problem: String) -> RuntimeError {
        RuntimeError::Value { value: self.op.name.clone(), problem }
    }

    /// The error for an operator that no family knows.
    pub(super) fn unknown(&self) -> RuntimeError {
        let label = self.op.kind.label();
        self.refuse(format!("this runtime has no operator '{label}' of this kind: it can be planned, but not run"))
    }

    /// Refuses an id outside `0..limit`, with the first offender.
    pub(super) fn check_ids(&self, ids: &[i32], limit: usize, ignored: Option<i32>) -> Result<(), RuntimeError> {
        let fits = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < limit) || Some(*id) == ignored;
        match ids.iter().find(|id| !fits(id)) {
            None => Ok(()),
            Some(id) => {
                Err(self.refuse(format!("the id {id} is not below {limit}; does the data fit the model's vocabulary?")))
            }
        }
    }
}

/// The inputs of an operator, handed out in order.
pub(super) struct Inputs<'a> {
    op: &'a Op,
    values: std::vec::IntoIter<Value>,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(op: &'a Op, values: Vec<Value>) -> Self {
        Self { op, values: values.into_iter() }
    }

    /// The next one, of either type.
    pub(super) fn value(&mut self) -> Value {
        self.values.next().expect("the graph checked the arity")
    }

    /// The next one, which must be floats.
    pub(super) fn matrix(&mut self) -> Result<Matrix, RuntimeError> {
        self.value().matrix(self.op)
    }

    /// The next one, which must be integers.
    pub(super) fn tokens(&mut self) -> Result<Tokens, RuntimeError> {
        self.value().tokens(self.op)
    }

    /// All that are left.
    pub(super) fn rest(self) -> Vec<Value> {
        self.values.collect()
    }

    /// All that are left, which must be floats.
    pub(super) fn matrices(self) -> Result<Vec<Matrix>, RuntimeError> {
        let op = self.op;
        self.values.map(|value| value.matrix(op)).collect()
    }
}
