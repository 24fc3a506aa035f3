//! The model graph and the builder that checks it.

use std::collections::{HashMap, HashSet};

use cutplane_units::Bytes;
use petgraph::graph::DiGraph;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::ids::{OpId, ParamId, ValueId};
use crate::op::{Init, OpKind};
use crate::tensor::{Dtype, TensorType};

/// What a graph input is, so that the data pipeline knows what to feed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum InputRole {
    /// Token ids, i32.
    Tokens,
    /// Segment ids of a sentence pair, i32.
    TokenTypes,
    /// The next token at each position, i32.
    NextTokens,
    /// The original token at masked positions and -100 elsewhere, i32.
    MaskedTokens,
    /// Dense features.
    Features,
    /// Token ids of the decoder of an encoder-decoder, i32; its [`InputRole::NextTokens`] follow these.
    DecoderTokens,
    /// The previous token at each position, i32: what a backward language model predicts.
    PreviousTokens,
    /// Characters of each token, i32 `[s, characters]`.
    Characters,
    /// The class of the sample, i32.
    Classes,
    /// Pixels `[channels, height, width]`.
    Image,
    /// What an output is compared with, element by element.
    FeatureTargets,
    /// Activations of earlier segments that no gradient reaches (Transformer-XL).
    Memory,
}

/// An operator of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// Its name: the path of the module that it stands for, such as `h.3.mlp.c_fc`.
    pub name: String,
    /// What it computes.
    pub kind: OpKind,
    /// Values read.
    pub inputs: Vec<ValueId>,
    /// Value written.
    pub output: ValueId,
    /// Parameters used, in the order of [`OpKind::params`].
    pub params: Vec<ParamId>,
    /// The repeated layer that it belongs to, if any.
    pub layer: Option<u32>,
}

/// A tensor that flows along the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The name of its producer or input.
    pub name: String,
    /// Shape and element type.
    pub ty: TensorType,
    /// The operator that writes it; `None` for a graph input.
    pub producer: Option<OpId>,
    /// The operators that read it, in order.
    pub consumers: Vec<OpId>,
    /// What to feed, for a graph input.
    pub role: Option<InputRole>,
}

/// A trainable parameter; shared ones have several users.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name in checkpoints.
    pub name: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its initial value.
    pub init: Init,
    /// The operators that use it, in order.
    pub users: Vec<OpId>,
}

impl Param {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Size in f32.
    pub fn bytes(&self) -> Bytes {
        Bytes::new(self.elements() * Dtype::F32.size())
    }
}

/// A model: operators in topological order, the values between them, the parameters that they own.
#[derive(Clone, Debug)]
pub struct ModelGraph {
    name: String,
    ops: Vec<Op>,
    values: Vec<Value>,
    params: Vec<Param>,
    outputs: Vec<ValueId>,
    loss: Option<ValueId>,
}

impl ModelGraph {
    /// Name of the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All operators, in topological order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// All operator ids, in topological order.
    pub fn op_ids(&self) -> impl DoubleEndedIterator<Item = OpId> + ExactSizeIterator + use<> {
        (0..self.ops.len()).map(OpId::new)
    }

    /// One operator.
    pub fn op(&self, id: OpId) -> &Op {
        &self.ops[id.index()]
    }

    /// All values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// One value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// All parameters, each once.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// One parameter.
    pub fn param(&self, id: ParamId) -> &Param {
        &self.params[id.index()]
    }

    /// The graph's inputs.
    pub fn inputs(&self) -> impl Iterator<Item = ValueId> + '_ {
        (0..self.values.len()).filter(|i| self.values[*i].producer.is_none()).map(ValueId::new)
    }

    /// The declared outputs, the loss among them.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// The scalar that training minimises; `None` for a graph that only infers.
    pub fn loss(&self) -> Option<ValueId> {
        self.loss
    }

    /// Number of trainable numbers, shared ones counted once.
    pub fn parameter_count(&self) -> u64 {
        self.params.iter().map(Param::elements).sum()
    }

    /// Number of trainable numbers that one token uses: all, but of a mixture of experts only those that the token goes to.
    pub fn active_parameter_count(&self) -> u64 {
        let idle = |op: &Op| match &op.kind {
            OpKind::ExpertLinear(kind) => {
                let idle = kind.routing.experts.saturating_sub(kind.routing.top_k);
                idle.saturating_mul(kind.inputs).saturating_mul(kind.outputs)
            }
            _ => 0,
        };
        self.parameter_count().saturating_sub(self.ops.iter().map(idle).sum())
    }

    /// Number of repeated layers.
    pub fn layer_count(&self) -> usize {
        self.ops.iter().filter_map(|op| op.layer).max().map_or(0, |last| last as usize + 1)
    }

    /// The dependency graph: an edge for each value that one operator writes and another reads.
    pub fn dag(&self) -> DiGraph<OpId, ValueId> {
        let mut dag = DiGraph::with_capacity(self.ops.len(), self.values.len());
        let nodes: Vec<_> = self.op_ids().map(|id| dag.add_node(id)).collect();
        for (index, value) in self.values.iter().enumerate() {
            for (producer, consumer) in value.producer.iter().flat_map(|p| value.consumers.iter().map(move |c| (p, c)))
            {
                dag.add_edge(nodes[producer.index()], nodes[consumer.index()], ValueId::new(index));
            }
        }
        dag
    }

    /// A graph from operators and values that refer to each other already; users of parameters are found.
    pub(crate) fn from_parts(
        name: String,
        ops: Vec<Op>,
        values: Vec<Value>,
        mut params: Vec<Param>,
        outputs: Vec<ValueId>,
        loss: Option<ValueId>,
    ) -> Self {
        for (index, op) in ops.iter().enumerate() {
            for param in &op.params {
                params[param.index()].users.push(OpId::new(index));
            }
        }
        Self { name, ops, values, params, outputs, loss }
    }

    /// A digest of everything that decides numbers and costs: kinds, shapes, wiring, parameter names.
    pub fn digest(&self) -> String {
        let ops: Vec<_> = self.ops.iter().map(|op| (&op.name, &op.kind, &op.inputs, &op.params)).collect();
        let inputs: Vec<_> = self.inputs().map(|v| (&self.value(v).name, &self.value(v).ty)).collect();
        let params: Vec<_> = self.params.iter().map(|p| (&p.name, &p.shape)).collect();
        crate::digest_of(&(&self.name, ops, inputs, params, &self.outputs, self.loss))
    }
}

/// Builds a [`ModelGraph`] operator by operator; an operator can only read values that are there already, so the order
/// of the calls is a topological order.
#[derive(Debug)]
pub struct ModelGraphBuilder {
    graph: ModelGraph,
    names: HashSet<String>,
    param_names: HashMap<String, ParamId>,
    layer: Option<u32>,
}

impl ModelGraphBuilder {
    /// An empty model.
    pub fn new(name: impl Into<String>) -> Self {
        let graph = ModelGraph {
            name: name.into(),
            ops: Vec::new(),
            values: Vec::new(),
            params: Vec::new(),
            outputs: Vec::new(),
            loss: None,
        };
        Self { graph, names: HashSet::new(), param_names: HashMap::new(), layer: None }
    }

    /// Operators added from now on belong to repeated layer `layer`, or to none.
    pub fn layer(&mut self, layer: Option<u32>) -> &mut Self {
        self.layer = layer;
        self
    }

    fn claim(&mut self, name: &str) -> Result<(), ModelError> {
        if self.names.insert(name.to_owned()) {
            return Ok(());
        }
        Err(ModelError::DuplicateName { name: name.to_owned() })
    }

    fn add_value(&mut self, value: Value) -> Result<ValueId, ModelError> {
        // 2^40 elements a sample is far beyond any model and keeps every later product of sizes in range.
        let possible = value.ty.checked_elements(1).is_some_and(|n| (1..1 << 40).contains(&n));
        if !possible {
            return Err(ModelError::ImpossibleShape { name: value.name, shape: value.ty.to_string() });
        }
        self.graph.values.push(value);
        Ok(ValueId::new(self.graph.values.len() - 1))
    }

    /// Adds a graph input.
    ///
    /// # Errors
    /// A name used twice, an impossible shape.
    pub fn input(&mut self, name: &str, role: InputRole, ty: TensorType) -> Result<ValueId, ModelError> {
        self.claim(name)?;
        self.add_value(Value { name: name.to_owned(), ty, producer: None, consumers: Vec::new(), role: Some(role) })
    }

    /// Adds an operator whose parameters are named `{name}.{suffix}`.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn op(&mut self, name: &str, kind: OpKind, inputs: &[ValueId]) -> Result<ValueId, ModelError> {
        let names: Vec<String> = kind.params().iter().map(|p| format!("{name}.{}", p.suffix)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.op_with_params(name, kind, inputs, &names)
    }

    /// Adds an operator whose parameters have the given names; a name that is there already is shared (weight tying).
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn op_with_params(
        &mut self,
        name: &str,
        kind: OpKind,
        inputs: &[ValueId],
        params: &[&str],
    ) -> Result<ValueId, ModelError> {
        self.claim(name)?;
        let id = OpId::new(self.graph.ops.len());
        let mut types = Vec::with_capacity(inputs.len());
        for input in inputs {
            let value = self.graph.values.get(input.index());
            let unknown = || ModelError::UnknownValue { op: name.to_owned(), value: input.to_string() };
            types.push(&value.ok_or_else(unknown)?.ty);
        }
        let ty = kind.infer(name, &types)?;
        let specs = kind.params();
        if specs.len() != params.len() {
            let reason = format!("owns {} parameters, {} names were given", specs.len(), params.len());
            return Err(ModelError::Shape { op: name.to_owned(), reason });
        }
        let mut param_ids = Vec::with_capacity(specs.len());
        for (spec, param_name) in specs.into_iter().zip(params) {
            param_ids.push(self.param(id, param_name, spec.shape, spec.init)?);
        }
        let value = Value { name: name.to_owned(), ty, producer: Some(id), consumers: Vec::new(), role: None };
        let output = self.add_value(value)?;
        for input in inputs {
            self.graph.values[input.index()].consumers.push(id);
        }
        let op =
            Op { name: name.to_owned(), kind, inputs: inputs.to_vec(), output, params: param_ids, layer: self.layer };
        self.graph.ops.push(op);
        Ok(output)
    }

    fn param(&mut self, user: OpId, name: &str, shape: Vec<u64>, init: Init) -> Result<ParamId, ModelError> {
        if let Some(&id) = self.param_names.get(name) {
            let known = &mut self.graph.params[id.index()];
            if known.shape != shape {
                let first = known.shape.clone();
                return Err(ModelError::SharedParamShape { param: name.to_owned(), first, second: shape });
            }
            known.users.push(user);
            return Ok(id);
        }
        let elements = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        if !elements.is_some_and(|n| (1..1 << 50).contains(&n)) {
            return Err(ModelError::ImpossibleShape { name: name.to_owned(), shape: format!("{shape:?}") });
        }
        let id = ParamId::new(self.graph.params.len());
        self.graph.params.push(Param { name: name.to_owned(), shape, init, users: vec![user] });
        self.param_names.insert(name.to_owned(), id);
        Ok(id)
    }

    /// Type of a value added so far.
    pub fn type_of(&self, value: ValueId) -> &TensorType {
        &self.graph.value(value).ty
    }

    /// Declares an output.
    pub fn output(&mut self, value: ValueId) -> &mut Self {
        self.graph.outputs.push(value);
        self
    }

    /// Declares the scalar that training minimises; it is an output too.
    pub fn loss(&mut self, value: ValueId) -> &mut Self {
        self.graph.loss = Some(value);
        self.output(value)
    }

    /// Checks the whole and hands the graph out.
    ///
    /// # Errors
    /// [`ModelError::Empty`], [`ModelError::DeadValue`], [`ModelError::DeadInput`], or a loss that is not one number.
    pub fn build(&mut self) -> Result<ModelGraph, ModelError> {
        let graph = &self.graph;
        if graph.ops.is_empty() {
            return Err(ModelError::Empty { model: graph.name.clone() });
        }
        for (index, value) in graph.values.iter().enumerate() {
            if value.consumers.is_empty() && !graph.outputs.contains(&ValueId::new(index)) {
                let name = value.name.clone();
                return Err(match value.producer {
                    Some(_) => ModelError::DeadValue { op: name },
                    None => ModelError::DeadInput { input: name },
                });
            }
        }
        if let Some(loss) = graph.loss.map(|id| graph.value(id))
            && (loss.ty.batched || !loss.ty.dims.is_empty())
        {
            let reason = format!("the loss must be one number, got {}", loss.ty);
            return Err(ModelError::Shape { op: loss.name.clone(), reason });
        }
        Ok(graph.clone())
    }
}
