//! What this runtime executes; everything else is refused when a segment is made, before anything is put on a device.

use cutplane_graph::{ActivationKind, ModelGraph, Op, OpKind};

use crate::error::RuntimeError;

/// Refuses an operator that cannot be executed, by its name and kind.
pub(crate) fn check(model: &ModelGraph, op: &Op) -> Result<(), RuntimeError> {
    let problem = match &op.kind {
        OpKind::Embedding { .. }
        | OpKind::PositionEmbedding { .. }
        | OpKind::LayerNorm { .. }
        | OpKind::Linear { .. }
        | OpKind::Add
        | OpKind::SelectToken { .. }
        | OpKind::CrossEntropy { .. } => return Ok(()),
        OpKind::Activation { function } if is_executed(*function) => return Ok(()),
        OpKind::Activation { function } => format!("the activation '{}'", function.name()),
        OpKind::Attention(kind) if kind.is_plain() && inputs_are_alike(model, op) => return Ok(()),
        OpKind::Attention(_) => "an attention other than plain self-attention over absolute positions".to_owned(),
        kind => format!("the operator '{}' with these attributes", kind.label()),
    };
    let problem = format!("this runtime does not execute {problem}; the model can be planned and simulated");
    Err(RuntimeError::Value { value: op.name.clone(), problem })
}

fn is_executed(function: ActivationKind) -> bool {
    use ActivationKind::{Gelu, GeluTanh, Relu, Tanh};
    matches!(function, Gelu | GeluTanh | Relu | Tanh)
}

fn inputs_are_alike(model: &ModelGraph, op: &Op) -> bool {
    op.inputs.windows(2).all(|pair| model.value(pair[0]).ty == model.value(pair[1]).ty)
}
