//! Cases of the operators that only some families have, at the ends of their grids: a curve has two or three extents an axis.

use cutplane_graph::{
    ActivationKind, AdditiveAttention, Attention, AttentionInput, BatchNorm, Cell, Combine, Concat, Convolution,
    Dispatch, Dropout, Dtype, ExpertLinear, Gate, Gather, GroupNorm, MatMul, MeanSquaredError, ModelError, OpKind,
    Pool, PoolKind, Recurrent, Reduce, Reduction, Reshape, RmsNorm, Router, Routing, ScaleShift, Softmax, TensorType,
    Transpose, Window,
};

use super::cases::{Case, Grids, TOKENS, product};

/// Cases of one family.
type Family = fn(&mut Vec<Case>, &Grids) -> Result<(), ModelError>;

pub(super) fn add(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    let families: [Family; 8] =
        [activations, elementwise, by_rows, channel_norms, attention, recurrent, convolution, products];
    families.into_iter().try_for_each(|family| family(cases, grids))
}

fn floats(dims: &[u64]) -> TensorType {
    TensorType::batched(dims, Dtype::F32)
}

/// All but those of GPT and BERT.
fn activations(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    use ActivationKind as A;
    let bounded =
        [A::Sigmoid, A::Silu, A::Relu6, A::LeakyRelu, A::SquaredRelu, A::QuickGelu, A::Softplus, A::HardSwish];
    let plain = [A::HardSigmoid, A::Erf, A::Exp, A::Log, A::Sqrt, A::Square, A::Reciprocal, A::Absolute];
    let functions = bounded.into_iter().chain(plain).chain([A::Cosine, A::Sine]);
    for (function, elements) in product(&functions.collect::<Vec<_>>(), &grids.few_elements()) {
        cases.push(Case::new(OpKind::Activation { function }, elements / 1024, &[4, 256])?);
    }
    Ok(())
}

fn elementwise(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    let kinds = [
        OpKind::ScaleShift(ScaleShift { scale: 0.5, shift: 0.0 }),
        OpKind::Gate(Gate { function: ActivationKind::Silu, packed: false }),
        OpKind::Dropout(Dropout { probability: 0.1 }),
        OpKind::Reshape(Reshape { dims: vec![8, 128] }),
        OpKind::Transpose(Transpose { axes: vec![1, 0] }),
        OpKind::Reduce(Reduce { function: Reduction::Mean, axes: vec![1] }),
        OpKind::MeanSquaredError(MeanSquaredError {}),
    ];
    for elements in grids.few_elements() {
        for kind in &kinds {
            cases.push(Case::new(kind.clone(), elements / 1024, &[4, 256])?);
        }
        let join = OpKind::Concat(Concat { axis: 1, values: 2 });
        cases.push(Case::new(join, elements / 1024, &[4, 128])?);
    }
    Ok(())
}

/// Operators over rows of a width; a row is a token.
fn by_rows(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    let [rows, widths] = grids.rows_and_widths();
    let routing = |top_k| Routing { experts: 4, top_k, capacity: None, dealt: None };
    for (rows, dim) in product(&rows, &widths) {
        let batch = rows / TOKENS;
        let x = floats(&[TOKENS, dim]);
        cases.push(Case::new(OpKind::RmsNorm(RmsNorm { dim, eps: 1e-6, unit_offset: false }), batch, &[TOKENS, dim])?);
        cases.push(Case::new(OpKind::Softmax(Softmax { log: false }), batch, &[TOKENS, dim])?);
        let ids = TensorType::batched(&[TOKENS], Dtype::I32);
        cases.push(Case::of_types(OpKind::Gather(Gather {}), batch, vec![x.clone(), ids])?);
        let gates = || floats(&[TOKENS, 4]);
        let dispatch = OpKind::Dispatch(Dispatch { routing: routing(1) });
        cases.push(Case::of_types(dispatch, batch, vec![x, gates()])?);
        let combine = OpKind::Combine(Combine { routing: routing(2) });
        cases.push(Case::of_types(combine, batch, vec![floats(&[2 * TOKENS, dim]), gates()])?);
    }
    for (rows, experts) in product(&rows, &[4, 8]) {
        let routing = Routing { experts, top_k: 2, capacity: None, dealt: None };
        let router = OpKind::Router(Router { routing, normalised: true });
        cases.push(Case::new(router, rows / TOKENS, &[TOKENS, experts])?);
    }
    Ok(())
}

fn channel_norms(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    for (side, channels) in product(grids.sides, &grids.channels) {
        let dims = [channels, side, side];
        cases.push(Case::new(OpKind::BatchNorm(BatchNorm { channels, eps: 1e-5 }), grids.pictures, &dims)?);
        let group = GroupNorm { groups: 2, channels, eps: 1e-5, affine: true };
        cases.push(Case::new(OpKind::GroupNorm(group), grids.pictures, &dims)?);
    }
    Ok(())
}

/// Attention with shared keys, of queries that are no more than the keys; and additive attention.
fn attention(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    let lengths = product(&[grids.steps[0], 2 * grids.steps[0]], &[2 * grids.steps[0], 4 * grids.steps[1]]);
    for (samples, (s, t)) in product(&grids.batches, &lengths) {
        for (causal, head_dim) in product(&[true, false], &[grids.units[0] / 4, grids.units[0]]) {
            let heads = 4;
            let plain = Attention::new(heads, head_dim, causal, AttentionInput::Separate);
            let kind = OpKind::Attention(Attention { kv_heads: Some(heads / 2), ..plain });
            let keys = || floats(&[t, heads / 2 * head_dim]);
            cases.push(Case::of_types(kind, samples, vec![floats(&[s, heads * head_dim]), keys(), keys()])?);
        }
        for units in grids.units {
            let kind = OpKind::AdditiveAttention(AdditiveAttention { units, normed: false, bias: false });
            let types = vec![floats(&[s, units]), floats(&[t, units]), floats(&[t, units])];
            cases.push(Case::of_types(kind, samples, types)?);
        }
    }
    Ok(())
}

fn recurrent(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    let cells = [(Cell::RnnTanh, false), (Cell::Gru, false), (Cell::Lstm, false), (Cell::Lstm, true)];
    for ((cell, projected), (samples, steps)) in product(&cells, &product(grids.sequences, &grids.steps)) {
        for (inputs, hidden) in product(&grids.units, &grids.units) {
            let projection = projected.then_some(hidden / 2);
            let kind = Recurrent { projection, ..Recurrent::new(cell, inputs, hidden) };
            cases.push(Case::new(OpKind::Recurrent(kind), samples, &[steps, inputs])?);
        }
    }
    Ok(())
}

/// Windows of one and of nine taps that keep the extents.
fn convolution(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    let batch = grids.pictures;
    let channels = product(grids.channels_in, &grids.channels);
    for (side, (inputs, outputs)) in product(grids.sides, &channels) {
        for kernel in [1, 3] {
            let square = Window::square(kernel, 1, kernel / 2);
            let plain = Convolution::new(inputs, outputs, square.clone(), false);
            cases.push(Case::new(OpKind::Convolution(plain.clone()), batch, &[inputs, side, side])?);
            let grouped = Convolution { inputs: 2 * inputs, groups: 2, ..plain };
            cases.push(Case::new(OpKind::Convolution(grouped), batch, &[2 * inputs, side, side])?);
            let taps = kernel * kernel;
            let line = Convolution::new(inputs, outputs, Window::line(taps, 1, taps / 2), false);
            cases.push(Case::new(OpKind::Convolution(line), batch, &[inputs, side * side])?);
        }
    }
    for ((side, channels), kernel) in product(&product(grids.sides, &grids.channels[..1]), &[2, 3]) {
        for function in [PoolKind::Max, PoolKind::Average] {
            let window = Window::square(kernel, 1, kernel - 2);
            // With two taps an axis the output is one shorter, so the input is one longer.
            let side = side + u64::from(kernel == 2);
            cases.push(Case::new(OpKind::Pool(Pool { function, window }), batch, &[channels, side, side])?);
        }
    }
    Ok(())
}

/// Products of two values, and one product an expert.
fn products(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    for (matrices, (m, (k, n))) in product(&grids.batches, &product(&grids.steps, &product(&grids.units, &grids.units)))
    {
        let types = vec![floats(&[m, k]), floats(&[k, n])];
        cases.push(Case::of_types(OpKind::MatMul(MatMul { transpose_right: false }), matrices, types)?);
    }
    let [rows, _] = grids.rows_and_widths();
    for (rows, (experts, (inputs, outputs))) in product(&rows, &product(&[4, 8], &product(&grids.units, &grids.units)))
    {
        let routing = Routing { experts, top_k: 1, capacity: None, dealt: None };
        let kind = OpKind::ExpertLinear(ExpertLinear { routing, inputs, outputs, init_std: 0.02 });
        let types = vec![floats(&[TOKENS, inputs]), floats(&[TOKENS, experts])];
        cases.push(Case::of_types(kind, rows / TOKENS, types)?);
    }
    Ok(())
}
