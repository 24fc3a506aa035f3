//! From joined nodes to a [`ModelGraph`]: what reaches an output, under names that differ.

use std::collections::HashMap;

use cutplane_graph::{InputRole, ModelError, ModelGraph, ModelGraphBuilder, OpKind, ValueId};

use super::ir::{Body, Id, Ir};
use super::names;
use super::proto::Tensor;

/// Why a finished graph cannot be handed out.
pub(super) enum Refusal {
    /// A node that is part of a pattern was left over.
    Leftover { node: String, problem: &'static str },
    /// The graph as a whole.
    Model(ModelError),
}

impl From<ModelError> for Refusal {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

/// A graph, and which parameter of [`Ir::params`] each of its parameters is.
pub(super) type Emitted = (ModelGraph, Vec<usize>);

/// Builds the graph of the nodes that `outputs` need; the last of `outputs` may be a loss.
pub(super) fn graph(name: &str, ir: &Ir, initializers: &[Tensor<'_>], outputs: &[Id]) -> Result<Emitted, Refusal> {
    let mut emitter = Emitter {
        ir,
        initializers,
        builder: ModelGraphBuilder::new(name),
        taken: HashMap::new(),
        layers: HashMap::new(),
        names: HashMap::new(),
        values: HashMap::new(),
        origins: HashMap::new(),
    };
    for id in needed(ir, outputs) {
        let value = emitter.node(id)?;
        emitter.values.insert(id, value);
    }
    for output in outputs {
        let value = emitter.values[output];
        let is_loss = ir.kind(*output).is_some_and(OpKind::is_loss);
        if is_loss {
            emitter.builder.loss(value)
        } else {
            emitter.builder.output(value)
        };
    }
    let graph = emitter.builder.build()?;
    let origin = |param: &cutplane_graph::Param| emitter.origins[&param.name];
    let origins = graph.params().iter().map(origin).collect();
    Ok((graph, origins))
}

/// Nodes that outputs need, in order.
fn needed(ir: &Ir, outputs: &[Id]) -> Vec<Id> {
    let mut wanted = vec![false; ir.nodes.len()];
    for output in outputs {
        wanted[*output] = true;
    }
    for id in (0..ir.nodes.len()).rev() {
        if wanted[id] {
            for input in &ir.node(id).inputs {
                wanted[*input] = true;
            }
        }
    }
    (0..ir.nodes.len()).filter(|id| wanted[*id]).collect()
}

struct Emitter<'a> {
    ir: &'a Ir,
    initializers: &'a [Tensor<'a>],
    builder: ModelGraphBuilder,
    /// How often each name was asked for.
    taken: HashMap<String, u32>,
    /// Numbers of the repeated layers met so far.
    layers: HashMap<String, u32>,
    /// Names of whole initializers that are parameters.
    names: HashMap<usize, String>,
    values: HashMap<Id, ValueId>,
    origins: HashMap<String, usize>,
}

impl Emitter<'_> {
    fn node(&mut self, id: Id) -> Result<ValueId, Refusal> {
        let node = self.ir.node(id);
        let leftover = |problem| Refusal::Leftover { node: node.name.clone(), problem };
        let kind = match &node.body {
            Body::Input(role) => return self.input(&node.name, *role, id),
            Body::ScoreBias(_) => {
                return Err(leftover("adds a learned bias to scores, in an attention of no known form"));
            }
            Body::Rotated(_) => return Err(leftover("rotates by tables that no known form of rotary positions gives")),
            Body::Op(kind) => kind,
        };
        let name = self.op_name(&node.name, kind, node.params.is_empty());
        self.layer(&node.name);
        let params: Vec<String> = node
            .params
            .iter()
            .zip(kind.params())
            .map(|(param, spec)| self.param(*param, &name, &spec.suffix))
            .collect();
        let params: Vec<&str> = params.iter().map(String::as_str).collect();
        let inputs: Vec<ValueId> = node.inputs.iter().map(|input| self.values[input]).collect();
        Ok(self.builder.op_with_params(&name, kind.clone(), &inputs, &params)?)
    }

    fn input(&mut self, name: &str, role: InputRole, id: Id) -> Result<ValueId, Refusal> {
        let name = self.free(name);
        Ok(self.builder.input(&name, role, self.ir.node(id).ty.clone())?)
    }

    /// A module is called by its path; an operator inside of one by its kind as well.
    fn op_name(&mut self, module: &str, kind: &OpKind, bare: bool) -> String {
        let label = kind.label().replace(' ', "_");
        if bare && !kind.is_loss() { self.free(&format!("{module}.{label}")) } else { self.free(module) }
    }

    /// The name, or the first one with a number that nothing has: counting on from the last, so that many nodes of one
    /// name do not cost their square.
    fn free(&mut self, name: &str) -> String {
        let name = if name.is_empty() { "unnamed" } else { name };
        loop {
            let count = self.taken.entry(name.to_owned()).or_insert(0);
            *count += 1;
            let free = if *count == 1 { name.to_owned() } else { format!("{name}.{count}") };
            if free == name || !self.taken.contains_key(&free) {
                self.taken.entry(free.clone()).or_insert(1);
                return free;
            }
        }
    }

    fn layer(&mut self, path: &str) {
        let next = self.layers.len() as u32;
        let layer =
            names::layer(path).map(|(before, number)| *self.layers.entry(format!("{before}.{number}")).or_insert(next));
        self.builder.layer(layer);
    }

    /// A whole initializer keeps its name, and its users share it; a part, or one whose name was made up, is called by
    /// the operator that has it.
    fn param(&mut self, param: usize, op: &str, suffix: &str) -> String {
        let Some(own) = self.ir.params.get(param) else { return String::new() };
        if own.rows.is_empty()
            && let Some(name) = self.names.get(&own.initializer)
        {
            return name.clone();
        }
        let given = self.initializers[own.initializer].name;
        let made = own.rows.is_empty() && !names::is_made_up(given);
        let mut name = if made { given.to_owned() } else { format!("{op}.{suffix}") };
        while self.origins.contains_key(&name) {
            name.push('_');
        }
        if own.rows.is_empty() {
            self.names.insert(own.initializer, name.clone());
        }
        self.origins.insert(name.clone(), param);
        name
    }
}
