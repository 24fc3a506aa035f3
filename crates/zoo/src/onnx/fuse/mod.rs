//! Joins what exporters take apart: transposes, biases, activations, norms, gates and attention become one operator each.
//! The graph is built anew, node by node; what nothing reads any more is left out when it is finished.

mod activation;
mod attention;
mod heads;
mod mask;
mod norm;

use cutplane_graph::{Arithmetic, Gate, Learned, MatMul, OpKind, ScaleShift, Transpose};

use super::ir::{Body, Id, Ir, Node};

/// The graph with patterns joined, and where each node went.
pub(super) fn run(old: &Ir) -> Result<(Ir, Vec<Id>), String> {
    let mut joiner =
        Joiner { ir: Ir { params: old.params.clone(), ..Ir::default() }, curves: Vec::new(), uses: Vec::new() };
    let uses = uses(old);
    let mut places = Vec::with_capacity(old.nodes.len());
    for (id, node) in old.nodes.iter().enumerate() {
        let inputs = node.inputs.iter().map(|input| places[*input]).collect();
        let place = joiner.place(Node { inputs, ..node.clone() })?;
        joiner.uses.resize(joiner.ir.nodes.len(), 0);
        joiner.uses[place] = joiner.uses[place].max(uses[id]);
        places.push(place);
    }
    Ok((joiner.ir, places))
}

fn uses(ir: &Ir) -> Vec<usize> {
    let mut uses = vec![0; ir.nodes.len()];
    ir.nodes.iter().flat_map(|node| &node.inputs).for_each(|input| uses[*input] += 1);
    uses
}

/// The new graph as it grows.
struct Joiner {
    ir: Ir,
    /// For each node that is a function of one value, that value and the function at some points.
    curves: Vec<Option<activation::Curve>>,
    /// How many nodes of the file read each.
    uses: Vec<usize>,
}

impl Joiner {
    /// Adds a node, or what it amounts to.
    fn place(&mut self, node: Node) -> Result<Id, String> {
        self.ir.name.clone_from(&node.name);
        let Body::Op(kind) = &node.body else { return Ok(self.add(node)) };
        let placed = match (kind, &node.inputs[..]) {
            (OpKind::Transpose(kind), &[x]) => self.transposed(kind, x)?,
            (OpKind::ScaleShift(kind), &[x]) => self.scaled(kind, x)?,
            (OpKind::MatMul(MatMul { transpose_right: false }), &[a, b]) => self.product(a, b)?,
            (OpKind::Learned(kind), &[x]) => match self.biased(kind, x, &node.params) {
                Some(id) => Some(id),
                None => norm::join(&mut self.ir, kind, x, &node.params)?,
            },
            (OpKind::Reshape(reshape), &[x]) => match attention::join(&mut self.ir, &reshape.dims, x)? {
                Some(id) => Some(id),
                None => self.reshaped(&reshape.dims, x)?,
            },
            (OpKind::Binary(binary), &[a, b]) if binary.function == Arithmetic::Multiply => self.gated(a, b)?,
            _ => None,
        };
        match placed {
            Some(id) => Ok(self.settled(id)),
            None => Ok(self.add(node)),
        }
    }

    /// Follows the curve of a node that was added by a rule.
    fn settled(&mut self, id: Id) -> Id {
        while self.curves.len() < self.ir.nodes.len() {
            let next = self.curves.len();
            let curve = activation::curve(&self.ir, &self.curves, next);
            self.curves.push(curve);
        }
        id
    }

    fn add(&mut self, node: Node) -> Id {
        let id = self.ir.add(node);
        self.settled(id);
        self.as_activation(id).unwrap_or(id)
    }

    /// An activation in place of the operators that compute it.
    fn as_activation(&mut self, id: Id) -> Option<Id> {
        let curve = self.curves[id].as_ref()?;
        let (source, function) = (curve.source, curve.known()?);
        if self.ir.kind(id) == Some(&OpKind::Activation { function }) {
            return None;
        }
        self.ir.name.clone_from(&self.ir.nodes[id].name.clone());
        let joined = self.ir.op(OpKind::Activation { function }, &[source]).ok()?;
        Some(self.settled(joined))
    }

    /// Two changes of shape are one, or none.
    fn reshaped(&mut self, dims: &[u64], x: Id) -> Result<Option<Id>, String> {
        match self.ir.kind(x) {
            Some(OpKind::Reshape(_)) => self.ir.reshaped(self.ir.node(x).inputs[0], dims.to_vec()).map(Some),
            _ => Ok(None),
        }
    }

    /// Two transposes are one, or none.
    fn transposed(&mut self, kind: &Transpose, x: Id) -> Result<Option<Id>, String> {
        let Some(OpKind::Transpose(first)) = self.ir.kind(x) else { return Ok(None) };
        let axes: Vec<usize> = kind.axes.iter().map(|axis| first.axes[*axis]).collect();
        let source = self.ir.node(x).inputs[0];
        if axes.is_sorted() {
            return Ok(Some(source));
        }
        self.ir.op(OpKind::Transpose(Transpose { axes }), &[source]).map(Some)
    }

    /// A factor goes before a transpose, and factors are multiplied.
    fn scaled(&mut self, kind: &ScaleShift, x: Id) -> Result<Option<Id>, String> {
        let source = self.ir.node(x).inputs.first().copied();
        match (self.ir.kind(x).cloned(), source) {
            (Some(mover @ OpKind::Transpose(_)), Some(source)) => {
                let inner = match self.scaled(kind, source)? {
                    Some(id) => id,
                    None => self.ir.op(OpKind::ScaleShift(kind.clone()), &[source])?,
                };
                self.ir.op(mover, &[inner]).map(Some)
            }
            (Some(OpKind::ScaleShift(first)), Some(source)) if first.shift == 0.0 && kind.shift == 0.0 => {
                let scale = first.scale * kind.scale;
                self.ir.op(OpKind::ScaleShift(ScaleShift { scale, shift: 0.0 }), &[source]).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A product with a transposed right side.
    fn product(&mut self, a: Id, b: Id) -> Result<Option<Id>, String> {
        let Some(OpKind::Transpose(kind)) = self.ir.kind(b) else { return Ok(None) };
        let mut axes = kind.axes.clone();
        let source = self.ir.node(b).inputs[0];
        let [.., m, n] = &mut axes[..] else { return Ok(None) };
        std::mem::swap(m, n);
        // Only where the features come last without it: keys that were turned, not values whose heads were.
        if axes.last() != Some(&(axes.len() - 1)) {
            return Ok(None);
        }
        let right =
            if axes.is_sorted() { source } else { self.ir.op(OpKind::Transpose(Transpose { axes }), &[source])? };
        self.ir.op(OpKind::MatMul(MatMul { transpose_right: true }), &[a, right]).map(Some)
    }

    /// A bias that is added after a linear layer.
    fn biased(&mut self, kind: &Learned, x: Id, params: &[usize]) -> Option<Id> {
        let Some(OpKind::Linear { inputs, outputs, bias: false, layout, init_std }) = self.ir.kind(x).cloned() else {
            return None;
        };
        if kind.function != Arithmetic::Add || kind.dims != [outputs] || self.uses.get(x).is_none_or(|uses| *uses > 1) {
            return None;
        }
        let both = [&self.ir.node(x).params[..], params].concat();
        self.ir.name = self.ir.node(x).name.clone();
        let source = self.ir.node(x).inputs[0];
        self.ir.op_with(OpKind::Linear { inputs, outputs, bias: true, layout, init_std }, &[source], both).ok()
    }

    /// The gate of a gated MLP.
    fn gated(&mut self, a: Id, b: Id) -> Result<Option<Id>, String> {
        let activated = |id: Id| match self.ir.kind(id) {
            Some(OpKind::Activation { function }) if activation::gates(*function) => {
                Some((*function, self.ir.node(id).inputs[0]))
            }
            _ => None,
        };
        let (Some((function, gate)), other) = activated(a).map_or((activated(b), a), |found| (Some(found), b)) else {
            return Ok(None);
        };
        // A function of one value alone is an activation; a value of another shape is broadcast.
        if gate == other || self.ir.node(gate).ty != self.ir.node(other).ty {
            return Ok(None);
        }
        let same_source = self.curves[other].as_ref().is_some_and(|curve| curve.source == gate);
        if same_source {
            return Ok(None);
        }
        self.ir.op(OpKind::Gate(Gate { function, packed: false }), &[gate, other]).map(Some)
    }
}
