//! Attention: fused or materialised, over a ring of context-parallel ranks, with positions.

use cutplane_graph::{AdditiveAttention, Attention, Pass, PositionScheme};

use super::super::layout::AttentionKernel;
use super::super::model::Operator;
use super::super::stack::Trait;
use super::super::work::{Passes, Work};
use super::{Pricer, arithmetic_beside_products};
use crate::kernel::{self, AttentionAlgorithm, Kernel};

/// Time of a fused kernel that adds a bias to the scores over one without (Triton's kernel of 2022 against CUTLASS's: Dao
/// 2023, figure 4).
const BIASED: f64 = 1.8;
/// Passes over the scores that a learned bias adds: read and written once more.
const BIAS_PASSES: f64 = 2.0;

impl Pricer<'_> {
    pub(super) fn attention(&self, operator: &Operator, attention: &Attention) -> Passes {
        let passes = match self.layout.attention {
            AttentionKernel::Flash => self.fused_attention(operator, attention),
            AttentionKernel::Materialised => self.materialised_attention(operator, attention),
        };
        match attention.position {
            PositionScheme::Rotary(_) => passes + self.rotary(operator, attention),
            _ => passes,
        }
    }

    fn rotary(&self, operator: &Operator, attention: &Attention) -> Passes {
        let keys = attention.kv_heads() as f64 / attention.heads as f64;
        let passes = if self.stack.has(Trait::FusedPointwise) { 2.0 } else { 6.0 };
        self.pointwise(self.elements(operator) * (1.0 + keys), passes, passes, (passes / 2.0, passes / 2.0))
    }

    /// Query and key positions of a sample.
    fn lengths(operator: &Operator) -> (f64, f64) {
        let length = |ty: &cutplane_graph::TensorType| ty.dims.first().copied().unwrap_or(1) as f64;
        let queries = length(&operator.output);
        (queries, operator.inputs.get(1).map_or(queries, length))
    }

    fn fused_attention(&self, operator: &Operator, attention: &Attention) -> Passes {
        let (queries, keys) = Self::lengths(operator);
        let biased = matches!(attention.position, PositionScheme::Alibi { .. } | PositionScheme::RelativeBias { .. });
        let algorithm = self.stack.fused_attention();
        let slowed = if biased && algorithm != AttentionAlgorithm::Flash1 { BIASED } else { 1.0 };
        let pass = |pass| {
            let kernel = Kernel::Attention(kernel::Attention {
                batch: self.layout.micro_batch,
                heads: attention.heads.div_ceil(self.layout.tp),
                kv_heads: attention.kv_heads().div_ceil(self.layout.tp),
                query_len: queries as u64,
                key_len: attention.window.map_or(keys as u64, |window| window.min(keys as u64)),
                head_dim: attention.head_dim,
                causal: attention.causal && attention.window.is_none(),
                algorithm,
                pass,
            });
            let seconds = self.seconds(&kernel, arithmetic_beside_products(self.layout.precision)) * slowed;
            let launches = if pass == Pass::Forward { 2.0 } else { 4.0 };
            Work { attention: seconds / self.cp(), launches, ..Work::default() }
        };
        let (mut forward, mut backward) = (pass(Pass::Forward), pass(Pass::Backward));
        let keys = attention.kv_heads() as f64 / attention.heads as f64 * self.elements(operator);
        self.ring_exchange(keys, &mut forward, 1.0);
        self.ring_exchange(keys, &mut backward, 2.0);
        Passes { forward, input_gradient: backward, weight_gradient: Work::default(), recompute: forward }
    }

    /// Keys and values go around the ring beside the attention of the blocks that are there (Liu et al. 2023); what does
    /// not hide is exposed.
    fn ring_exchange(&self, keys: f64, work: &mut Work, times: f64) {
        if self.layout.cp == 1 {
            return;
        }
        let steps = self.cp() - 1.0;
        let exchange = steps * self.mesh.context_hop(2.0 * keys * self.bytes() * times);
        work.context_parallel += (exchange - work.attention * steps / self.cp()).max(0.0);
        work.collectives += steps;
    }

    /// Scores, softmax and context as kernels of their own.
    fn materialised_attention(&self, operator: &Operator, attention: &Attention) -> Passes {
        let (all_queries, keys) = Self::lengths(operator);
        let batch = operator.output.rows(self.layout.micro_batch) as f64 / all_queries;
        let groups = batch * attention.heads as f64 / self.tp();
        let (queries, width) = (all_queries / self.cp(), attention.head_dim as f64);
        let scores = groups * queries * keys * self.stored();
        let precision = arithmetic_beside_products(self.layout.precision);
        let product = self.product_in(queries, keys, width, groups, precision);
        let context = self.product_in(queries, width, keys, groups, precision);
        let mut products = product + context;
        let mut passes = self.stack.softmax_passes;
        match attention.position {
            PositionScheme::RelativeBias { .. } => passes += BIAS_PASSES,
            PositionScheme::RelativeProjection { .. } => {
                products += product;
                passes += self.stack.relative_passes;
            }
            _ => {}
        }
        let kernels = (passes / 2.0).floor().max(1.0);
        let forward = as_attention(products + self.traffic(passes * scores, kernels));
        // The softmax reads two and writes one, dropout as forward.
        let backward = as_attention(products * 2.0 + self.traffic((passes + 1.0) * scores, kernels));
        let copies = self.pointwise(self.elements(operator), 4.0, 8.0, (2.0, 4.0));
        Passes {
            forward: forward + copies.forward,
            input_gradient: backward + copies.input_gradient,
            weight_gradient: Work::default(),
            recompute: forward,
        }
    }

    /// `tanh(query + key)` for every pair, its weighted sum, the softmax, the context (Bahdanau, Cho and Bengio 2015).
    pub(super) fn additive_attention(&self, operator: &Operator, attention: &AdditiveAttention) -> Passes {
        let (queries, keys) = Self::lengths(operator);
        let batch = operator.output.rows(self.layout.micro_batch) as f64 / queries;
        let pairs = batch * queries * keys;
        let energies = self.pointwise(pairs * attention.units as f64, 4.0, 6.0, (3.0, 4.0));
        let softmax = self.pointwise(pairs, 2.0, 3.0, (1.0, 1.0));
        let context = self.product(queries, operator.output.last() as f64, keys, batch);
        let products = Passes { forward: context, input_gradient: context * 2.0, ..Passes::default() };
        energies + softmax + products
    }
}

fn as_attention(work: Work) -> Work {
    Work { attention: work.compute(), launches: work.launches, ..Work::default() }
}
