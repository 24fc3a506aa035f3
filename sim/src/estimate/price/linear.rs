//! Products with weights: linear layers, embeddings, experts.

use cutplane_graph::OpKind;

use super::super::layout::Precision;
use super::super::model::{Operator, Split};
use super::super::stack::Trait;
use super::super::work::{Passes, Work};
use super::{Pricer, arithmetic_beside_products};
use crate::kernel::Kernel;
use crate::network::Collective;

impl Pricer<'_> {
    /// Output, gradient of the input, gradient of the weight: three products (Narayanan et al. 2021, appendix), each of its
    /// own shape.
    pub(super) fn linear(&self, operator: &Operator, inputs: u64, outputs: u64, bias: bool) -> Passes {
        let rows = self.rows(operator);
        let (mut n, mut k) = (outputs as f64, inputs as f64);
        match operator.split {
            Split::Columns { .. } => n /= self.tp(),
            Split::Rows => k /= self.tp(),
            _ => {}
        }
        let mine = match operator.split {
            Split::Whole if self.layout.sequence_parallel => rows / self.tp(),
            _ => rows,
        };
        let mut passes = self.products_of_weight(mine, n, k, 1.0);
        let bytes = mine * n * self.bytes();
        if bias {
            // A bias before a residual is added with it.
            if !self.stack.has(Trait::BiasInProduct) && operator.split != Split::Rows {
                passes.forward += self.traffic(2.0 * bytes, 1.0);
            }
            passes.weight_gradient += self.traffic(bytes, 1.0);
        }
        passes
            + self.linear_collectives(
                operator,
                rows * inputs as f64 * self.bytes(),
                rows * outputs as f64 * self.bytes(),
            )
    }

    /// Casts of 8-bit products: input, gradient and weight are read in 16 bits and written in 8, once as they are and once
    /// transposed (Micikevicius et al. 2022, section 3; NVIDIA's Transformer Engine).
    fn casts(&self, rows: f64, n: f64, k: f64, batch: f64) -> Passes {
        if self.layout.precision != Precision::Fp8 {
            return Passes::default();
        }
        let once = |elements: f64| self.traffic(CAST_BYTES * elements * batch, 1.0);
        Passes { forward: once(rows * k + n * k), input_gradient: once(rows * n), ..Passes::default() }
    }

    fn products_of_weight(&self, rows: f64, n: f64, k: f64, batch: f64) -> Passes {
        let weight_gradient = if self.layout.frozen {
            Work::default()
        } else {
            self.product(n, k, rows, batch) + self.traffic(self.stack.accumulated_bytes * n * k * batch, 1.0)
        };
        let products = Passes {
            forward: self.product(rows, n, k, batch),
            input_gradient: self.product(rows, k, n, batch),
            weight_gradient,
            recompute: Work::default(),
        };
        products + self.casts(rows, n, k, batch)
    }

    fn linear_collectives(&self, operator: &Operator, input: f64, output: f64) -> Passes {
        let mut passes = Passes::default();
        let visible = 1.0 - self.stack.tensor_overlap;
        let ahead = 1.0 - self.stack.pipelined_overlap;
        match operator.split {
            Split::Columns { gathers: true } => {
                passes.forward = self.gather_tokens(input) * ahead;
                passes.input_gradient = self.sum_over_ranks(input) * visible;
                // The weight gradient wants the whole input once more.
                passes.weight_gradient = self.gather_tokens(input) * visible;
            }
            Split::Rows => {
                passes.forward = self.sum_over_ranks(output) * ahead;
                passes.input_gradient = self.gather_tokens(output) * ahead;
            }
            _ => {}
        }
        passes
    }

    pub(super) fn embedding(&self, operator: &Operator, vocab: u64, dim: u64) -> Passes {
        let rows = self.rows(operator);
        let bytes = rows * dim as f64 * self.bytes();
        let kernel = Kernel::Gather { indices: rows as u64, width: dim };
        let seconds = self.gpu.seconds(&kernel, arithmetic_beside_products(self.layout.precision));
        let table = vocab as f64 * dim as f64 / self.tp() * self.bytes();
        Passes {
            forward: Work { memory: seconds, launches: 1.0, ..Work::default() } + self.sum_over_ranks(bytes),
            input_gradient: self.gather_tokens(bytes),
            // Zeroed, scattered into, added to the gradient.
            weight_gradient: self.traffic(4.0 * table + 3.0 * bytes, 3.0),
            recompute: Work::default(),
        }
    }

    /// One product for each expert that the rank holds; tokens are taken to spread evenly. Where experts are not cut over the
    /// tensor-parallel ranks, each of those brings tokens of its own.
    pub(super) fn expert_linear(&self, operator: &Operator) -> Passes {
        let OpKind::ExpertLinear(expert) = &operator.kind else { return Passes::default() };
        let experts = (expert.routing.experts as f64 / self.layout.ep as f64).max(1.0);
        let rows = self.rows(operator) * self.etp() / self.tp();
        let (mut n, mut k) = (expert.outputs as f64, expert.inputs as f64);
        match operator.split {
            Split::Columns { .. } => n /= self.etp(),
            Split::Rows => k /= self.etp(),
            _ => {}
        }
        let passes = self.products_of_weight(rows / experts, n, k, experts);
        if self.layout.expert_tp() == 1 {
            return passes;
        }
        let bytes = rows * self.bytes();
        passes + self.linear_collectives(operator, bytes * expert.inputs as f64, bytes * expert.outputs as f64)
    }

    /// Tokens are permuted to the experts that they go to, or back; across ranks, by all-to-all.
    pub(super) fn exchange_of_experts(&self, operator: &Operator) -> Passes {
        let widest = self.elements(operator).max(self.input_elements(operator));
        let mut passes = self.pointwise(widest, 2.0, 2.0, (1.0, 1.0));
        if self.layout.ep > 1 {
            let bytes = widest * self.bytes() / if self.layout.sequence_parallel { 1.0 } else { self.tp() };
            let copies = widest / self.elements(operator).min(self.input_elements(operator)).max(1.0);
            let seconds = self.mesh.expert_all_to_all(bytes, copies.max(1.0));
            let exchange = Work { expert_parallel: seconds, collectives: 1.0, ..Work::default() };
            passes.forward += exchange;
            passes.input_gradient += exchange;
        }
        passes
    }

    /// A product of two values, batched over all axes but the last two.
    pub(super) fn product_of_values(&self, operator: &Operator) -> Passes {
        let output = &operator.output;
        let n = output.last() as f64;
        let m = output.dims.iter().rev().nth(1).copied().unwrap_or(1) as f64;
        let k = operator.inputs.first().map_or(1, cutplane_graph::TensorType::last) as f64;
        let batch = self.elements(operator) / (m * n);
        let (product, left, right) =
            (self.product(m, n, k, batch), self.product(m, k, n, batch), self.product(k, n, m, batch));
        Passes { forward: product, input_gradient: left + right, ..Passes::default() }
    }

    /// A loss over classes that may be sharded: largest logit, sum and target are summed over the ranks.
    pub(super) fn cross_entropy(&self, operator: &Operator, classes: u64) -> Passes {
        let rows = operator.inputs[0].rows(self.layout.micro_batch) as f64 / self.cp();
        let sharded = operator.split == Split::Classes;
        let classes = classes as f64 / if sharded { self.tp() } else { 1.0 };
        let wide = if self.bytes() > 2.0 { 4.0 / 3.0 } else { 1.0 };
        let bytes = rows * classes * self.stack.loss_bytes_per_logit * wide;
        let sums = if sharded { self.tensor(Collective::AllReduce, rows * 4.0) * 3.0 } else { Work::default() };
        Passes {
            forward: self.traffic(LOSS_FORWARD * bytes, 6.0) + sums,
            input_gradient: self.traffic((1.0 - LOSS_FORWARD) * bytes, 3.0),
            ..Passes::default()
        }
    }
}

/// Bytes to cast an element to 8 bits: read, written, written transposed.
const CAST_BYTES: f64 = 4.0;
/// Share of a loss's traffic that is forward.
const LOSS_FORWARD: f64 = 0.6;
