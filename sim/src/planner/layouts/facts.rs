//! What a model allows: which degrees divide its heads, layers and sequences.

use cutplane_graph::OpKind;

use crate::estimate::{FoldedModel, Operator, Split};

/// Largest number of ranks that share a sequence.
pub(super) const MOST_CONTEXT: u64 = 64;

/// What decides which degrees a model can be cut by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    /// Repeated layers.
    pub(super) layers: u64,
    /// Tensor-parallel degrees, ascending, up to the number of devices.
    pub(super) tensor: Vec<u64>,
    /// Context-parallel degrees, ascending.
    pub(super) context: Vec<u64>,
    /// Expert-parallel degrees, ascending.
    pub(super) expert: Vec<u64>,
}

impl Facts {
    pub(super) fn of(model: &FoldedModel, devices: u64) -> Self {
        let operators: Vec<&Operator> = model.blocks.iter().flat_map(|block| &block.operators).collect();
        let up_to = |most: u64| 1..=most.min(devices).max(1);
        let length = model.sequence_length;
        let cuts_context = operators.iter().any(|operator| matches!(operator.kind, OpKind::Attention(_)));
        let most_context = if cuts_context { MOST_CONTEXT } else { 1 };
        // Two chunks a rank, one from either end, keep causal attention balanced.
        let divides_sequence = |cp: &u64| *cp == 1 || length.is_multiple_of(2 * cp);
        let experts = operators.iter().filter_map(|operator| experts(operator)).reduce(gcd).unwrap_or(1);
        Self {
            layers: model.layers(),
            tensor: up_to(most_tensor(&operators))
                .filter(|tp| operators.iter().all(|operator| can_cut(operator, *tp)))
                .collect(),
            context: up_to(most_context).filter(divides_sequence).collect(),
            expert: divisors(experts).into_iter().filter(|ep| *ep <= devices).collect(),
        }
    }
}

fn experts(operator: &Operator) -> Option<u64> {
    match &operator.kind {
        OpKind::ExpertLinear(expert) => Some(expert.routing.experts),
        _ => None,
    }
}

/// Heads bound the tensor-parallel degree; a model without cut products has none.
fn most_tensor(operators: &[&Operator]) -> u64 {
    let heads = operators.iter().filter_map(|operator| match &operator.kind {
        OpKind::Attention(attention) => Some(attention.heads),
        _ => None,
    });
    let cuts = operators.iter().any(|operator| operator.split == Split::Rows);
    if cuts { heads.reduce(gcd).unwrap_or(1) } else { 1 }
}

/// Whether `tp` ranks get equal shares. Heads of keys and values are repeated where there are fewer than ranks; tables and
/// heads over a vocabulary are padded.
fn can_cut(operator: &Operator, tp: u64) -> bool {
    let (inputs, outputs) = match &operator.kind {
        OpKind::Attention(attention) => {
            let keys = attention.kv_heads();
            return attention.heads.is_multiple_of(tp) && (keys.is_multiple_of(tp) || tp.is_multiple_of(keys));
        }
        OpKind::Linear { inputs, outputs, .. } => (*inputs, *outputs),
        OpKind::ExpertLinear(expert) => (expert.inputs, expert.outputs),
        _ => return true,
    };
    match operator.split {
        Split::Rows => inputs.is_multiple_of(tp),
        // Odd widths are vocabularies, which are padded.
        Split::Columns { .. } => outputs.is_multiple_of(tp) || outputs > 4 * inputs,
        _ => true,
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Divisors, ascending.
pub(super) fn divisors(of: u64) -> Vec<u64> {
    let small: Vec<u64> = (1..=of.isqrt()).filter(|low| of.is_multiple_of(*low)).collect();
    let large = small.iter().rev().map(|low| of / low).filter(|high| high * high != of);
    small.iter().copied().chain(large).collect()
}

#[cfg(test)]
mod tests {
    use super::divisors;

    #[test]
    fn divisors_ascend_and_squares_stand_once() {
        assert_eq!(divisors(12), [1, 2, 3, 4, 6, 12]);
        assert_eq!(divisors(16), [1, 2, 4, 8, 16]);
        assert_eq!(divisors(1), [1]);
    }
}
