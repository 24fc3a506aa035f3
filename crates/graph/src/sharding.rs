//! How an operator may be split over the ranks of one mesh axis, and which collectives that asks for.
//!
//! A tensor on a mesh axis is replicated, split along the batch or along one of its axes, or partial: every rank holds a
//! summand (the vocabulary of GSPMD, Xu et al. 2021, and of PyTorch's DTensor). A rule states the layout in which an
//! operator takes each input and parameter and gives its output, and the layout in which the gradients of these arrive.
//! Collectives then follow from one table, [`Collective::between`]: where a producer's layout is not the consumer's, the
//! value changes its layout forward and the gradient changes its own backward. Megatron's column and row pair (Shoeybi
//! et al. 2019), sequence parallelism (Korthikanti et al. 2022), context parallelism by exchange of heads (Jacobs et al.
//! 2023), expert and vocabulary parallelism are all rows of that table.

use serde::{Deserialize, Serialize};

use crate::facts::Pass;
use crate::tensor::TensorType;

/// Where the numbers of a tensor lie over the ranks of one mesh axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Every rank holds all of it.
    Replicated,
    /// Every rank holds a summand of the whole shape.
    Partial,
    /// Split along the batch.
    Batch,
    /// Of an operator's parameters, dealt to the ranks in order, one rank holds this one whole.
    Owned,
    /// Split along this axis of [`TensorType::dims`]. A packed axis (query, key, value; gate, up) is split part by part.
    Axis(usize),
}

/// An exchange over the ranks of one mesh axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collective {
    /// Nothing moves.
    None,
    /// Sum on every rank.
    AllReduce,
    /// Every rank gets all slices.
    AllGather,
    /// Sum, of which every rank keeps its slice.
    ReduceScatter,
    /// Every rank sends a slice to every other.
    AllToAll,
    /// Every rank sends its edge to its neighbours.
    Halo,
}

impl Collective {
    /// What turns a tensor laid out as `from` into one laid out as `to`. To slice a replicated tensor, or to count it as
    /// one of several summands, moves nothing.
    pub fn between(from: Layout, to: Layout) -> Self {
        use Layout::{Axis, Batch, Owned, Partial, Replicated};
        match (from, to) {
            (from, to) if from == to => Self::None,
            (Replicated, _) | (_, Partial | Owned) => Self::None,
            (Partial, Replicated) => Self::AllReduce,
            (Partial, Batch | Axis(_)) => Self::ReduceScatter,
            (Batch | Axis(_), Replicated) | (Owned, _) => Self::AllGather,
            (Batch | Axis(_), Batch | Axis(_)) => Self::AllToAll,
        }
    }
}

/// Layout of a tensor and of its gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sharded {
    /// The values, forward.
    pub value: Layout,
    /// The gradient, backward: for an input and a parameter as the operator gives it, for an output as it takes it.
    pub gradient: Layout,
}

impl Sharded {
    /// Values and gradients split alike.
    pub const fn split(layout: Layout) -> Self {
        Self { value: layout, gradient: layout }
    }

    /// All on every rank, and every rank computes the whole gradient.
    pub const fn replicated() -> Self {
        Self::split(Layout::Replicated)
    }

    /// All on every rank, which computes a summand of the gradient: an input of a column split, a weight under data
    /// parallelism.
    pub const fn shared() -> Self {
        Self { value: Layout::Replicated, gradient: Layout::Partial }
    }

    /// Every rank computes a summand: the output of a row split. Its gradient is the same for all summands.
    pub const fn partial() -> Self {
        Self { value: Layout::Partial, gradient: Layout::Replicated }
    }
}

/// What is split, by the name that it has in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Samples: data parallelism.
    Batch,
    /// Output features of a weight.
    Column,
    /// Input features of a weight.
    Row,
    /// Heads of an attention.
    Heads,
    /// Positions of a sequence, of an operator that treats positions alone.
    Sequence,
    /// Query positions of an attention, which sees the keys of all ranks.
    Context,
    /// Experts of a mixture.
    Expert,
    /// Rows of an embedding table, classes of a loss.
    Vocabulary,
    /// Channels that do not mix.
    Channel,
    /// Height of an image, with an exchange of edges.
    Spatial,
    /// Units of a recurrent layer, whose states are gathered at each time step.
    Units,
    /// Elements of the last axis, of a pointwise operator.
    Width,
}

/// An exchange in the middle of an operator, besides those that layouts ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Inside {
    /// Where it happens.
    pub pass: Pass,
    /// What it is.
    pub collective: Collective,
    /// Elements of the whole tensor that is exchanged, over all calls of one pass.
    pub elements: u64,
    /// Calls in one pass: one for most, one a time step for a recurrent layer.
    pub calls: u64,
}

/// One way to split an operator over the ranks of a mesh axis. Work and intermediates divide by the number of ranks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardRule {
    /// What is split.
    pub split: Split,
    /// The number of ranks must divide this.
    pub extent: u64,
    /// Inputs, in order.
    pub inputs: Vec<Sharded>,
    /// Parameters, in the order of [`crate::OpKind::params`]. A parameter whose gradient is partial is synchronised over
    /// the axis.
    pub params: Vec<Sharded>,
    /// The output.
    pub output: Sharded,
    /// Exchanges inside the operator.
    pub inside: Vec<Inside>,
}

impl ShardRule {
    /// A rule without exchanges inside.
    pub(crate) fn new(split: Split, extent: u64, inputs: &[Sharded], params: &[Sharded], output: Sharded) -> Self {
        Self { split, extent, inputs: inputs.to_vec(), params: params.to_vec(), output, inside: Vec::new() }
    }

    /// The rule with an exchange of `elements` in each pass.
    pub(crate) fn with_inside(mut self, forward: Collective, backward: Collective, elements: u64, calls: u64) -> Self {
        let inside = |pass, collective| Inside { pass, collective, elements, calls };
        self.inside = vec![inside(Pass::Forward, forward), inside(Pass::Backward, backward)];
        self
    }

    /// What input `input` needs when its producer gives it as `producer`: forward on the value, backward on the gradient.
    pub fn exchange(&self, input: usize, producer: Sharded) -> (Collective, Collective) {
        let wanted = self.inputs[input];
        (Collective::between(producer.value, wanted.value), Collective::between(wanted.gradient, producer.gradient))
    }

    /// The rule of data parallelism: every operator has it that takes or gives a batched value.
    pub(crate) fn batch(inputs: &[&TensorType], params: usize, output: &TensorType) -> Option<Self> {
        if !inputs.iter().any(|ty| ty.batched) {
            return None;
        }
        let of = |ty: &TensorType| if ty.batched { Sharded::split(Layout::Batch) } else { Sharded::shared() };
        Some(Self {
            split: Split::Batch,
            extent: u64::MAX,
            inputs: inputs.iter().map(|ty| of(ty)).collect(),
            params: vec![Sharded::shared(); params],
            output: if output.batched { Sharded::split(Layout::Batch) } else { Sharded::partial() },
            inside: Vec::new(),
        })
    }
}
