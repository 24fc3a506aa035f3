//! Operators whose time is their traffic.

use cutplane_graph::OpKind;

use super::super::model::Operator;
use super::super::stack::Trait;
use super::super::work::Passes;
use super::Pricer;

/// Bytes of a mask element that dropout keeps.
const MASK: f64 = 1.0;

impl Pricer<'_> {
    /// Reads and writes of an operator bound by memory, in elements of its output or of its inputs.
    pub(super) fn traffic_of(&self, operator: &Operator) -> Passes {
        let (out, read) = (self.elements(operator), self.input_elements(operator));
        let mask = MASK / self.stored();
        match &operator.kind {
            // Mean and variance stay on chip; backward reads the input and both gradients, then once more for the weights.
            OpKind::LayerNorm { .. } | OpKind::RmsNorm(_) => self.pointwise(out, 2.0, 5.0, (1.0, 2.0)),
            // Statistics over the batch want the input twice, their gradients both tensors twice.
            OpKind::BatchNorm(_) | OpKind::GroupNorm(_) => self.pointwise(out, 3.0, 5.0, (1.0, 1.0)),
            OpKind::Activation { .. } | OpKind::Softmax(_) => self.pointwise(out, 2.0, 3.0, (1.0, 1.0)),
            OpKind::Gate(_) => self.gate(out),
            OpKind::Add => self.residual(out),
            OpKind::Dropout(_) => self.pointwise(out, 2.0 + mask, 2.0 + mask, (1.0, 1.0)),
            OpKind::Binary(_) => self.pointwise(out, 3.0, 3.0, (1.0, 1.0)),
            // Copied forward, and the gradient summed over positions.
            OpKind::Learned(_) | OpKind::PositionEmbedding { .. } => self.pointwise(out, 2.0, 1.0, (1.0, 1.0)),
            OpKind::Reshape(_) => Passes::default(),
            _ => self.pointwise(out + read, 1.0, 1.0, (1.0, 1.0)),
        }
    }

    /// Gate times value; without fusion the function is a kernel of its own.
    fn gate(&self, elements: f64) -> Passes {
        if self.stack.has(Trait::FusedPointwise) {
            self.pointwise(elements, 3.0, 5.0, (1.0, 1.0))
        } else {
            self.pointwise(elements, 5.0, 8.0, (2.0, 3.0))
        }
    }

    /// Adds the residual, with the dropout of the branch where there is one; backward the gradients of the branches meet.
    fn residual(&self, elements: f64) -> Passes {
        let mask = MASK / self.stored();
        match (self.stack.has(Trait::Dropout), self.stack.has(Trait::FusedPointwise)) {
            (true, true) => self.pointwise(elements, 3.0 + mask, 5.0 + mask, (1.0, 2.0)),
            (true, false) => self.pointwise(elements, 5.0 + mask, 5.0 + mask, (2.0, 2.0)),
            (false, _) => self.pointwise(elements, 3.0, 3.0, (1.0, 1.0)),
        }
    }
}
