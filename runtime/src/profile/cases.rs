//! What is measured: one-operator models over grids of extents.

use cutplane_graph::{
    ActivationKind, Arithmetic, AttentionInput, Binary, Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder,
    OpId, OpKind, ProfileKey, TensorType, WeightLayout,
};

use super::families;
use crate::backend::Residence;

/// One point of one curve: a model of one operator, and a micro-batch size.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) model: ModelGraph,
    pub(crate) batch: u64,
    pub(crate) key: ProfileKey,
    /// Whether it is measured in every round; operators that only some families have are in the least number of rounds.
    pub(crate) every_round: bool,
}

impl Case {
    /// The operator on a micro-batch of `batch` samples with inputs of the extents `dims`.
    pub(crate) fn new(kind: OpKind, batch: u64, dims: &[u64]) -> Result<Self, ModelError> {
        let ty = |index| match (&kind, index) {
            (OpKind::Embedding { .. }, _) => TensorType::batched(dims, Dtype::I32),
            (OpKind::CrossEntropy { .. }, 1) => TensorType::batched(&dims[..dims.len() - 1], Dtype::I32),
            _ => TensorType::batched(dims, Dtype::F32),
        };
        let inputs: Vec<TensorType> = (0..kind.arity()).map(ty).collect();
        Self::of_types(kind, batch, inputs)
    }

    /// The operator on inputs of any types.
    pub(super) fn of_types(kind: OpKind, batch: u64, types: Vec<TensorType>) -> Result<Self, ModelError> {
        let mut b = ModelGraphBuilder::new("profile");
        let mut inputs = Vec::new();
        for (index, ty) in types.into_iter().enumerate() {
            let role = if ty.dtype.is_float() { InputRole::Features } else { InputRole::Tokens };
            inputs.push(b.input(&format!("input {index}"), role, ty)?);
        }
        let output = b.op("op", kind, &inputs)?;
        let model = b.output(output).build()?;
        let key = model.profile_key(OpId::new(0), batch);
        Ok(Self { model, batch, key, every_round: true })
    }
}

/// Most elements whose memory the allocator keeps when they are freed: glibc maps 32 MiB and more anew each time, and the pages
/// are filled with zeros on first use. What a step of a model holds is mostly smaller.
const MOST_KEPT: u64 = 1 << 22;
/// Tokens a sample; rows are samples times tokens.
pub(super) const TOKENS: u64 = 64;

/// The extents at which a kind of device is measured; between and beyond them the rate is interpolated.
pub(crate) struct Grids {
    /// Rows at which matrix products reach their rate, and above; also of losses.
    rows: &'static [u64],
    /// Widths in and out of linear layers, and of output layers, whose weight is an embedding's.
    linear: [&'static [u64]; 2],
    tied: [&'static [u64]; 2],
    /// Attention: heads, width of a head, samples, lengths.
    heads: u64,
    head_dims: &'static [u64],
    samples: &'static [u64],
    lengths: &'static [u64],
    /// Rows of what is bound by memory, and widths of the residual stream.
    memory_rows: &'static [u64],
    widths: &'static [u64],
    vocabularies: &'static [u64],
    classes: &'static [u64],
    /// Elements of pointwise operators.
    elements: &'static [u64],
    /// Whether the operators of other families are measured. Not on a card: each kernel takes seconds to compile and choose,
    /// and the time for them is short.
    families: bool,
    /// Of the families: samples and steps of sequences, units, channels, sides of images.
    pub(super) batches: [u64; 2],
    pub(super) steps: [u64; 2],
    /// Of recurrent layers: samples are the rows of all of its products.
    pub(super) sequences: &'static [u64],
    pub(super) units: [u64; 2],
    /// Samples of image operators: more than a few, since the gradient of a convolution's weight is a convolution in which
    /// samples are the channels, and a handful of channels goes through kernels of their own.
    pub(super) pictures: u64,
    /// Channels in: of a picture, and of layers. Channels out.
    pub(super) channels_in: &'static [u64],
    pub(super) channels: [u64; 2],
    pub(super) sides: &'static [u64],
}

/// One thread of a processor.
const CORE: Grids = Grids {
    rows: &[64, 256, 1024],
    linear: [&[64, 128, 256, 384, 768, 1536]; 2],
    tied: [&[64, 128, 256, 384, 768, 1536]; 2],
    heads: 4,
    head_dims: &[16, 64],
    samples: &[2, 6, 24],
    lengths: &[32, 128, 256],
    memory_rows: &[64, 256, 1024, 4096],
    widths: &[64, 384, 1024],
    vocabularies: &[2, 256, 8192],
    classes: &[256, 2048, 16384],
    elements: &[1 << 12, 1 << 15, 1 << 17, 1 << 19, 1 << 21, 1 << 22, 1 << 23],
    families: true,
    batches: [2, 16],
    steps: [8, 32],
    sequences: &[2, 8, 32],
    units: [64, 256],
    pictures: 8,
    channels_in: &[1, 3, 32, 128],
    channels: [32, 128],
    sides: &[2, 8, 24],
};

/// A card: larger, and few enough points that its kernels are chosen in minutes.
const CARD: Grids = Grids {
    rows: &[256, 1024, 8192],
    linear: [&[256, 1024, 4096]; 2],
    tied: [&[256, 1024], &[1024, 32768]],
    heads: 12,
    head_dims: &[64],
    samples: &[1, 8],
    lengths: &[128, 1024],
    memory_rows: &[256, 2048, 16384],
    widths: &[256, 1024, 4096],
    vocabularies: &[2, 1024, 32768],
    classes: &[1024, 32768],
    elements: &[1 << 14, 1 << 18, 1 << 22, 1 << 25],
    families: false,
    batches: [8, 64],
    steps: [8, 32],
    sequences: &[8, 64],
    units: [256, 1024],
    pictures: 8,
    channels_in: &[3, 64, 256],
    channels: [64, 256],
    sides: &[14, 56],
};

/// Two points a curve, for tests.
#[cfg(test)]
pub(crate) const TINY: Grids = Grids {
    rows: &[64],
    linear: [&[16, 32], &[16]],
    tied: [&[16], &[16, 32]],
    heads: 2,
    head_dims: &[8],
    samples: &[1],
    lengths: &[8, 16],
    memory_rows: &[64],
    widths: &[16, 32],
    vocabularies: &[2],
    classes: &[16, 32],
    elements: &[1 << 12, 1 << 13],
    families: true,
    batches: [1, 2],
    steps: [2, 3],
    sequences: &[1, 2],
    units: [4, 8],
    pictures: 1,
    channels_in: &[2, 4, 8],
    channels: [4, 8],
    sides: &[4, 6],
};

impl Grids {
    /// Elements of pointwise operators of which there are many: the smallest, one in the middle, and the largest of which the
    /// host's allocator keeps the memory.
    pub(super) fn few_elements(&self) -> Vec<u64> {
        let kept: Vec<u64> = self.elements.iter().copied().filter(|elements| *elements <= MOST_KEPT).collect();
        let last = kept.len() - 1;
        let mut few = vec![kept[0], kept[last / 2], kept[last]];
        few.dedup();
        few
    }

    /// Smallest and largest number of rows and width of operators that are bound by memory.
    pub(super) fn rows_and_widths(&self) -> [[u64; 2]; 2] {
        let ends = |list: &[u64]| [list[0], list[list.len() - 1]];
        [ends(self.memory_rows), ends(self.widths)]
    }

    /// The grids of a kind of device.
    pub(crate) fn of(residence: Residence) -> &'static Self {
        match residence {
            Residence::Host => &CORE,
            Residence::Device => &CARD,
        }
    }
}

/// All cases of a profile.
pub(crate) fn all(grids: &Grids) -> Result<Vec<Case>, ModelError> {
    let mut cases = Vec::new();
    linear(&mut cases, grids)?;
    attention(&mut cases, grids)?;
    rows_and_widths(&mut cases, grids)?;
    pointwise(&mut cases, grids)?;
    if grids.families {
        let common = cases.len();
        families::add(&mut cases, grids)?;
        cases[common..].iter_mut().for_each(|case| case.every_round = false);
    }
    Ok(cases)
}

fn linear(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    for (layout, [inputs, outputs]) in [(WeightLayout::InOut, grids.linear), (WeightLayout::OutIn, grids.tied)] {
        for (rows, (inputs, outputs)) in product(grids.rows, &product(inputs, outputs)) {
            cases.push(Case::new(linear_kind(inputs, outputs, layout), rows / TOKENS, &[TOKENS, inputs])?);
        }
    }
    Ok(())
}

/// A linear layer as the models have it: with bias, but for the tied output layer.
pub(crate) fn linear_kind(inputs: u64, outputs: u64, layout: WeightLayout) -> OpKind {
    OpKind::Linear { inputs, outputs, bias: layout == WeightLayout::InOut, layout, init_std: 0.02 }
}

fn attention(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    let heads = grids.heads;
    for (causal, input) in product(&[true, false], &[AttentionInput::Packed, AttentionInput::Separate]) {
        for (head_dim, (samples, s)) in product(grids.head_dims, &product(grids.samples, grids.lengths)) {
            let parts = if input == AttentionInput::Packed { 3 } else { 1 };
            let kind = OpKind::attention(heads, head_dim, causal, input);
            cases.push(Case::new(kind, samples, &[s, parts * heads * head_dim])?);
        }
    }
    Ok(())
}

fn rows_and_widths(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    for rows in grids.memory_rows {
        let batch = rows / TOKENS;
        for &dim in grids.widths {
            let position = OpKind::position_embedding(TOKENS, dim, 0.02);
            cases.push(Case::new(position, batch, &[TOKENS, dim])?);
            cases.push(Case::new(OpKind::layer_norm(dim, 1e-5), batch, &[TOKENS, dim])?);
            for &vocab in grids.vocabularies {
                cases.push(Case::new(OpKind::Embedding { vocab, dim, init_std: 0.02 }, batch, &[TOKENS])?);
            }
        }
    }
    for (rows, classes) in product(grids.rows, grids.classes) {
        let kind = OpKind::CrossEntropy { classes, counted: TOKENS };
        cases.push(Case::new(kind, rows / TOKENS, &[TOKENS, classes])?);
    }
    Ok(())
}

fn pointwise(cases: &mut Vec<Case>, grids: &Grids) -> Result<(), ModelError> {
    let functions = [ActivationKind::Gelu, ActivationKind::GeluTanh, ActivationKind::Relu, ActivationKind::Tanh];
    for elements in grids.elements {
        for function in functions {
            cases.push(Case::new(OpKind::Activation { function }, elements / 1024, &[4, 256])?);
        }
        cases.push(Case::new(OpKind::Add, elements / 1024, &[4, 256])?);
        // The bias of a row split stands alone, in models of every family.
        let product = Binary { function: Arithmetic::Multiply };
        cases.push(Case::new(OpKind::Binary(product), elements / 1024, &[4, 256])?);
        cases.push(Case::new(OpKind::SelectToken { index: 0 }, elements / 4096, &[16, 256])?);
    }
    Ok(())
}

/// All pairs, the left one outermost.
pub(super) fn product<A: Copy, B: Copy>(left: &[A], right: &[B]) -> Vec<(A, B)> {
    left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{CARD, CORE, Grids, all};

    #[test]
    fn every_curve_is_a_full_grid_of_different_points() {
        check(&CORE, 65);
        check(&CARD, 17);
    }

    fn check(grids: &Grids, expected: usize) {
        let mut curves: BTreeMap<&str, BTreeSet<Vec<u64>>> = BTreeMap::new();
        for case in all(grids).expect("the cases are well formed") {
            let curve = curves.entry(case.key.operator).or_default();
            assert!(curve.insert(case.key.axes.clone()), "{} {:?} twice", case.key.operator, case.key.axes);
        }
        for (name, points) in &curves {
            let axes = points.first().expect("not empty").len();
            let values = |axis: usize| points.iter().map(|point| point[axis]).collect::<BTreeSet<u64>>().len();
            assert_eq!((0..axes).map(values).product::<usize>(), points.len(), "{name} has a hole");
        }
        assert_eq!(curves.len(), expected, "{:?}", curves.keys());
    }
}
