//! Tables and matrix products.

use serde::{Deserialize, Serialize};

use super::operator::{Element, KEEPS_INPUTS, KEEPS_NOTHING, Operator, View, Work, with_dims};
use super::{Init, ParamSpec, WeightLayout};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Layout, ShardRule, Sharded, Split};
use crate::tensor::{Dtype, TensorType};

pub(super) struct Embedding {
    pub(super) vocab: u64,
    pub(super) dim: u64,
    pub(super) init_std: f64,
}

impl Operator for Embedding {
    fn label(&self) -> &'static str {
        "embedding"
    }

    fn element(&self) -> Element {
        Element::Integer
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("weight", &[self.vocab, self.dim], Init::Normal { std: self.init_std })]
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let dims = inputs[0].dims.iter().copied().chain([self.dim]).collect();
        Ok(TensorType { batched: inputs[0].batched, dims, dtype: Dtype::F32 })
    }

    /// It touches the rows that it reads, not the table.
    fn work(&self, at: &View<'_>) -> Work {
        Work::new(0, at.elements(), 1).with_bytes(at.input_bytes() + at.output_bytes() * 2)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_INPUTS
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let work = at.elements() as f64 + self.vocab as f64 * self.dim as f64;
        ProfileKey { operator: "embedding", axes: vec![at.rows(), self.vocab, self.dim], work }
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let last = at.output().dims.len() - 1;
        let (whole, rows, width) =
            (Sharded::replicated(), Sharded::split(Layout::Axis(0)), Sharded::split(Layout::Axis(1)));
        let mut rules = vec![
            ShardRule::new(Split::Vocabulary, self.vocab, &[whole], &[rows], Sharded::partial()),
            ShardRule::new(Split::Column, self.dim, &[whole], &[width], Sharded::split(Layout::Axis(last))),
        ];
        if last > 0 {
            rules.push(ShardRule::new(Split::Sequence, at.output().dims[0], &[rows], &[Sharded::shared()], rows));
        }
        rules
    }
}

pub(super) struct PositionEmbedding {
    pub(super) positions: u64,
    pub(super) dim: u64,
    pub(super) init_std: f64,
    pub(super) offset: u64,
}

impl Operator for PositionEmbedding {
    fn label(&self) -> &'static str {
        "position embedding"
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("weight", &[self.positions, self.dim], Init::Normal { std: self.init_std })]
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let (x, free) = (inputs[0], self.positions.saturating_sub(self.offset));
        match x.dims[..] {
            [s, h] if h == self.dim && s <= free => Ok(x.clone()),
            [s, h] if h == self.dim => Err(format!("{s} tokens, but only {free} positions")),
            _ => Err(format!("takes [s, {}], got {x}", self.dim)),
        }
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work::new(at.elements(), at.elements(), 1)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_row("position_embedding")
    }

    /// A rank that has part of a sequence keeps the whole table and reads its part.
    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        at.free_axes(1, 0, Some(Layout::Axis(1)))
    }
}

/// Puts `count` learned tokens before a sequence: `x [s, dim]` to `[count + s, dim]`; parameter `[count, dim]` (the class
/// token of Dosovitskiy et al. 2021, equation 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrependTokens {
    /// Tokens added.
    pub count: u64,
    /// Width.
    pub dim: u64,
    /// Standard deviation of the initial tokens.
    pub init_std: f64,
}

impl Operator for PrependTokens {
    fn label(&self) -> &'static str {
        "learned tokens"
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("weight", &[self.count, self.dim], Init::Normal { std: self.init_std })]
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        match inputs[0].dims[..] {
            [s, h] if h == self.dim => Ok(with_dims(inputs[0], vec![s.saturating_add(self.count), h])),
            _ => Err(format!("takes [s, {}], got {}", self.dim, inputs[0])),
        }
    }

    fn work(&self, _: &View<'_>) -> Work {
        Work::new(0, 0, 1)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_NOTHING
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_element("copy")
    }

    fn rules(&self, _: &View<'_>) -> Vec<ShardRule> {
        let width = Sharded::split(Layout::Axis(1));
        vec![ShardRule::new(Split::Width, self.dim, &[width], &[width], width)]
    }
}

pub(super) struct Linear {
    pub(super) inputs: u64,
    pub(super) outputs: u64,
    pub(super) bias: bool,
    pub(super) layout: WeightLayout,
    pub(super) init_std: f64,
}

impl Operator for Linear {
    fn label(&self) -> &'static str {
        "linear"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let shape = match self.layout {
            WeightLayout::InOut => [self.inputs, self.outputs],
            WeightLayout::OutIn => [self.outputs, self.inputs],
        };
        let weight = ParamSpec::new("weight", &shape, Init::Normal { std: self.init_std });
        let bias = || ParamSpec::new("bias", &[self.outputs], Init::Zeros);
        std::iter::once(weight).chain(self.bias.then(bias)).collect()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let mut y = inputs[0].clone();
        match y.dims.last_mut() {
            Some(last) if *last == self.inputs => *last = self.outputs,
            _ => return Err(format!("takes [.., {}], got {y}", self.inputs)),
        }
        Ok(y)
    }

    /// `2 r in out` for `r` rows; backward one such product for the inputs and one for the weight.
    fn work(&self, at: &View<'_>) -> Work {
        let product = 2 * u128::from(at.rows()) * u128::from(self.inputs) * u128::from(self.outputs);
        Work::new(product, 2 * product, 1 + u32::from(self.bias))
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_INPUTS
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let operator = if self.layout == WeightLayout::InOut { "linear" } else { "linear.transposed" };
        let rows = at.rows();
        let work = 2.0 * rows as f64 * self.inputs as f64 * self.outputs as f64;
        ProfileKey { operator, axes: vec![rows, self.inputs, self.outputs], work }
    }

    /// Column and row of Shoeybi et al. 2019, section 3. The bias of a row split is added after the sum.
    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let last = at.output().dims.len() - 1;
        let (column, row) = match self.layout {
            WeightLayout::InOut => (Layout::Axis(1), Layout::Axis(0)),
            WeightLayout::OutIn => (Layout::Axis(0), Layout::Axis(1)),
        };
        let width = Sharded::split(Layout::Axis(last));
        let weights = |weight: Sharded, bias: Sharded| [weight, bias][..=usize::from(self.bias)].to_vec();
        let columns = weights(Sharded::split(column), Sharded::split(Layout::Axis(0)));
        let rows = weights(Sharded::split(row), Sharded::replicated());
        let mut rules = vec![
            ShardRule::new(Split::Column, self.outputs, &[Sharded::shared()], &columns, width),
            ShardRule::new(Split::Row, self.inputs, &[width], &rows, Sharded::partial()),
        ];
        if last > 0 {
            let (sequence, both) = (Sharded::split(Layout::Axis(0)), weights(Sharded::shared(), Sharded::shared()));
            rules.push(ShardRule::new(Split::Sequence, at.output().dims[0], &[sequence], &both, sequence));
        }
        rules
    }
}

/// Product of two values over their last two axes: `[.., m, k]` and `[.., k, n]` to `[.., m, n]`; the axes before them are
/// equal in both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatMul {
    /// The second value is `[.., n, k]`.
    pub transpose_right: bool,
}

impl MatMul {
    /// Length of the axis that is summed over.
    fn inner(at: &View<'_>) -> u64 {
        at.input(0).last()
    }
}

impl Operator for MatMul {
    fn label(&self) -> &'static str {
        "matrix product"
    }

    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let (a, b) = (inputs[0], inputs[1]);
        let refuse = || format!("takes [.., m, k] and {}, got {a} and {b}", self.shape_of_right());
        let (rank, same) = (a.dims.len(), a.dtype == b.dtype && a.batched == b.batched);
        if rank < 2 || b.dims.len() != rank || !same || a.dims[..rank - 2] != b.dims[..rank - 2] {
            return Err(refuse());
        }
        let (k, n) = match (self.transpose_right, b.dims[rank - 2], b.dims[rank - 1]) {
            (false, k, n) | (true, n, k) => (k, n),
        };
        if k != a.last() {
            return Err(refuse());
        }
        let mut dims = a.dims.clone();
        dims[rank - 1] = n;
        Ok(with_dims(a, dims))
    }

    /// `2 m k n` for each matrix; backward one such product for each side.
    fn work(&self, at: &View<'_>) -> Work {
        let product = 2 * at.elements() * u128::from(Self::inner(at));
        Work::new(product, 2 * product, 1)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_INPUTS
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let (output, k) = (at.output(), Self::inner(at));
        let (m, n) = (output.dims[output.dims.len() - 2], output.last());
        let matrices = output.elements(at.batch) / (m * n).max(1);
        let work = 2.0 * at.elements() as f64 * k as f64;
        ProfileKey { operator: "matmul", axes: vec![matrices, m, k, n], work }
    }

    /// Matrices apart from each other, or rows of the left side.
    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let dims = &at.output().dims;
        let first = Sharded::split(Layout::Axis(0));
        if dims.len() > 2 {
            return vec![ShardRule::new(Split::Heads, dims[0], &[first, first], &[], first)];
        }
        vec![ShardRule::new(Split::Sequence, dims[0], &[first, Sharded::shared()], &[], first)]
    }
}

impl MatMul {
    const fn shape_of_right(&self) -> &'static str {
        if self.transpose_right { "[.., n, k]" } else { "[.., k, n]" }
    }
}
