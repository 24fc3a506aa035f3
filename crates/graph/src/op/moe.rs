//! Mixture of experts: routing, dispatch, the experts' products, combination (Shazeer et al. 2017; Lepikhin et al. 2021).

use serde::{Deserialize, Serialize};

use super::operator::{KEEPS_INPUTS, KEEPS_NOTHING, KEEPS_OUTPUT, Operator, View, Work, with_dims};
use super::pointwise::SOFTMAX_OPS;
use super::{Init, ParamSpec, is_default};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Collective, Layout, ShardRule, Sharded, Split};
use crate::tensor::TensorType;

/// How many experts there are, and how many of them see a token. Samples are routed apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Routing {
    /// Experts.
    pub experts: u64,
    /// Experts that a token goes to.
    pub top_k: u64,
    /// Tokens of one sample that an expert takes; further ones are dropped, missing ones are zeros. `None` drops nothing:
    /// every token has exactly `top_k` places.
    #[serde(default, skip_serializing_if = "is_default")]
    pub capacity: Option<u64>,
    /// Ranks that the experts are dealt to in equal runs; each also has an equal run of every sample's tokens, and all have all
    /// gates. Models have none: it stands in the graph that one rank of an axis computes ([`crate::LocalGraph`]).
    #[serde(default, skip_serializing_if = "is_default")]
    pub dealt: Option<u64>,
}

impl Routing {
    /// Rows that the experts compute for a sample of `s` tokens, sorted by expert.
    pub fn rows(&self, s: u64) -> u64 {
        let free = s.saturating_mul(self.top_k);
        self.capacity.map_or(free, |capacity| self.experts.saturating_mul(capacity))
    }

    /// Ranks that the experts are dealt to, 1 where they are not.
    pub fn ranks(&self) -> u64 {
        self.dealt.unwrap_or(1).max(1)
    }

    /// Experts of one rank.
    pub fn own_experts(&self) -> u64 {
        self.experts / self.ranks()
    }

    /// Most rows that one rank has for another of a sample of `s` tokens: a token goes to an expert once, and an expert takes
    /// no more than its capacity. Buffers between ranks have this many rows for each pair of them; missing ones are zeros.
    pub fn slots(&self, s: u64) -> u64 {
        let free = (s / self.ranks()).saturating_mul(self.top_k.min(self.own_experts()));
        self.capacity.map_or(free, |capacity| free.min(self.own_experts().saturating_mul(capacity)))
    }

    /// Dims of the rows where the tokens are: those for each rank after those for the one before it.
    fn sent_dims(&self, s: u64, width: u64) -> Vec<u64> {
        match self.dealt {
            None => vec![self.rows(s), width],
            Some(ranks) => vec![1, ranks.saturating_mul(self.slots(s)), width],
        }
    }

    /// Dims of the rows where the experts are, by the rank that they come from.
    fn received_dims(&self, s: u64, width: u64) -> Vec<u64> {
        match self.dealt {
            None => vec![self.rows(s), width],
            Some(ranks) => vec![ranks, self.slots(s), width],
        }
    }

    fn check(&self) -> Result<(), String> {
        let Self { experts, top_k, capacity, dealt } = *self;
        if dealt.is_some_and(|ranks| ranks == 0 || !experts.is_multiple_of(ranks)) {
            return Err(format!("cannot deal {experts} experts to {} ranks", dealt.unwrap_or(0)));
        }
        if top_k == 0 || top_k > experts || capacity == Some(0) {
            return Err(format!("a token goes to 1 to {experts} experts of a capacity above zero, got {top_k}"));
        }
        Ok(())
    }

    fn check_gates(&self, gates: &TensorType, s: Option<u64>) -> Result<u64, String> {
        self.check()?;
        match gates.dims[..] {
            [tokens, experts]
                if experts == self.experts && s.is_none_or(|s| s == tokens) && tokens.is_multiple_of(self.ranks()) =>
            {
                Ok(tokens)
            }
            _ => Err(format!("takes gates [s, {}], got {gates}", self.experts)),
        }
    }
}

/// Gates of a router: logits `[s, experts]` to weights `[s, experts]`, zero for all but the `top_k` largest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Router {
    /// Sizes.
    #[serde(flatten)]
    pub routing: Routing,
    /// Whether the softmax runs over the chosen experts only, so that their weights sum to one (Mixtral), and not over all
    /// (Switch Transformer).
    pub normalised: bool,
}

impl Operator for Router {
    fn label(&self) -> &'static str {
        "router"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        self.routing.check_gates(inputs[0], None)?;
        Ok(inputs[0].clone())
    }

    /// The softmax, and one comparison an expert for each choice.
    fn work(&self, at: &View<'_>) -> Work {
        Work { kernels: 2, ..Work::pointwise(at, SOFTMAX_OPS + u128::from(self.routing.top_k)) }
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_OUTPUT
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_row("router")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        at.free_axes(0, 1, None)
    }
}

/// Sorts tokens by expert: `x [s, dim]` and gates `[s, experts]` to `[rows, dim]`, see [`Routing::rows`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    /// Sizes.
    #[serde(flatten)]
    pub routing: Routing,
}

/// Rules of an operator between tokens and the experts' rows: under expert parallelism every rank brings its samples, or
/// its part of each sequence, and rows travel to and from the rank that owns their expert.
fn exchange_rules(routing: &Routing, elements: u64, to_experts: bool) -> Vec<ShardRule> {
    let experts = Sharded::split(Layout::Axis(0));
    let rule = |tokens: Layout| {
        let tokens = Sharded::split(tokens);
        let (from, to) = if to_experts { (tokens, experts) } else { (experts, tokens) };
        let rule = ShardRule::new(Split::Expert, routing.experts, &[from, tokens], &[], to);
        rule.with_inside(Collective::AllToAll, Collective::AllToAll, elements, 1)
    };
    vec![rule(Layout::Batch), rule(Layout::Axis(0))]
}

impl Operator for Dispatch {
    fn label(&self) -> &'static str {
        "dispatch"
    }

    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [s, dim] = inputs[0].dims[..] else { return Err(format!("takes [s, dim], got {}", inputs[0])) };
        let all = s.saturating_mul(self.routing.ranks());
        self.routing.check_gates(inputs[1], Some(all))?;
        Ok(with_dims(inputs[0], self.routing.sent_dims(all, dim)))
    }

    fn work(&self, at: &View<'_>) -> Work {
        Work { kernels: 2, ..Work::new(0, at.elements(), 2) }
    }

    /// The places of the rows.
    fn saved(&self, at: &View<'_>) -> Saved {
        Saved { internal_elements: at.rows(), ..KEEPS_NOTHING }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_row("dispatch")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        exchange_rules(&self.routing, at.output().elements(at.batch), true)
    }
}

/// A linear layer an expert, each over its own rows: `[rows, inputs]` and gates `[s, experts]` to `[rows, outputs]`. Every
/// expert `e` owns `e.weight [outputs, inputs]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpertLinear {
    /// Sizes.
    #[serde(flatten)]
    pub routing: Routing,
    /// Width in.
    pub inputs: u64,
    /// Width out.
    pub outputs: u64,
    /// Standard deviation of the initial weights.
    pub init_std: f64,
}

/// Most experts of one layer: each has parameters of its own.
const MAX_EXPERTS: u64 = 4096;

impl ExpertLinear {
    /// Rows that a rank computes when every expert has as many as every other.
    fn own_rows(&self, at: &View<'_>) -> u64 {
        let of_sample = at.input(1).dims.first().map_or(0, |s| self.routing.rows(*s));
        at.samples().saturating_mul(of_sample) / self.routing.ranks()
    }
}

impl Operator for ExpertLinear {
    fn label(&self) -> &'static str {
        "expert linear"
    }

    fn arity(&self) -> usize {
        2
    }

    fn params(&self) -> Vec<ParamSpec> {
        let init = Init::Normal { std: self.init_std };
        let spec = |expert: u64| ParamSpec::new(format!("{expert}.weight"), &[self.outputs, self.inputs], init);
        (0..self.routing.own_experts().min(MAX_EXPERTS)).map(spec).collect()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        if self.routing.experts > MAX_EXPERTS {
            return Err(format!("has {} experts; at most {MAX_EXPERTS} can be built", self.routing.experts));
        }
        let s = self.routing.check_gates(inputs[1], None)?;
        let rows = self.routing.received_dims(s, self.inputs);
        if inputs[0].dims != rows {
            return Err(format!("takes {rows:?}, got {}", inputs[0]));
        }
        Ok(with_dims(inputs[0], self.routing.received_dims(s, self.outputs)))
    }

    /// `2 rows inputs outputs`; backward twice.
    fn work(&self, at: &View<'_>) -> Work {
        let product = 2 * u128::from(self.own_rows(at)) * u128::from(self.inputs) * u128::from(self.outputs);
        Work::new(product, 2 * product, u32::try_from(self.routing.own_experts()).unwrap_or(u32::MAX))
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_INPUTS
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let rows = self.own_rows(at);
        let work = 2.0 * rows as f64 * self.inputs as f64 * self.outputs as f64;
        let axes = vec![rows, self.routing.own_experts(), self.inputs, self.outputs];
        ProfileKey { operator: "linear.experts", axes, work }
    }

    /// Experts dealt to the ranks; or a column and row split of every expert.
    fn rules(&self, _: &View<'_>) -> Vec<ShardRule> {
        let experts = self.routing.experts as usize;
        let (rows, width, whole) =
            (Sharded::split(Layout::Axis(0)), Sharded::split(Layout::Axis(1)), Sharded::replicated());
        let params = |layout: Sharded| vec![layout; experts];
        let owned = params(Sharded::split(Layout::Owned));
        vec![
            ShardRule::new(Split::Expert, self.routing.experts, &[rows, whole], &owned, rows),
            ShardRule::new(Split::Column, self.outputs, &[Sharded::shared(), whole], &params(rows), width),
            ShardRule::new(Split::Row, self.inputs, &[width, whole], &params(width), Sharded::partial()),
        ]
    }
}

/// Brings the experts' rows back to their tokens, weighted: `[rows, dim]` and gates `[s, experts]` to `[s, dim]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Combine {
    /// Sizes.
    #[serde(flatten)]
    pub routing: Routing,
}

impl Operator for Combine {
    fn label(&self) -> &'static str {
        "combine"
    }

    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let s = self.routing.check_gates(inputs[1], None)?;
        let dim = inputs[0].last();
        let rows = self.routing.sent_dims(s, dim);
        if inputs[0].dims != rows {
            return Err(format!("takes {rows:?}, got {}", inputs[0]));
        }
        Ok(with_dims(inputs[0], vec![s / self.routing.ranks(), dim]))
    }

    /// A multiplication and an addition for each row's element.
    fn work(&self, at: &View<'_>) -> Work {
        let forward = 2 * u128::from(at.input(0).elements(at.batch));
        Work::new(forward, 2 * forward, 2)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_INPUTS
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        at.per_row("combine")
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        exchange_rules(&self.routing, at.input(0).elements(at.batch), false)
    }
}
