//! Attention.

use serde::{Deserialize, Serialize};

use super::operator::{KEEPS_INPUTS, Operator, View, Work, with_dims};
use super::pointwise::SOFTMAX_OPS;
use super::position::PositionScheme;
use super::{Init, ParamSpec, is_default};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Collective, Layout, ShardRule, Sharded, Split};
use crate::tensor::TensorType;

/// How attention receives its query, key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionInput {
    /// One value `[s, (heads + 2 kv_heads) head_dim]`: all queries, then all keys, then all values (GPT-2's `c_attn`).
    Packed,
    /// One value of the same width in `kv_heads` groups, each of its queries, its key, its value (GPT-NeoX, Falcon).
    PackedByGroup,
    /// Three values: `[s, heads head_dim]`, and twice `[t, kv_heads head_dim]`.
    Separate,
}

/// How the scores are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionKernel {
    /// The scores are written to memory, and the softmax is kept for the backward pass.
    #[default]
    Materialised,
    /// Tiles of scores stay on chip and are computed again backward (Dao et al. 2022); masked tiles are skipped.
    Fused,
}

/// Scaled dot-product attention (Vaswani et al. 2017, equation 1): `softmax(scale Q K^T) V` over `heads` heads, output
/// `[s, heads head_dim]`. Keys and values may be shared by groups of heads (Ainslie et al. 2023), may be longer than the
/// queries (cross-attention, or a memory of earlier segments before the queries' own), and positions may enter as
/// [`PositionScheme`] says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Number of heads.
    pub heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Whether position `i` of `s` sees only the keys up to `i + t - s` of `t`.
    pub causal: bool,
    /// Layout of the input.
    pub input: AttentionInput,
    /// Heads of keys and values; `None` for as many as `heads`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kv_heads: Option<u64>,
    /// How positions enter the scores.
    #[serde(default, skip_serializing_if = "is_default")]
    pub position: PositionScheme,
    /// Keys that a query sees, itself included (sliding window, Beltagy et al. 2020); `None` for all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub window: Option<u64>,
    /// Factor of the scores; `None` for `1 / sqrt(head_dim)`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scale: Option<f64>,
    /// How the scores are computed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kernel: AttentionKernel,
}

impl Attention {
    /// Plain attention over as many heads of keys and values as of queries.
    pub fn new(heads: u64, head_dim: u64, causal: bool, input: AttentionInput) -> Self {
        Self {
            heads,
            head_dim,
            causal,
            input,
            kv_heads: None,
            position: PositionScheme::None,
            window: None,
            scale: None,
            kernel: AttentionKernel::Materialised,
        }
    }

    /// Heads of keys and values.
    pub fn kv_heads(&self) -> u64 {
        self.kv_heads.unwrap_or(self.heads)
    }

    /// Factor of the scores.
    pub fn scale(&self) -> f64 {
        self.scale.unwrap_or_else(|| (self.head_dim as f64).powf(-0.5))
    }

    /// True for what GPT-2 and BERT have: one key a query head, no positions, no window.
    pub fn is_plain(&self) -> bool {
        self.kv_heads() == self.heads
            && self.position == PositionScheme::None
            && self.window.is_none()
            && self.scale.is_none()
            && self.input != AttentionInput::PackedByGroup
    }

    /// Width of all queries, and of all keys.
    pub(super) fn widths(&self) -> (u64, u64) {
        (self.heads.saturating_mul(self.head_dim), self.kv_heads().saturating_mul(self.head_dim))
    }

    /// Queries and keys a sample.
    pub(super) fn lengths(&self, at: &View<'_>) -> (u64, u64) {
        let s = at.output().dims[0];
        let t = if self.input == AttentionInput::Separate { at.input(1).dims[0] } else { s };
        (s, t)
    }

    /// Elements of the score matrices: `b heads s t`.
    pub(crate) fn scores(&self, at: &View<'_>) -> u64 {
        let (s, t) = self.lengths(at);
        at.samples().saturating_mul(self.heads).saturating_mul(s).saturating_mul(t)
    }

    /// Pairs of query and key that a kernel computes: all of them, or for a fused kernel those that are not masked.
    fn pairs(&self, at: &View<'_>) -> u128 {
        let (s, t) = self.lengths(at);
        let groups = u128::from(at.samples()) * u128::from(self.heads);
        let (s, t) = (u128::from(s), u128::from(t));
        if self.kernel == AttentionKernel::Materialised || !self.causal {
            return groups * s * t;
        }
        // Query i sees i + 1 + t - s keys, at most the window.
        let window = self.window.map_or(t, |window| u128::from(window).min(t));
        let growing = (window + s).saturating_sub(t).min(s);
        let first = t - s + 1;
        let triangle = growing * first + growing * growing.saturating_sub(1) / 2;
        groups * (triangle + (s - growing) * window)
    }
}

impl Operator for Attention {
    fn label(&self) -> &'static str {
        "attention"
    }

    fn arity(&self) -> usize {
        if self.input == AttentionInput::Separate { 3 } else { 1 }
    }

    fn params(&self) -> Vec<ParamSpec> {
        let normal = |suffix: &'static str, shape: &[u64]| ParamSpec::new(suffix, shape, Init::Normal { std: 0.02 });
        match self.position {
            PositionScheme::RelativeBias { buckets, .. } => vec![normal("weight", &[buckets, self.heads])],
            PositionScheme::RelativeProjection { hidden } => vec![
                normal("r_net.weight", &[self.widths().0, hidden]),
                normal("r_w_bias", &[self.heads, self.head_dim]),
                normal("r_r_bias", &[self.heads, self.head_dim]),
            ],
            PositionScheme::None | PositionScheme::Rotary(_) | PositionScheme::Alibi { .. } => Vec::new(),
        }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let ((queries, keys), x) = (self.widths(), inputs[0]);
        let packed = queries.saturating_add(keys.saturating_mul(2));
        let want = if self.input == AttentionInput::Separate { queries } else { packed };
        let (heads, head_dim) = (self.heads, self.head_dim);
        let refuse = || format!("takes [s, {want}] with {heads} heads of {head_dim}, got {x}");
        if x.dims.len() != 2 || x.last() != want {
            return Err(refuse());
        }
        if self.kv_heads() == 0 || heads % self.kv_heads() != 0 {
            return Err(format!("{heads} heads cannot share {} heads of keys", self.kv_heads()));
        }
        if let [_, k, v] = inputs {
            let fits = |ty: &TensorType| ty.dims.len() == 2 && ty.last() == keys && ty.batched == x.batched;
            let long_enough = !self.causal || k.dims.first() >= x.dims.first();
            if k != v || !fits(k) || k.dtype != x.dtype || !long_enough {
                return Err(format!("{} and keys and values [t, {keys}], got {k} and {v}", refuse()));
            }
        }
        self.position.check(head_dim)?;
        Ok(with_dims(x, vec![x.dims[0], queries]))
    }

    /// Forward two products of `2 pairs head_dim` and the softmax; backward twice that, and for a fused kernel the scores
    /// once more (Dao 2023, section 2.3.1: five products in place of two).
    fn work(&self, at: &View<'_>) -> Work {
        let pairs = self.pairs(at);
        let product = 2 * pairs * u128::from(self.head_dim);
        let positions = self.position.work(self, at, pairs);
        let forward = 2 * product + SOFTMAX_OPS * pairs + positions;
        match self.kernel {
            AttentionKernel::Fused => Work::new(forward, 2 * forward + product, 1),
            AttentionKernel::Materialised => {
                // Written by Q K^T, read and written by the softmax, read by the product with V.
                let scores = 4 * u128::from(self.scores(at)) * u128::from(at.output().dtype.size());
                Work::new(forward, 2 * forward, 4).with_bytes(at.moved() + scores)
            }
        }
    }

    /// The softmax, `b heads s t` elements (Korthikanti et al. 2022, section 4.1, without dropout); of a fused kernel the
    /// output and the logarithm of each row's sum.
    fn saved(&self, at: &View<'_>) -> Saved {
        match self.kernel {
            AttentionKernel::Materialised => Saved { internal_elements: self.scores(at), ..KEEPS_INPUTS },
            AttentionKernel::Fused => {
                let rows = at.rows().saturating_mul(self.heads);
                Saved { inputs: true, output: true, internal_elements: rows }
            }
        }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let (s, t) = self.lengths(at);
        let groups = self.heads.saturating_mul(at.samples());
        let work = 4.0 * groups as f64 * (s as f64 * t as f64) * self.head_dim as f64;
        if !self.is_plain() || s != t {
            let operator = if self.causal { "attention.general.causal" } else { "attention.general" };
            return ProfileKey { operator, axes: vec![groups, s, t, self.head_dim], work };
        }
        let operator = match (self.causal, self.input == AttentionInput::Separate) {
            (true, false) => "attention.causal.packed",
            (true, true) => "attention.causal",
            (false, false) => "attention.packed",
            (false, true) => "attention",
        };
        ProfileKey { operator, axes: vec![groups, s, self.head_dim], work }
    }

    /// Heads (Shoeybi et al. 2019), limited by the heads of keys; or query positions, with keys and values gathered from
    /// all ranks (context parallelism; a ring sends the same bytes in pieces, Liu et al. 2023).
    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let (positions, heads) = (Sharded::split(Layout::Axis(0)), Sharded::split(Layout::Axis(1)));
        let inputs = self.arity();
        let (params, whole): (Vec<_>, Vec<_>) = match self.position {
            PositionScheme::RelativeBias { .. } => (vec![heads], vec![Sharded::shared()]),
            PositionScheme::RelativeProjection { .. } => (vec![positions; 3], vec![Sharded::shared(); 3]),
            _ => (Vec::new(), Vec::new()),
        };
        let (s, t) = self.lengths(at);
        let keys = at.samples().saturating_mul(t).saturating_mul(self.widths().1).saturating_mul(2);
        let context = ShardRule::new(Split::Context, s, &vec![positions; inputs], &whole, positions);
        vec![
            ShardRule::new(Split::Heads, self.kv_heads(), &vec![heads; inputs], &params, heads),
            context.with_inside(Collective::AllGather, Collective::ReduceScatter, keys, 1),
        ]
    }
}

/// Additive attention (Bahdanau, Cho and Bengio 2015, section 3.1) of queries `[s, units]` over keys `[t, units]` and
/// values `[t, width]`, all projected already: scores `g v / |v| . tanh(q + k + bias)`, output `[s, width]`. Parameters
/// `v [units]`, and where normed (Salimans and Kingma 2016) `g [1]`, and `bias [units]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdditiveAttention {
    /// Width of queries and keys.
    pub units: u64,
    /// Whether `v` is normed and scaled by `g`.
    pub normed: bool,
    /// Whether there is a bias in the hyperbolic tangent.
    pub bias: bool,
}

impl AdditiveAttention {
    /// Elements of the scores: `b s t`.
    fn scores(at: &View<'_>) -> u64 {
        let (s, t) = (at.input(0).dims[0], at.input(1).dims[0]);
        at.samples().saturating_mul(s).saturating_mul(t)
    }
}

impl Operator for AdditiveAttention {
    fn label(&self) -> &'static str {
        "additive attention"
    }

    fn arity(&self) -> usize {
        3
    }

    fn params(&self) -> Vec<ParamSpec> {
        let bound = (self.units.max(1) as f64).powf(-0.5);
        let v = ParamSpec::new("v", &[self.units], Init::Uniform { bound });
        let g = || ParamSpec::new("g", &[1], Init::Normal { std: bound });
        let bias = || ParamSpec::new("bias", &[self.units], Init::Zeros);
        [Some(v), self.normed.then(g), self.bias.then(bias)].into_iter().flatten().collect()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
        let alike = [k, v].iter().all(|ty| ty.dims.len() == 2 && ty.batched == q.batched && ty.dtype == q.dtype);
        let fits = q.dims.len() == 2 && alike && q.last() == self.units && k.last() == self.units;
        if !fits || k.dims[0] != v.dims[0] {
            let units = self.units;
            return Err(format!("takes [s, {units}], [t, {units}] and [t, width], got {q}, {k} and {v}"));
        }
        Ok(with_dims(q, vec![q.dims[0], v.dims[1]]))
    }

    /// For each pair the sum, hyperbolic tangent and product with `v` over the units (10 operations a unit), the softmax,
    /// and the product with the value.
    fn work(&self, at: &View<'_>) -> Work {
        let pairs = u128::from(Self::scores(at));
        let width = u128::from(at.output().last());
        let forward = pairs * (10 * u128::from(self.units) + SOFTMAX_OPS + 2 * width);
        Work::new(forward, 2 * forward, 4)
    }

    /// The hyperbolic tangents and the softmax.
    fn saved(&self, at: &View<'_>) -> Saved {
        Saved { internal_elements: Self::scores(at).saturating_mul(self.units.saturating_add(1)), ..KEEPS_INPUTS }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let (s, t) = (at.input(0).dims[0], at.input(1).dims[0]);
        let work = Self::scores(at) as f64 * self.units as f64;
        ProfileKey { operator: "additive_attention", axes: vec![at.samples(), s, t, self.units], work }
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let (queries, whole) = (Sharded::split(Layout::Axis(0)), Sharded::shared());
        let params = vec![whole; self.params().len()];
        vec![ShardRule::new(Split::Sequence, at.output().dims[0], &[queries, whole, whole], &params, queries)]
    }
}
