//! Typed operators: what each computes, the shapes that it takes and gives, and the parameters that it owns.

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::tensor::{Dtype, TensorType};

/// How a linear layer's weight lies in memory and in checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightLayout {
    /// `[inputs, outputs]`, as GPT-2's `Conv1D` stores it.
    InOut,
    /// `[outputs, inputs]`, as `torch.nn.Linear` and tied embeddings store it.
    OutIn,
}

/// Pointwise non-linearities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationKind {
    /// `x Φ(x)` with the error function (BERT, "gelu").
    Gelu,
    /// The tanh approximation of GELU (GPT-2, "gelu_new").
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// Hyperbolic tangent (BERT's pooler).
    Tanh,
}

impl ActivationKind {
    /// Its name in profiles.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Gelu => "activation.gelu",
            Self::GeluTanh => "activation.gelu-tanh",
            Self::Relu => "activation.relu",
            Self::Tanh => "activation.tanh",
        }
    }
}

/// How attention receives its query, key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionInput {
    /// One value `[s, 3 heads head_dim]`, query first (GPT-2's `c_attn`).
    Packed,
    /// Three values `[s, heads head_dim]`.
    Separate,
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
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

/// A parameter that an operator owns.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Its name below the operator's: `weight`, `bias`.
    pub suffix: &'static str,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its initial value.
    pub init: Init,
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
    /// Adds learned absolute positions: `x [s, dim]` to `x + weight[..s]`; parameter `weight [positions, dim]`.
    PositionEmbedding {
        /// Rows of the table; at least `s`.
        positions: u64,
        /// Width.
        dim: u64,
        /// Standard deviation of the initial weight.
        init_std: f64,
    },
    /// Layer normalisation over the last axis (Ba, Kiros and Hinton 2016) with `weight [dim]` and `bias [dim]`.
    LayerNorm {
        /// Width of the last axis.
        dim: u64,
        /// Added to the variance.
        eps: f64,
    },
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
    /// Scaled dot-product attention over `heads` heads (Vaswani et al. 2017, equation 1), scores materialised:
    /// `softmax(Q K^T / sqrt(head_dim)) V`, output `[s, heads head_dim]`.
    Attention {
        /// Number of heads.
        heads: u64,
        /// Width of a head.
        head_dim: u64,
        /// Whether position `i` sees only positions up to `i`.
        causal: bool,
        /// Layout of the input.
        input: AttentionInput,
    },
    /// A pointwise function.
    Activation {
        /// Which one.
        function: ActivationKind,
    },
    /// Sum of two values of one shape: the residual connection.
    Add,
    /// Takes one position of the sequence: `[s, h]` to `[h]` (BERT's pooler reads position 0).
    SelectToken {
        /// The position.
        index: u64,
    },
    /// Mean cross-entropy of logits `[.., classes]` against i32 targets `[..]`; a target of -100 is not counted. The
    /// sum is divided by `batch * counted`, so that the means of equal micro-batches average to the mean of the batch.
    CrossEntropy {
        /// Number of classes.
        classes: u64,
        /// Targets counted in each sample.
        counted: u64,
    },
}

/// The target value that a loss leaves out, as in PyTorch and Hugging Face.
pub const IGNORED_TARGET: i32 = -100;

impl OpKind {
    /// A linear layer with bias, weight `[inputs, outputs]`, initial standard deviation 0.02.
    pub fn linear(inputs: u64, outputs: u64) -> Self {
        Self::Linear { inputs, outputs, bias: true, layout: WeightLayout::InOut, init_std: 0.02 }
    }

    /// Number of inputs.
    pub fn arity(&self) -> usize {
        match self {
            Self::Add | Self::CrossEntropy { .. } => 2,
            Self::Attention { input: AttentionInput::Separate, .. } => 3,
            _ => 1,
        }
    }

    /// The kind's name for people: `linear`, `attention`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Embedding { .. } => "embedding",
            Self::PositionEmbedding { .. } => "position embedding",
            Self::LayerNorm { .. } => "layer norm",
            Self::Linear { .. } => "linear",
            Self::Attention { .. } => "attention",
            Self::Activation { .. } => "activation",
            Self::Add => "add",
            Self::SelectToken { .. } => "select token",
            Self::CrossEntropy { .. } => "cross-entropy",
        }
    }

    /// The parameters that the operator owns, in the order in which it uses them.
    pub fn params(&self) -> Vec<ParamSpec> {
        let spec = |suffix, shape: &[u64], init| ParamSpec { suffix, shape: shape.to_vec(), init };
        match *self {
            Self::Embedding { vocab, dim, init_std } => {
                vec![spec("weight", &[vocab, dim], Init::Normal { std: init_std })]
            }
            Self::PositionEmbedding { positions, dim, init_std } => {
                vec![spec("weight", &[positions, dim], Init::Normal { std: init_std })]
            }
            Self::LayerNorm { dim, .. } => {
                vec![spec("weight", &[dim], Init::Ones), spec("bias", &[dim], Init::Zeros)]
            }
            Self::Linear { inputs, outputs, bias, layout, init_std } => {
                let shape = match layout {
                    WeightLayout::InOut => [inputs, outputs],
                    WeightLayout::OutIn => [outputs, inputs],
                };
                let weight = spec("weight", &shape, Init::Normal { std: init_std });
                std::iter::once(weight).chain(bias.then(|| spec("bias", &[outputs], Init::Zeros))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Type of the output for the given inputs.
    ///
    /// # Errors
    /// [`ModelError::Arity`] or [`ModelError::Shape`], naming `op`.
    pub fn infer(&self, op: &str, inputs: &[&TensorType]) -> Result<TensorType, ModelError> {
        if inputs.len() != self.arity() {
            return Err(ModelError::Arity { op: op.to_owned(), expected: self.arity(), got: inputs.len() });
        }
        let refuse = |reason: String| Err(ModelError::Shape { op: op.to_owned(), reason });
        let x = inputs[0];
        let integer_input = matches!(self, Self::Embedding { .. });
        if x.dtype.is_float() == integer_input {
            let want = if integer_input { "i32 ids" } else { "floats" };
            return refuse(format!("takes {want}, got {x}"));
        }
        match *self {
            Self::Embedding { dim, .. } => {
                let dims: Vec<u64> = x.dims.iter().copied().chain([dim]).collect();
                Ok(TensorType { batched: x.batched, dims, dtype: Dtype::F32 })
            }
            Self::PositionEmbedding { positions, dim, .. } => match x.dims[..] {
                [s, h] if h == dim && s <= positions => Ok(x.clone()),
                [s, h] if h == dim => refuse(format!("{s} tokens, but only {positions} positions")),
                _ => refuse(format!("takes [s, {dim}], got {x}")),
            },
            Self::LayerNorm { dim, .. } if x.last() != dim => refuse(format!("takes [.., {dim}], got {x}")),
            Self::Linear { inputs, .. } if x.dims.is_empty() || x.last() != inputs => {
                refuse(format!("takes [.., {inputs}], got {x}"))
            }
            Self::Linear { outputs, .. } => {
                let mut y = x.clone();
                *y.dims.last_mut().expect("checked above") = outputs;
                Ok(y)
            }
            Self::Attention { heads, head_dim, input, .. } => {
                let width = heads.saturating_mul(head_dim);
                let want = if input == AttentionInput::Packed { width.saturating_mul(3) } else { width };
                if x.dims.len() != 2 || x.last() != want || inputs.iter().any(|other| *other != x) {
                    return refuse(format!("takes [s, {want}] with {heads} heads of {head_dim}, got {x}"));
                }
                Ok(TensorType { dims: vec![x.dims[0], width], ..x.clone() })
            }
            Self::Add if inputs[1] != x => refuse(format!("adds values of one shape, got {x} and {}", inputs[1])),
            Self::SelectToken { index } => match x.dims[..] {
                [s, h] if index < s => Ok(TensorType { dims: vec![h], ..x.clone() }),
                _ => refuse(format!("takes [s, h] with s above {index}, got {x}")),
            },
            Self::CrossEntropy { classes, counted } => {
                let targets = inputs[1];
                let rows: u64 = targets.dims.iter().product();
                let fits = x.dims.len() == targets.dims.len() + 1
                    && x.dims.starts_with(&targets.dims)
                    && x.last() == classes
                    && targets.dtype == Dtype::I32
                    && (1..=rows).contains(&counted);
                if !fits {
                    return refuse(format!(
                        "takes logits [.., {classes}] and i32 targets [..] of which 1 to all are counted ({counted}), got {x} and {targets}"
                    ));
                }
                Ok(TensorType::unbatched(&[], Dtype::F32))
            }
            Self::LayerNorm { .. } | Self::Activation { .. } | Self::Add => Ok(x.clone()),
        }
    }
}
