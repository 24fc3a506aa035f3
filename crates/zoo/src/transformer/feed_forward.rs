//! The feed-forward part of a decoder block: plain, gated, or a mixture of experts.

use cutplane_graph::{Combine, Dispatch, ExpertLinear, Gate, ModelError, OpKind, Router, Routing, ValueId};

use super::decoder::Decoder;
use super::{Dense, Scope};

/// A mixture of experts in place of the feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: u64,
    /// Experts that a token goes to.
    pub top_k: u64,
    /// Places of an expert over its even share of a sample's tokens; `None` drops no token.
    pub capacity_factor: Option<f64>,
    /// Whether the chosen experts' weights sum to one.
    pub normalised: bool,
}

impl Experts {
    /// Routing of samples of `s` tokens.
    fn routing(&self, s: u64) -> Routing {
        let even_share = (s * self.top_k) as f64 / self.count.max(1) as f64;
        let capacity = self.capacity_factor.map(|factor| (even_share * factor).ceil().max(1.0) as u64);
        Routing { experts: self.count, top_k: self.top_k, capacity, dealt: None }
    }
}

impl Decoder {
    /// From the normed stream to what is added to it.
    pub(super) fn feed_forward(&self, scope: &mut Scope<'_>, x: ValueId) -> Result<ValueId, ModelError> {
        let names = self.dialect.names();
        if let Some(experts) = &self.experts {
            return self.mixture(scope, x, experts);
        }
        let wide = self.dense().op(self.hidden, self.ffn_hidden, self.ffn_bias);
        let act = format!("{}.act", names.ffn);
        let active = if self.gated {
            let gate = scope.op(names.gate, wide.clone(), &[x])?;
            let up = scope.op(names.up, wide, &[x])?;
            scope.op(&act, OpKind::Gate(Gate { function: self.activation, packed: false }), &[gate, up])?
        } else {
            let up = scope.op(names.up, wide, &[x])?;
            scope.op(&act, OpKind::Activation { function: self.activation }, &[up])?
        };
        scope.op(names.down, self.residual_dense().op(self.ffn_hidden, self.hidden, self.ffn_bias), &[active])
    }

    /// Router, dispatch, the experts' gated layers, combination (Jiang et al. 2024, section 2.1).
    fn mixture(&self, scope: &mut Scope<'_>, x: ValueId, experts: &Experts) -> Result<ValueId, ModelError> {
        let names = self.dialect.names();
        let routing = experts.routing(scope.b.type_of(x).dims[0]);
        let module = |part: &str| format!("{}.{part}", names.ffn);
        let gates = Dense::op(self.dense(), self.hidden, experts.count, false);
        let logits = scope.op(&module("gate"), gates, &[x])?;
        let router = OpKind::Router(Router { routing, normalised: experts.normalised });
        let gates = scope.op(&module("router"), router, &[logits])?;
        let rows = scope.op(&module("dispatch"), OpKind::Dispatch(Dispatch { routing }), &[x, gates])?;
        let mut linear = |part: &str, inputs, outputs, rows| {
            let kind = OpKind::ExpertLinear(ExpertLinear { routing, inputs, outputs, init_std: self.init_std });
            expert_linear(scope, &module("experts"), part, kind, &[rows, gates])
        };
        let (hidden, inner) = (self.hidden, self.ffn_hidden);
        let up = linear(leaf(names.up), hidden, inner, rows)?;
        let active = if self.gated {
            let gate = linear(leaf(names.gate), hidden, inner, rows)?;
            let kind = OpKind::Gate(Gate { function: self.activation, packed: false });
            scope.op(&module("experts.act"), kind, &[gate, up])?
        } else {
            scope.op(&module("experts.act"), OpKind::Activation { function: self.activation }, &[up])?
        };
        let kind =
            OpKind::ExpertLinear(ExpertLinear { routing, inputs: inner, outputs: hidden, init_std: self.init_std });
        let down = expert_linear(scope, &module("experts"), leaf(names.down), kind, &[active, gates])?;
        scope.op(&module("combine"), OpKind::Combine(Combine { routing }), &[down, gates])
    }
}

/// The last part of a module path.
fn leaf(path: &'static str) -> &'static str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The experts' parameters are named `experts.{e}.{part}.weight`.
fn expert_linear(
    scope: &mut Scope<'_>,
    module: &str,
    part: &str,
    kind: OpKind,
    inputs: &[ValueId],
) -> Result<ValueId, ModelError> {
    let at = format!("{}.{module}", scope.path);
    let names: Vec<String> = (0..kind.params().len()).map(|expert| format!("{at}.{expert}.{part}.weight")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    scope.b.op_with_params(&format!("{at}.{part}"), kind, inputs, &names)
}
