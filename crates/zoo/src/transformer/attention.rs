//! Self-attention of a decoder block: projections, optional norms of queries and keys, attention, output projection.

use cutplane_graph::{Attention, AttentionInput, ModelError, OpKind, PositionScheme, Reshape, RmsNorm, ValueId};

use super::decoder::{Decoder, Positions};
use super::{Norm, Scope};

impl Decoder {
    /// The attention operator.
    fn attention_op(&self) -> Attention {
        let position = match self.positions {
            Positions::None | Positions::Learned { .. } => PositionScheme::None,
            Positions::Rotary(rotary) => PositionScheme::Rotary(rotary),
            Positions::Alibi { max_bias } => PositionScheme::Alibi { max_bias },
        };
        Attention {
            kv_heads: (self.kv_heads != self.heads).then_some(self.kv_heads),
            position,
            window: self.window,
            kernel: self.kernel,
            ..Attention::new(self.heads, self.head_dim(), true, self.packing)
        }
    }

    /// From the normed stream to what is added to it.
    pub(super) fn attention(&self, scope: &mut Scope<'_>, x: ValueId) -> Result<ValueId, ModelError> {
        let (names, head_dim) = (self.dialect.names(), self.head_dim());
        let (queries, keys) = (self.heads * head_dim, self.kv_heads * head_dim);
        let dense = self.dense();
        let inputs = if self.packing == AttentionInput::Separate {
            let mut project = |part: usize, width| {
                scope.op(names.projections[part], dense.op(self.hidden, width, self.qkv_bias), &[x])
            };
            let (q, k, v) = (project(0, queries)?, project(1, keys)?, project(2, keys)?);
            let q = self.head_norm(scope, "q_norm", q, self.heads)?;
            let k = self.head_norm(scope, "k_norm", k, self.kv_heads)?;
            vec![q, k, v]
        } else {
            vec![scope.op(names.qkv, dense.op(self.hidden, queries + 2 * keys, self.qkv_bias), &[x])?]
        };
        let mixed = scope.op(names.attention, OpKind::Attention(self.attention_op()), &inputs)?;
        scope.op(names.output, self.residual_dense().op(queries, self.hidden, self.output_bias), &[mixed])
    }

    /// A norm of each head's features (Qwen3), where the model has one.
    fn head_norm(&self, scope: &mut Scope<'_>, name: &str, x: ValueId, heads: u64) -> Result<ValueId, ModelError> {
        let Some(eps) = self.qk_norm else { return Ok(x) };
        let (s, dim) = (scope.b.type_of(x).dims[0], self.head_dim());
        let name = format!("{}.{name}", self.dialect.names().attention);
        let reshape = |dims: &[u64]| OpKind::Reshape(Reshape { dims: dims.to_vec() });
        let split = scope.op(&format!("{name}.split"), reshape(&[s, heads, dim]), &[x])?;
        let norm = OpKind::RmsNorm(RmsNorm { dim, eps, unit_offset: matches!(self.norm, Norm::RmsUnitOffset { .. }) });
        let normed = scope.op(&name, norm, &[split])?;
        scope.op(&format!("{name}.join"), reshape(&[s, heads * dim]), &[normed])
    }
}
