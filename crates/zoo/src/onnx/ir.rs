//! The graph while it is read: operators of a [`cutplane_graph::ModelGraph`] before patterns among them are joined.

use std::rc::Rc;

use cutplane_graph::{Dtype, Fixed, InputRole, OpKind, TensorType};

use super::extent::{Extent, display, sample_dims};
use super::proto::MAX_RANK;

/// Number of a node of [`Ir`].
pub(super) type Id = usize;

/// A value of the file: the node that gives it, and its whole shape.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) id: Id,
    pub(super) dims: Vec<Extent>,
}

/// Rows of a table of weights, picked by known indices, as a bias of scores: `[heads, queries, keys]`.
#[derive(Debug, PartialEq)]
pub(super) struct Buckets {
    /// The initializer.
    pub(super) table: usize,
    /// Shape of the table: buckets and heads.
    pub(super) shape: [u64; 2],
    /// The bucket of each query and key.
    pub(super) indices: Vec<i64>,
    /// Queries and keys.
    pub(super) lengths: [u64; 2],
    /// Added to the scores of every head, if anything is.
    pub(super) mask: Option<Rc<[f32]>>,
}

/// Tables of cosines and sines: `[positions, width]`.
#[derive(Debug, PartialEq)]
pub(super) struct Tables {
    pub(super) cosines: Rc<[f32]>,
    pub(super) sines: Rc<[f32]>,
    /// Features that a row rotates; a row has half as many entries where each serves a pair.
    pub(super) features: u64,
    pub(super) interleaved: bool,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// An input of the graph.
    Input(InputRole),
    /// An operator.
    Op(OpKind),
    /// Scores plus a learned bias: part of an attention.
    ScoreBias(Rc<Buckets>),
    /// Queries or keys `[heads, positions, width]`, rotated: part of an attention.
    Rotated(Rc<Tables>),
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Name of the module or node that it comes from.
    pub(super) name: String,
    pub(super) body: Body,
    pub(super) inputs: Vec<Id>,
    /// Parameters: numbers of [`Ir::params`].
    pub(super) params: Vec<usize>,
    pub(super) ty: TensorType,
}

/// A parameter: an initializer, or part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Param {
    pub(super) initializer: usize,
    /// Rows of its first axis, in the order in which the parameter has them; empty for all as they are.
    pub(super) rows: Vec<[u64; 2]>,
    /// Its name, when it was decided.
    pub(super) name: String,
}

/// The nodes so far, in topological order.
#[derive(Clone, Debug, Default)]
pub(super) struct Ir {
    pub(super) nodes: Vec<Node>,
    pub(super) params: Vec<Param>,
    /// The name that new nodes get.
    pub(super) name: String,
}

impl Ir {
    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// The kind of a node that is an operator.
    pub(super) fn kind(&self, id: Id) -> Option<&OpKind> {
        match &self.nodes[id].body {
            Body::Op(kind) => Some(kind),
            _ => None,
        }
    }

    pub(super) fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Adds an operator with parameters; its type is inferred.
    pub(super) fn op_with(&mut self, kind: OpKind, inputs: &[Id], params: Vec<usize>) -> Result<Id, String> {
        let types: Vec<&TensorType> = inputs.iter().map(|id| &self.nodes[*id].ty).collect();
        let ty = kind.infer(&self.name, &types).map_err(|error| error.to_string())?;
        let name = self.name.clone();
        Ok(self.add(Node { name, body: Body::Op(kind), inputs: inputs.to_vec(), params, ty }))
    }

    pub(super) fn op(&mut self, kind: OpKind, inputs: &[Id]) -> Result<Id, String> {
        self.op_with(kind, inputs, Vec::new())
    }

    /// Adds an operator whose output has the whole shape `dims`.
    pub(super) fn value(&mut self, kind: OpKind, inputs: &[Id], dims: Vec<Extent>) -> Result<Value, String> {
        let id = self.op(kind, inputs)?;
        self.checked(id, dims)
    }

    /// As [`Ir::value`], for an operator whose constant may be too large to stay, and whose pattern must be joined then.
    pub(super) fn unchecked_value(&mut self, kind: OpKind, inputs: &[Id], dims: Vec<Extent>) -> Value {
        let ty = TensorType { dims: sample_dims(&dims), ..self.nodes[inputs[0]].ty.clone() };
        let name = self.name.clone();
        let id = self.add(Node { name, body: Body::Op(kind), inputs: inputs.to_vec(), params: Vec::new(), ty });
        Value { id, dims }
    }

    /// `id` as a value of shape `dims`, which must be what was inferred.
    pub(super) fn checked(&self, id: Id, dims: Vec<Extent>) -> Result<Value, String> {
        let ty = &self.nodes[id].ty;
        if dims.len() > MAX_RANK {
            return Err(format!("gives a tensor of {} axes; at most {MAX_RANK} are supported", dims.len()));
        }
        if ty.dims != sample_dims(&dims) {
            return Err(format!("gives {ty} where {} was expected", display(&dims)));
        }
        Ok(Value { id, dims })
    }

    /// The same numbers with the extents `dims` a sample; no operator where nothing changes.
    pub(super) fn reshaped(&mut self, id: Id, dims: Vec<u64>) -> Result<Id, String> {
        if self.nodes[id].ty.dims == dims {
            return Ok(id);
        }
        self.op(OpKind::Reshape(cutplane_graph::Reshape { dims }), &[id])
    }

    /// The number of a parameter that is `rows` of an initializer.
    pub(super) fn param(&mut self, initializer: usize, rows: Vec<[u64; 2]>) -> usize {
        self.params.push(Param { initializer, rows, name: String::new() });
        self.params.len() - 1
    }

    /// Whether a node holds floats.
    pub(super) fn is_float(&self, id: Id) -> bool {
        self.nodes[id].ty.dtype == Dtype::F32
    }
}

/// Whether a constant of a file is a number that has a meaning of its own, such as 1.
pub(super) fn is(number: f64, meant: f64) -> bool {
    (number - meant).abs() <= f64::EPSILON
}

/// The constant of an operator with one.
pub(super) fn fixed(kind: &OpKind) -> Option<&Fixed> {
    match kind {
        OpKind::Fixed(fixed) => Some(fixed),
        _ => None,
    }
}
