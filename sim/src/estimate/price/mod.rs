//! The kernels of an operator's passes on one rank, and what they cost.

mod attention;
mod linear;
mod pointwise;
mod specialised;

use cutplane_graph::OpKind;

use super::layout::{Layout, Precision};
use super::mesh::Mesh;
use super::model::{Operator, Split};
use super::stack::Stack;
use super::work::{Passes, Work};
use crate::kernel::{self, GpuModel, Kernel};
use crate::network::Collective;

/// Prices operators under one layout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pricer<'a> {
    pub(super) gpu: &'a GpuModel,
    pub(super) stack: &'a Stack,
    pub(super) mesh: Mesh<'a>,
    pub(super) layout: &'a Layout,
    /// Time of kernels in training over their isolated time.
    pub(super) slowdown: f64,
}

/// The arithmetic of matrix products.
const fn arithmetic(precision: Precision) -> kernel::Precision {
    match precision {
        Precision::F32 => kernel::Precision::F32,
        Precision::Tf32 => kernel::Precision::Tf32,
        Precision::AmpF16 => kernel::Precision::F16,
        Precision::Bf16 => kernel::Precision::Bf16,
        Precision::Fp8 => kernel::Precision::Fp8,
    }
}

/// The arithmetic of everything that stays in 16 bits when products are 8 bits wide.
const fn arithmetic_beside_products(precision: Precision) -> kernel::Precision {
    match precision {
        Precision::Fp8 => kernel::Precision::Bf16,
        other => arithmetic(other),
    }
}

impl Pricer<'_> {
    /// The passes of one operator over one micro-batch; [`Passes::recompute`] holds what selective recomputation repeats.
    pub(super) fn operator(&self, operator: &Operator) -> Passes {
        match &operator.kind {
            OpKind::Linear { inputs, outputs, bias, .. } => self.linear(operator, *inputs, *outputs, *bias),
            OpKind::Attention(attention) => self.attention(operator, attention),
            OpKind::AdditiveAttention(attention) => self.additive_attention(operator, attention),
            OpKind::Embedding { vocab, dim, .. } => self.embedding(operator, *vocab, *dim),
            OpKind::CrossEntropy { classes, .. } => self.cross_entropy(operator, *classes),
            OpKind::Convolution(convolution) => self.convolution(operator, convolution),
            OpKind::Recurrent(recurrent) => self.recurrent(operator, recurrent),
            OpKind::MatMul(_) => self.product_of_values(operator),
            OpKind::ExpertLinear(_) => self.expert_linear(operator),
            OpKind::Dispatch(_) | OpKind::Combine(_) => self.exchange_of_experts(operator),
            _ => self.traffic_of(operator),
        }
    }

    /// Bytes of an activation.
    fn bytes(&self) -> f64 {
        self.layout.precision.activation_bytes() as f64
    }

    /// Bytes of a number between products.
    fn stored(&self) -> f64 {
        if self.layout.precision.is_mixed() { self.stack.mixed_bytes } else { self.bytes() }
    }

    fn tp(&self) -> f64 {
        self.layout.tp as f64
    }

    /// Ranks that share an expert's matrices.
    fn etp(&self) -> f64 {
        self.layout.expert_tp() as f64
    }

    fn cp(&self) -> f64 {
        self.layout.cp as f64
    }

    /// Rows of the output that a rank works on outside of sequence parallelism.
    fn rows(&self, operator: &Operator) -> f64 {
        operator.output.rows(self.layout.micro_batch) as f64 / self.cp()
    }

    /// Share of an operator's elements that a rank computes.
    fn share(&self, operator: &Operator) -> f64 {
        let tensor = match operator.split {
            Split::Whole if self.layout.sequence_parallel => self.tp(),
            Split::Features | Split::Classes | Split::Columns { .. } => self.tp(),
            _ => 1.0,
        };
        1.0 / tensor / self.cp()
    }

    /// Elements of the output that a rank computes.
    fn elements(&self, operator: &Operator) -> f64 {
        operator.output.elements(self.layout.micro_batch) as f64 * self.share(operator)
    }

    /// Elements of all inputs that a rank reads.
    fn input_elements(&self, operator: &Operator) -> f64 {
        let all: f64 = operator.inputs.iter().map(|ty| ty.elements(self.layout.micro_batch) as f64).sum();
        all * self.share(operator)
    }

    fn seconds(&self, kernel: &Kernel, precision: kernel::Precision) -> f64 {
        self.gpu.seconds(kernel, precision) * self.slowdown
    }

    /// `batch` products of `[m, k]` with `[k, n]`.
    fn product(&self, m: f64, n: f64, k: f64, batch: f64) -> Work {
        self.product_in(m, n, k, batch, arithmetic(self.layout.precision))
    }

    fn product_in(&self, m: f64, n: f64, k: f64, batch: f64, precision: kernel::Precision) -> Work {
        let extent = |x: f64| (x.ceil() as u64).max(1);
        let kernel = Kernel::Matmul { m: extent(m), n: extent(n), k: extent(k), batch: extent(batch) };
        Work { products: self.seconds(&kernel, precision), launches: 1.0, ..Work::default() }
    }

    /// `kernels` pointwise kernels that move `bytes` in all.
    fn traffic(&self, bytes: f64, kernels: f64) -> Work {
        if bytes <= 0.0 || kernels <= 0.0 {
            return Work::default();
        }
        let each = Kernel::pointwise((bytes / kernels) as u64, 0);
        let seconds = self.gpu.seconds(&each, arithmetic_beside_products(self.layout.precision));
        Work { memory: kernels * seconds, launches: kernels, ..Work::default() }
    }

    /// Pointwise passes: so many times the elements are read or written forward and backward, in so many kernels.
    fn pointwise(&self, elements: f64, forward: f64, backward: f64, kernels: (f64, f64)) -> Passes {
        let bytes = elements * self.stored() * self.stack.pointwise_traffic;
        Passes {
            forward: self.traffic(forward * bytes, kernels.0),
            input_gradient: self.traffic(backward * bytes, kernels.1),
            ..Passes::default()
        }
    }

    fn tensor(&self, collective: Collective, bytes: f64) -> Work {
        if self.layout.tp == 1 {
            return Work::default();
        }
        Work { tensor_parallel: self.mesh.tensor(collective, bytes), collectives: 1.0, ..Work::default() }
    }

    /// The sum of partial outputs: an all-reduce, or a reduce-scatter along the sequence.
    fn sum_over_ranks(&self, bytes: f64) -> Work {
        let sequence = self.layout.sequence_parallel;
        self.tensor(if sequence { Collective::ReduceScatter } else { Collective::AllReduce }, bytes)
    }

    /// The tokens of all ranks, under sequence parallelism.
    fn gather_tokens(&self, bytes: f64) -> Work {
        if self.layout.sequence_parallel { self.tensor(Collective::AllGather, bytes) } else { Work::default() }
    }
}
