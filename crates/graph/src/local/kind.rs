//! What an operator becomes on one rank of a tensor axis.

use crate::model::{ModelGraph, Op};
use crate::op::{Attention, AttentionInput, Combine, Dispatch, ExpertLinear, OpKind, PositionScheme, Routing};
use crate::sharding::Split;

/// The operator that one of `ranks` ranks computes; `None` where this split of it is not executed.
pub(super) fn local_kind(kind: &OpKind, split: Split, ranks: u64) -> Option<OpKind> {
    match (kind, split) {
        (&OpKind::Linear { inputs, outputs, bias, layout, init_std }, Split::Column) => {
            Some(OpKind::Linear { inputs, outputs: outputs / ranks, bias, layout, init_std })
        }
        (&OpKind::Linear { inputs, outputs, layout, init_std, .. }, Split::Row) => {
            Some(OpKind::Linear { inputs: inputs / ranks, outputs, bias: false, layout, init_std })
        }
        (&OpKind::Embedding { vocab, dim, init_std }, Split::Vocabulary) => {
            Some(OpKind::Embedding { vocab: vocab / ranks, dim, init_std })
        }
        (&OpKind::CrossEntropy { classes, counted }, Split::Vocabulary) => {
            Some(OpKind::CrossEntropy { classes: classes / ranks, counted })
        }
        (OpKind::Attention(kind), Split::Heads) => heads(kind, ranks).map(OpKind::Attention),
        (OpKind::ExpertLinear(kind), Split::Column) => {
            Some(OpKind::ExpertLinear(ExpertLinear { outputs: kind.outputs / ranks, ..kind.clone() }))
        }
        (OpKind::ExpertLinear(kind), Split::Row) => {
            Some(OpKind::ExpertLinear(ExpertLinear { inputs: kind.inputs / ranks, ..kind.clone() }))
        }
        (OpKind::Dispatch(kind), Split::Expert) => {
            Some(OpKind::Dispatch(Dispatch { routing: dealt(kind.routing, ranks) }))
        }
        (OpKind::Combine(kind), Split::Expert) => {
            Some(OpKind::Combine(Combine { routing: dealt(kind.routing, ranks) }))
        }
        (OpKind::ExpertLinear(kind), Split::Expert) => {
            Some(OpKind::ExpertLinear(ExpertLinear { routing: dealt(kind.routing, ranks), ..kind.clone() }))
        }
        (OpKind::Activation { .. } | OpKind::Gate(_) | OpKind::ScaleShift(_), Split::Width | Split::Sequence)
        | (
            OpKind::Linear { .. }
            | OpKind::Add
            | OpKind::LayerNorm { .. }
            | OpKind::RmsNorm(_)
            | OpKind::Learned(_)
            | OpKind::Router(_),
            Split::Sequence,
        ) => Some(kind.clone()),
        // A mask is drawn from the place of an element in the whole tensor, which a slice does not know.
        (OpKind::Dropout(dropout), Split::Width | Split::Sequence) => {
            (dropout.probability == 0.0).then(|| kind.clone())
        }
        _ => None,
    }
}

fn dealt(routing: Routing, ranks: u64) -> Routing {
    Routing { dealt: Some(ranks), ..routing }
}

/// Heads of queries and the groups of keys and values that they share. Biases that depend on the number of a head stay whole.
fn heads(kind: &Attention, ranks: u64) -> Option<Attention> {
    let alone = matches!(kind.position, PositionScheme::None | PositionScheme::Rotary(_));
    let divides = kind.heads.is_multiple_of(ranks) && kind.kv_heads().is_multiple_of(ranks);
    let scale = Some(kind.scale());
    let local = || Attention {
        heads: kind.heads / ranks,
        kv_heads: kind.kv_heads.map(|groups| groups / ranks),
        scale: if kind.scale.is_some() { scale } else { None },
        ..kind.clone()
    };
    (alone && divides).then(local)
}

/// Extents of the parts that input `input` of an operator is packed of; none for one part.
pub(super) fn packing(model: &ModelGraph, op: &Op, input: usize) -> Vec<u64> {
    match &op.kind {
        OpKind::Attention(kind) if kind.input == AttentionInput::Packed => {
            let (queries, keys) = (kind.heads * kind.head_dim, kind.kv_heads() * kind.head_dim);
            vec![queries, keys, keys]
        }
        OpKind::Gate(kind) if kind.packed => {
            let half = model.value(op.inputs[input]).ty.last() / 2;
            vec![half, half]
        }
        _ => Vec::new(),
    }
}
