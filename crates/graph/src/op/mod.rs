//! Typed operators: what each computes, the shapes that it takes and gives, and the parameters that it owns. One file a
//! family; [`OpKind`] joins them, and every question to an operator goes through the one table in `OpKind::with`.

mod activation;
mod attention;
mod convolution;
mod exchange;
mod fixed;
mod linear;
mod loss;
mod moe;
mod norm;
mod operator;
mod pointwise;
mod position;
mod recurrent;
mod select;
mod shape;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::tensor::TensorType;

pub use activation::ActivationKind;
pub use attention::{AdditiveAttention, Attention, AttentionInput, AttentionKernel};
pub use convolution::{Convolution, Pool, PoolKind, Upsample, Window};
pub use exchange::Exchange;
pub use fixed::Fixed;
pub use linear::{MatMul, PrependTokens};
pub use loss::{CrossEntropyShare, JoinedCrossEntropy, MeanSquaredError};
pub use moe::{Combine, Dispatch, ExpertLinear, Router, Routing};
pub use norm::{BatchNorm, GroupNorm, RmsNorm};
pub(crate) use operator::{Operator, View};
pub use pointwise::{Arithmetic, Binary, Dropout, Gate, Learned, ScaleShift, Softmax};
pub use position::{PositionScheme, Rotary, RotaryScaling};
pub use recurrent::{Cell, Recurrent, RecurrentBias, RecurrentOutput};
pub use select::{Gather, Pad, Slice};
pub use shape::{Concat, Reduce, Reduction, Reshape, Transpose};

use operator::Element;

/// How a linear layer's weight lies in memory and in checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightLayout {
    /// `[inputs, outputs]`, as GPT-2's `Conv1D` stores it.
    InOut,
    /// `[outputs, inputs]`, as `torch.nn.Linear` and tied embeddings store it.
    OutIn,
}

/// Initial value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Normal with mean zero.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform from `-bound` to `bound`.
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

/// A parameter that an operator owns.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Its name below the operator's: `weight`, `bias`.
    pub suffix: Cow<'static, str>,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its initial value.
    pub init: Init,
}

impl ParamSpec {
    pub(crate) fn new(suffix: impl Into<Cow<'static, str>>, shape: &[u64], init: Init) -> Self {
        Self { suffix: suffix.into(), shape: shape.to_vec(), init }
    }
}

/// What an operator computes. Shapes below leave the batch axis `b` out unless they say it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OpKind {
    /// Row lookup: ids `[s]` of type i32 to `[s, dim]`; parameter `weight [vocab, dim]`.
    Embedding {
        /// Rows of the table.
        vocab: u64,
        /// Width.
        dim: u64,
        /// Standard deviation of the initial weight.
        init_std: f64,
    },
    /// Adds learned absolute positions: `x [s, dim]` to `x + weight[offset..offset + s]`; parameter `weight [positions,
    /// dim]`.
    PositionEmbedding {
        /// Rows of the table; at least `offset + s`.
        positions: u64,
        /// Width.
        dim: u64,
        /// Standard deviation of the initial weight.
        init_std: f64,
        /// Row of the first position: 2 in OPT and RoBERTa, whose tables begin with rows for padding.
        #[serde(default, skip_serializing_if = "is_default")]
        offset: u64,
    },
    /// Learned tokens before a sequence.
    PrependTokens(PrependTokens),
    /// `y = x W + bias` over the last axis: `[.., inputs]` to `[.., outputs]`.
    Linear {
        /// Width in.
        inputs: u64,
        /// Width out.
        outputs: u64,
        /// Whether a bias is added.
        bias: bool,
        /// How the weight lies.
        layout: WeightLayout,
        /// Standard deviation of the initial weight.
        init_std: f64,
    },
    /// Product of two values.
    MatMul(MatMul),
    /// A pointwise function.
    Activation {
        /// Which one.
        function: ActivationKind,
    },
    /// Sum of two values of one shape: the residual connection.
    Add,
    /// Arithmetic on two values.
    Binary(Binary),
    /// `x scale + shift`.
    ScaleShift(ScaleShift),
    /// Arithmetic with a learned tensor.
    Learned(Learned),
    /// Arithmetic with a constant tensor.
    Fixed(Fixed),
    /// The gate of a gated MLP.
    Gate(Gate),
    /// Dropout.
    Dropout(Dropout),
    /// Softmax over the last axis.
    Softmax(Softmax),
    /// Layer normalisation over the last axis (Ba, Kiros and Hinton 2016) with `weight [dim]` and `bias [dim]`.
    LayerNorm {
        /// Width of the last axis.
        dim: u64,
        /// Added to the variance.
        eps: f64,
        /// Whether it has a bias.
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        bias: bool,
    },
    /// Root-mean-square normalisation over the last axis.
    RmsNorm(RmsNorm),
    /// Batch normalisation of channels.
    BatchNorm(BatchNorm),
    /// Group normalisation of channels.
    GroupNorm(GroupNorm),
    /// Scaled dot-product attention.
    Attention(Attention),
    /// Additive attention.
    AdditiveAttention(AdditiveAttention),
    /// A recurrent layer in one direction, over all or some time steps.
    Recurrent(Recurrent),
    /// Convolution over one or two axes.
    Convolution(Convolution),
    /// Pooling by a window.
    Pool(Pool),
    /// Nearest-neighbour resizing.
    Upsample(Upsample),
    /// Gates of a router.
    Router(Router),
    /// Tokens to experts.
    Dispatch(Dispatch),
    /// A linear layer an expert.
    ExpertLinear(ExpertLinear),
    /// Experts to tokens.
    Combine(Combine),
    /// Takes one position of the sequence: `[s, h]` to `[h]` (BERT's pooler reads position 0).
    SelectToken {
        /// The position.
        index: u64,
    },
    /// The same numbers in another shape.
    Reshape(Reshape),
    /// Another order of the axes.
    Transpose(Transpose),
    /// Values joined along an axis.
    Concat(Concat),
    /// Part of an axis.
    Slice(Slice),
    /// Rows by index.
    Gather(Gather),
    /// Zeros around an axis.
    Pad(Pad),
    /// Axes summed up.
    Reduce(Reduce),
    /// Mean cross-entropy of logits `[.., classes]` against i32 targets `[..]`; a target of -100 is not counted. The
    /// sum is divided by `batch * counted`, so that the means of equal micro-batches average to the mean of the batch.
    /// A masked language model counts the masked positions.
    CrossEntropy {
        /// Number of classes.
        classes: u64,
        /// Targets counted in each sample.
        counted: u64,
    },
    /// Mean squared error.
    MeanSquaredError(MeanSquaredError),
    /// One rank's share of a cross-entropy; in no model.
    CrossEntropyShare(CrossEntropyShare),
    /// The loss that follows from the shares; in no model.
    JoinedCrossEntropy(JoinedCrossEntropy),
    /// A change of layout between the ranks of a tensor axis; in no model.
    Exchange(Exchange),
}

/// The target value that a loss leaves out, as in PyTorch and Hugging Face.
pub const IGNORED_TARGET: i32 = -100;

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_yes(flag: &bool) -> bool {
    *flag
}

/// Fields with their default value are left out of files, so that plans and digests of older builds stay valid.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl OpKind {
    /// A linear layer with bias, weight `[inputs, outputs]`, initial standard deviation 0.02.
    pub fn linear(inputs: u64, outputs: u64) -> Self {
        Self::Linear { inputs, outputs, bias: true, layout: WeightLayout::InOut, init_std: 0.02 }
    }

    /// Layer normalisation with a bias.
    pub const fn layer_norm(dim: u64, eps: f64) -> Self {
        Self::LayerNorm { dim, eps, bias: true }
    }

    /// Learned positions from the first row on.
    pub const fn position_embedding(positions: u64, dim: u64, init_std: f64) -> Self {
        Self::PositionEmbedding { positions, dim, init_std, offset: 0 }
    }

    /// Plain attention, see [`Attention::new`].
    pub fn attention(heads: u64, head_dim: u64, causal: bool, input: AttentionInput) -> Self {
        Self::Attention(Attention::new(heads, head_dim, causal, input))
    }

    /// Calls `ask` with the operator's family: the one place that tells kinds apart.
    pub(crate) fn with<R>(&self, ask: impl FnOnce(&dyn Operator) -> R) -> R {
        match self {
            &Self::Embedding { vocab, dim, init_std } => ask(&linear::Embedding { vocab, dim, init_std }),
            &Self::PositionEmbedding { positions, dim, init_std, offset } => {
                ask(&linear::PositionEmbedding { positions, dim, init_std, offset })
            }
            &Self::Linear { inputs, outputs, bias, layout, init_std } => {
                ask(&linear::Linear { inputs, outputs, bias, layout, init_std })
            }
            &Self::Activation { function } => ask(&activation::Activation { function }),
            &Self::LayerNorm { dim, bias, .. } => ask(&norm::LayerNorm { dim, bias }),
            &Self::SelectToken { index } => ask(&select::SelectToken { index }),
            &Self::CrossEntropy { classes, counted } => ask(&loss::CrossEntropy { classes, counted }),
            Self::Add => ask(&pointwise::Add),
            Self::PrependTokens(kind) => ask(kind),
            Self::MatMul(kind) => ask(kind),
            Self::Binary(kind) => ask(kind),
            Self::ScaleShift(kind) => ask(kind),
            Self::Learned(kind) => ask(kind),
            Self::Fixed(kind) => ask(kind),
            Self::Gate(kind) => ask(kind),
            Self::Dropout(kind) => ask(kind),
            Self::Softmax(kind) => ask(kind),
            Self::RmsNorm(kind) => ask(kind),
            Self::BatchNorm(kind) => ask(kind),
            Self::GroupNorm(kind) => ask(kind),
            Self::Attention(kind) => ask(kind),
            Self::AdditiveAttention(kind) => ask(kind),
            Self::Recurrent(kind) => ask(kind),
            Self::Convolution(kind) => ask(kind),
            Self::Pool(kind) => ask(kind),
            Self::Upsample(kind) => ask(kind),
            Self::Router(kind) => ask(kind),
            Self::Dispatch(kind) => ask(kind),
            Self::ExpertLinear(kind) => ask(kind),
            Self::Combine(kind) => ask(kind),
            Self::Reshape(kind) => ask(kind),
            Self::Transpose(kind) => ask(kind),
            Self::Concat(kind) => ask(kind),
            Self::Slice(kind) => ask(kind),
            Self::Gather(kind) => ask(kind),
            Self::Pad(kind) => ask(kind),
            Self::Reduce(kind) => ask(kind),
            Self::MeanSquaredError(kind) => ask(kind),
            Self::CrossEntropyShare(kind) => ask(kind),
            Self::JoinedCrossEntropy(kind) => ask(kind),
            Self::Exchange(kind) => ask(kind),
        }
    }

    /// Number of inputs.
    pub fn arity(&self) -> usize {
        self.with(|operator| operator.arity())
    }

    /// The kind's name for people: `linear`, `attention`.
    pub fn label(&self) -> &'static str {
        self.with(|operator| operator.label())
    }

    /// The parameters that the operator owns, in the order in which it uses them.
    pub fn params(&self) -> Vec<ParamSpec> {
        self.with(|operator| operator.params())
    }

    /// True for a loss.
    pub const fn is_loss(&self) -> bool {
        matches!(self, Self::CrossEntropy { .. } | Self::JoinedCrossEntropy(_) | Self::MeanSquaredError(_))
    }

    /// Type of the output for the given inputs.
    ///
    /// # Errors
    /// [`ModelError::Arity`] or [`ModelError::Shape`], naming `op`.
    pub fn infer(&self, op: &str, inputs: &[&TensorType]) -> Result<TensorType, ModelError> {
        self.with(|operator| {
            let expected = operator.arity();
            if inputs.len() != expected {
                return Err(ModelError::Arity { op: op.to_owned(), expected, got: inputs.len() });
            }
            let checked = check_element(operator.element(), inputs);
            let shape = |reason| ModelError::Shape { op: op.to_owned(), reason };
            checked.and_then(|()| operator.infer(inputs)).map_err(shape)
        })
    }
}

fn check_element(element: Element, inputs: &[&TensorType]) -> Result<(), String> {
    let Some(x) = inputs.first() else { return Ok(()) };
    match element {
        Element::Float if !x.dtype.is_float() => Err(format!("takes floats, got {x}")),
        Element::Integer if x.dtype.is_float() => Err(format!("takes i32 ids, got {x}")),
        _ => Ok(()),
    }
}
