//! Which operators a stack merges into the kernels before them.

use cutplane_graph::{ModelGraph, Op, OpKind, ValueId};

use super::stack::{Fuses, GraphStack};

/// What is left of an operator once its kernel is merged into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fusion {
    /// A kernel of its own.
    Own,
    /// Only what it reads or writes beside the value that flows through it.
    Merged,
}

/// Whether an operator runs inside the kernel that wrote its first input.
pub(super) fn fusion(graph: &ModelGraph, op: &Op, stack: &GraphStack) -> Fusion {
    let merged = match op.kind {
        OpKind::Activation { .. } | OpKind::Add => {
            stack.fuses == Fuses::Pointwise
                || stack.fuses == Fuses::Norms && op.inputs.iter().any(|input| from_norm(graph, *input))
        }
        OpKind::ScaleShift(_) | OpKind::Binary(_) | OpKind::Dropout(_) | OpKind::Gate(_) | OpKind::Learned(_) => {
            stack.fuses == Fuses::Pointwise
        }
        _ => false,
    };
    if merged { Fusion::Merged } else { Fusion::Own }
}

/// Whether a value comes from a batch norm, directly or through a residual addition.
fn from_norm(graph: &ModelGraph, value: ValueId) -> bool {
    let producer = graph.value(value).producer.map(|id| graph.op(id));
    producer.is_some_and(|op| match op.kind {
        OpKind::BatchNorm(_) => true,
        OpKind::Add => op.inputs.iter().any(|input| {
            let producer = graph.value(*input).producer.map(|id| graph.op(id));
            producer.is_some_and(|op| matches!(op.kind, OpKind::BatchNorm(_)))
        }),
        _ => false,
    })
}
