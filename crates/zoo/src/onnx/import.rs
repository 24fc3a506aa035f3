//! Walks the nodes of a file once, in their order, and hands each to its operator.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cutplane_graph::{Dtype, TensorType};

use super::OnnxOptions;
use super::constant::Constant;
use super::extent::{Extent, display, sample_dims};
use super::fold;
use super::inputs;
use super::ir::{Body, Ir, Value};
use super::names;
use super::node::NodeView;
use super::operators;
use super::proto::{Model, Node, Tensor, TensorData};

/// Most elements of an initializer that is taken for a constant.
const MAX_CONSTANT: u64 = 1 << 24;
/// Most numbers that all computed constants may have together.
const CONSTANT_BUDGET: usize = 1 << 27;

/// What a name of the file stands for.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// Left out.
    Absent,
    /// Known numbers.
    Constant(Constant),
    /// An initializer that is a parameter, unless its use shows otherwise.
    Weight(Weight),
    /// A value that the model computes.
    Value(Value),
    /// Where a value is not a number.
    NotANumber(Value),
    /// Rows of a table of weights, picked by known indices.
    Rows(Rows),
}

/// An initializer, seen through operators that move its numbers.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    pub(super) initializer: usize,
    /// The shape that it is seen in.
    pub(super) dims: Vec<Extent>,
    /// Whether it is seen as the transpose of a matrix.
    pub(super) transposed: bool,
}

/// Rows of a table, and the axes that were added or moved since.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) initializer: usize,
    /// Shape of the table.
    pub(super) table: [u64; 2],
    pub(super) indices: Constant,
    pub(super) dims: Vec<Extent>,
    /// Which axis runs over the columns of the table.
    pub(super) columns: usize,
    /// Added to it, and of its shape or broadcast to it.
    pub(super) mask: Option<Constant>,
}

/// A constant of the file, and its numbers as operators hold them.
type Held = (Rc<[f32]>, Arc<[f32]>);

/// The state of the walk.
pub(super) struct Importer<'a> {
    pub(super) model: &'a Model<'a>,
    pub(super) initializers: &'a [Tensor<'a>],
    pub(super) options: &'a OnnxOptions,
    /// The number of samples that the file was exported with, where it is fixed.
    pub(super) batch: Option<i64>,
    pub(super) env: HashMap<&'a str, Entry>,
    pub(super) ir: Ir,
    constants: HashMap<usize, Constant>,
    /// Numbers of constants by their address, as operators hold them.
    held: HashMap<usize, Held>,
    spent: usize,
}

/// A node that cannot be read.
#[derive(Debug)]
pub(super) struct NodeProblem {
    pub(super) node: String,
    pub(super) problem: String,
}

impl<'a> Importer<'a> {
    pub(super) fn new(model: &'a Model<'a>, options: &'a OnnxOptions) -> Self {
        let initializers = model.graph.as_ref().map_or(&[][..], |graph| &graph.initializers);
        let (batch, env, ir) = (None, HashMap::new(), Ir::default());
        Self { model, initializers, options, batch, env, ir, constants: HashMap::new(), held: HashMap::new(), spent: 0 }
    }

    /// Reads inputs, initializers and nodes.
    pub(super) fn walk(&mut self) -> Result<(), NodeProblem> {
        let Some(graph) = &self.model.graph else { return Err(problem("(file)", "holds no graph".to_owned())) };
        for (index, tensor) in graph.initializers.iter().enumerate() {
            let dims: Vec<Extent> = tensor.dims.iter().map(|dim| Extent::known(*dim as i64)).collect();
            if tensor.elements().is_none() {
                return Err(problem(tensor.name, format!("has the impossible shape {}", display(&dims))));
            }
            self.env.insert(tensor.name, Entry::Weight(Weight { initializer: index, dims, transposed: false }));
        }
        inputs::declare(self, graph).map_err(|(input, text)| problem(input, text))?;
        for (index, node) in graph.nodes.iter().enumerate() {
            self.node(index, node).map_err(|text| NodeProblem { node: names::of_node(node, index), problem: text })?;
        }
        Ok(())
    }

    fn node(&mut self, index: usize, node: &'a Node<'a>) -> Result<(), String> {
        let view = NodeView { node, opset: self.model.opset };
        let inputs = node.inputs.iter().map(|name| self.entry(name)).collect::<Result<Vec<_>, _>>()?;
        self.ir.name = self.module(index, node, &inputs);
        let outputs = match self.folded(&view, &inputs) {
            Some(constants) => constants?.into_iter().map(Entry::Constant).collect(),
            None => operators::lower(self, &view, &inputs)?,
        };
        for (name, entry) in node.outputs.iter().zip(outputs).filter(|(name, _)| !name.is_empty()) {
            if self.env.insert(name, entry).is_some() {
                return Err(format!("writes '{name}', which is written before: names must differ"));
            }
        }
        Ok(())
    }

    /// The module of a node; one that is written in none stands in that of its first input.
    fn module(&self, index: usize, node: &Node<'_>, inputs: &[Entry]) -> String {
        let first = inputs.iter().find_map(|entry| match entry {
            Entry::Value(value) => Some(self.ir.node(value.id)).filter(|node| matches!(node.body, Body::Op(_))),
            _ => None,
        });
        let own = || format!("{}_{index}", names::shortened(node.op_type).to_lowercase());
        names::module(node).or_else(|| first.map(|node| node.name.clone())).unwrap_or_else(own)
    }

    fn entry(&self, name: &str) -> Result<Entry, String> {
        if name.is_empty() {
            return Ok(Entry::Absent);
        }
        let missing = || {
            format!(
                "reads '{name}', which no input, initializer or earlier node gives: the nodes are not in order, or in a circle"
            )
        };
        self.env.get(name).cloned().ok_or_else(missing)
    }

    /// The outputs of a node whose inputs are all known.
    fn folded(&mut self, view: &NodeView<'_>, inputs: &[Entry]) -> Option<Result<Vec<Constant>, String>> {
        let domain = view.node.domain;
        if inputs.is_empty() || !matches!(domain, "" | "ai.onnx") {
            return None;
        }
        // A view of a weight stays one, whatever it turns out to be used for.
        let views = ["Transpose", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Dropout"];
        if let (Some(Entry::Weight(weight)), true) = (inputs.first(), views.contains(&view.op()))
            && is_float(self.initializers[weight.initializer].element)
        {
            return None;
        }
        let mut constants = Vec::with_capacity(inputs.len());
        for entry in inputs {
            constants.push(match entry {
                Entry::Absent => None,
                Entry::Constant(constant) => Some(constant.clone()),
                Entry::Weight(weight) if !self.is_learned(weight) => match self.constant(entry) {
                    Ok(constant) => Some(constant),
                    Err(problem) => return Some(Err(problem)),
                },
                _ => return None,
            });
        }
        if constants.iter().all(Option::is_none) {
            return None;
        }
        let result = fold::compute(view, &constants)?;
        Some(result.and_then(|list| self.charged(list)))
    }

    /// Counts what folding has made, so that a small file cannot ask for endless work.
    fn charged(&mut self, list: Vec<Constant>) -> Result<Vec<Constant>, String> {
        self.charge(list.iter().map(|constant| constant.len().max(1)).sum())?;
        Ok(list)
    }

    /// Counts numbers that are held.
    pub(super) fn charge(&mut self, count: usize) -> Result<(), String> {
        self.spent += count;
        if self.spent > CONSTANT_BUDGET {
            return Err(format!("the constants of the graph come to more than {CONSTANT_BUDGET} numbers"));
        }
        Ok(())
    }

    /// The numbers of a constant as an operator holds them, finite; a constant that many operators share is held once.
    pub(super) fn held(&mut self, numbers: &Rc<[f32]>) -> Result<Arc<[f32]>, String> {
        let key = numbers.as_ptr().addr();
        if let Some((_, held)) = self.held.get(&key) {
            return Ok(Arc::clone(held));
        }
        if numbers.iter().any(|number| number.is_nan()) {
            return Err("a constant that is not a number".to_owned());
        }
        self.charge(numbers.len())?;
        let finite: Arc<[f32]> = numbers.iter().map(|number| number.clamp(f32::MIN, f32::MAX)).collect();
        // The key is an address, so what lies there must stay.
        self.held.insert(key, (Rc::clone(numbers), Arc::clone(&finite)));
        Ok(finite)
    }

    /// Whether an initializer is a parameter even where it is only added or multiplied.
    pub(super) fn is_learned(&self, weight: &Weight) -> bool {
        let tensor = &self.initializers[weight.initializer];
        is_float(tensor.element) && !weight.dims.is_empty() && !names::is_buffer(tensor.name)
    }

    /// The numbers of a constant, or of an initializer that is used as one.
    pub(super) fn constant(&mut self, entry: &Entry) -> Result<Constant, String> {
        match entry {
            Entry::Constant(constant) => Ok(constant.clone()),
            Entry::Weight(weight) => {
                let constant = self.initializer(weight.initializer)?;
                if weight.transposed {
                    return Err("a transposed weight is used as a constant".to_owned());
                }
                constant.with_dims(weight.dims.clone())
            }
            _ => Err("a number that depends on the data is used where it must be known".to_owned()),
        }
    }

    fn initializer(&mut self, index: usize) -> Result<Constant, String> {
        if let Some(known) = self.constants.get(&index) {
            return Ok(known.clone());
        }
        let tensor = &self.initializers[index];
        if tensor.elements().is_none_or(|count| count > MAX_CONSTANT) {
            return Err(format!("the initializer '{}' is used as a constant, and is too large for one", tensor.name));
        }
        let folder = self.options.folder.as_deref();
        let read = || match &tensor.data {
            TensorData::External { location, offset, length } => {
                super::file::read_external(folder, location, *offset, *length)
            }
            _ => Ok(Vec::new()),
        };
        let constant = Constant::of(tensor, read)?;
        self.constants.insert(index, constant.clone());
        Ok(constant)
    }

    /// The shape of whatever a name stands for.
    pub(super) fn dims(entry: &Entry) -> Result<&[Extent], String> {
        match entry {
            Entry::Absent => Err("an input is left out".to_owned()),
            Entry::Constant(constant) => Ok(&constant.dims),
            Entry::Weight(weight) => Ok(&weight.dims),
            Entry::Value(value) | Entry::NotANumber(value) => Ok(&value.dims),
            Entry::Rows(rows) => Ok(&rows.dims),
        }
    }
}

fn problem(place: &str, text: String) -> NodeProblem {
    NodeProblem { node: place.to_owned(), problem: text }
}

/// Whether an ONNX element type is a floating-point one.
pub(super) const fn is_float(element: i64) -> bool {
    matches!(element, 1 | 10 | 11 | 16)
}

/// The type of a value of shape `dims`.
pub(super) fn type_of(dims: &[Extent], dtype: Dtype) -> TensorType {
    TensorType { batched: dims.iter().any(|extent| extent.per_sample), dims: sample_dims(dims), dtype }
}
