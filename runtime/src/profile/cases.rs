//! What is measured: one-operator models over grids of extents.

use cutplane_graph::{
    ActivationKind, AttentionInput, Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder, OpId, OpKind,
    ProfileKey, TensorType, WeightLayout,
};

/// One point of one curve: a model of one operator, and a micro-batch size.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) model: ModelGraph,
    pub(crate) batch: u64,
    pub(crate) key: ProfileKey,
}

impl Case {
    /// The operator on a micro-batch of `batch` samples with inputs of the extents `dims`.
    pub(crate) fn new(kind: OpKind, batch: u64, dims: &[u64]) -> Result<Self, ModelError> {
        let mut b = ModelGraphBuilder::new("profile");
        let mut inputs = Vec::new();
        for index in 0..kind.arity() {
            let (role, ty) = match (&kind, index) {
                (OpKind::Embedding { .. }, _) => (InputRole::Tokens, TensorType::batched(dims, Dtype::I32)),
                (OpKind::CrossEntropy { .. }, 1) => {
                    (InputRole::NextTokens, TensorType::batched(&dims[..dims.len() - 1], Dtype::I32))
                }
                _ => (InputRole::Features, TensorType::batched(dims, Dtype::F32)),
            };
            inputs.push(b.input(&format!("input {index}"), role, ty)?);
        }
        let output = b.op("op", kind, &inputs)?;
        let model = b.output(output).build()?;
        let key = model.profile_key(OpId::new(0), batch);
        Ok(Self { model, batch, key })
    }
}

/// Tokens a sample; rows are samples times tokens.
const TOKENS: u64 = 64;
/// Rows at which matrix products reach their rate, and above.
const ROWS: [u64; 3] = [64, 256, 1024];
/// Widths of linear layers; between and beyond them the rate is interpolated.
const LINEAR_WIDTHS: [u64; 6] = [64, 128, 256, 384, 768, 1536];
/// Widths of the residual stream.
const WIDTHS: [u64; 3] = [64, 384, 1024];

/// All cases of a profile.
pub(crate) fn all() -> Result<Vec<Case>, ModelError> {
    let mut cases = Vec::new();
    linear(&mut cases)?;
    attention(&mut cases)?;
    rows_and_widths(&mut cases)?;
    pointwise(&mut cases)?;
    Ok(cases)
}

fn linear(cases: &mut Vec<Case>) -> Result<(), ModelError> {
    for layout in [WeightLayout::InOut, WeightLayout::OutIn] {
        for (rows, (inputs, outputs)) in product(&ROWS, &product(&LINEAR_WIDTHS, &LINEAR_WIDTHS)) {
            cases.push(Case::new(linear_kind(inputs, outputs, layout), rows / TOKENS, &[TOKENS, inputs])?);
        }
    }
    Ok(())
}

/// A linear layer as the models have it: with bias, but for the tied output layer.
pub(crate) fn linear_kind(inputs: u64, outputs: u64, layout: WeightLayout) -> OpKind {
    OpKind::Linear { inputs, outputs, bias: layout == WeightLayout::InOut, layout, init_std: 0.02 }
}

fn attention(cases: &mut Vec<Case>) -> Result<(), ModelError> {
    let heads = 4;
    for (causal, input) in product(&[true, false], &[AttentionInput::Packed, AttentionInput::Separate]) {
        for (head_dim, (samples, s)) in product(&[16, 64], &product(&[2, 6, 24], &[32, 128, 256])) {
            let parts = if input == AttentionInput::Packed { 3 } else { 1 };
            let kind = OpKind::Attention { heads, head_dim, causal, input };
            cases.push(Case::new(kind, samples, &[s, parts * heads * head_dim])?);
        }
    }
    Ok(())
}

fn rows_and_widths(cases: &mut Vec<Case>) -> Result<(), ModelError> {
    for rows in ROWS.into_iter().chain([4096]) {
        let batch = rows / TOKENS;
        for dim in WIDTHS {
            let position = OpKind::PositionEmbedding { positions: TOKENS, dim, init_std: 0.02 };
            cases.push(Case::new(position, batch, &[TOKENS, dim])?);
            cases.push(Case::new(OpKind::LayerNorm { dim, eps: 1e-5 }, batch, &[TOKENS, dim])?);
            for vocab in [2, 256, 8192] {
                cases.push(Case::new(OpKind::Embedding { vocab, dim, init_std: 0.02 }, batch, &[TOKENS])?);
            }
        }
    }
    for (rows, classes) in product(&ROWS, &[256, 2048, 16384]) {
        let kind = OpKind::CrossEntropy { classes, counted: TOKENS };
        cases.push(Case::new(kind, rows / TOKENS, &[TOKENS, classes])?);
    }
    Ok(())
}

fn pointwise(cases: &mut Vec<Case>) -> Result<(), ModelError> {
    let functions = [ActivationKind::Gelu, ActivationKind::GeluTanh, ActivationKind::Relu, ActivationKind::Tanh];
    for elements in [1 << 12, 1 << 15, 1 << 17, 1 << 19, 1 << 21, 1 << 23] {
        for function in functions {
            cases.push(Case::new(OpKind::Activation { function }, elements / 1024, &[4, 256])?);
        }
        cases.push(Case::new(OpKind::Add, elements / 1024, &[4, 256])?);
        cases.push(Case::new(OpKind::SelectToken { index: 0 }, elements / 4096, &[16, 256])?);
    }
    Ok(())
}

/// All pairs, the left one outermost.
fn product<A: Copy, B: Copy>(left: &[A], right: &[B]) -> Vec<(A, B)> {
    left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::all;

    #[test]
    fn every_curve_is_a_full_grid_of_different_points() {
        let mut curves: BTreeMap<&str, BTreeSet<Vec<u64>>> = BTreeMap::new();
        for case in all().expect("the cases are well formed") {
            let curve = curves.entry(case.key.operator).or_default();
            assert!(curve.insert(case.key.axes.clone()), "{} {:?} twice", case.key.operator, case.key.axes);
        }
        for (name, points) in &curves {
            let axes = points.first().expect("not empty").len();
            let values = |axis: usize| points.iter().map(|point| point[axis]).collect::<BTreeSet<u64>>().len();
            assert_eq!((0..axes).map(values).product::<usize>(), points.len(), "{name} has a hole");
        }
        assert_eq!(curves.len(), 16, "{:?}", curves.keys());
    }
}
