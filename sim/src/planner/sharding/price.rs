//! What one device computes of a split operator.

use cutplane_graph::sharding::Split;
use cutplane_graph::{OpId, OpKind, Pass};

use super::problem::ShardProblem;
use super::strategy::Treated;
use crate::kernel::{Attention, AttentionAlgorithm, Kernel, Precision};

/// Splits that leave a product its columns and inner extent.
const ROWS: [Split; 3] = [Split::Batch, Split::Sequence, Split::Spatial];

/// Passes over materialised scores: scale, mask and softmax in one kernel.
const SOFTMAX_PASSES: u32 = 2;

/// Kernels of one operator on one device, by the shapes that its rules leave.
struct Local<'a, 'p> {
    problem: &'a ShardProblem<'p>,
    op: OpId,
    treated: &'a Treated<'a>,
    batch: u64,
}

/// Time of an operator on one device for one micro-batch, forward and backward, s. Products, convolutions (as products) and
/// attention by their local shapes, everything else by its traffic.
pub(super) fn seconds(problem: &ShardProblem<'_>, op: OpId, treated: &Treated<'_>) -> [f64; 2] {
    Local { problem, op, treated, batch: problem.micro_batch() }.seconds()
}

impl Local<'_, '_> {
    fn degree(&self, of: &[Split]) -> u64 {
        self.treated.degree(self.problem.mesh, of)
    }

    fn kernel(&self, kernel: &Kernel) -> f64 {
        self.problem.gpu.seconds(kernel, Precision::of(self.problem.precision))
    }

    fn seconds(&self) -> [f64; 2] {
        let graph = self.problem.graph;
        let node = graph.op(self.op);
        let output = &graph.value(node.output).ty;
        let (columns, inner) = (self.degree(&[Split::Column, Split::Units]), self.degree(&[Split::Row]));
        let rows = |rows: u64| rows.div_ceil(self.degree(&ROWS));
        match &node.kind {
            OpKind::Linear { inputs, outputs, .. } => {
                self.product(rows(output.rows(self.batch)), outputs.div_ceil(columns), inputs.div_ceil(inner), 1)
            }
            OpKind::ExpertLinear(kind) => {
                let experts = kind.routing.experts.max(1);
                let each = output.rows(self.batch).div_ceil(experts);
                let each = each.div_ceil(self.degree(&[Split::Batch, Split::Sequence]));
                let experts = experts.div_ceil(self.degree(&[Split::Expert]));
                self.product(each, kind.outputs.div_ceil(columns), kind.inputs.div_ceil(inner), experts)
            }
            OpKind::MatMul(_) => {
                let dims = &output.dims;
                let m = dims[dims.len() - 2];
                let matrices = output.elements(self.batch) / (m * output.last()).max(1);
                let apart = matrices.max(1).div_ceil(self.degree(&[Split::Batch, Split::Heads]));
                let k = graph.value(node.inputs[0]).ty.last();
                self.product(m.div_ceil(self.degree(&[Split::Sequence])), output.last(), k, apart)
            }
            OpKind::Attention(_) => [self.attention(Pass::Forward), self.attention(Pass::Backward)],
            OpKind::Convolution(kind) => {
                let groups = kind.groups.max(1);
                let positions = output.elements(self.batch) / kind.outputs.max(1);
                let columns = (kind.outputs / groups).max(1).div_ceil(columns);
                let flops = graph.facts(self.op, Pass::Forward, self.batch).flops.as_f64();
                let k = (flops / (2.0 * output.elements(self.batch) as f64).max(1.0)).ceil() as u64;
                let groups = groups.div_ceil(self.degree(&[Split::Channel]));
                self.product(rows(positions), columns, k.max(1).div_ceil(inner), groups)
            }
            OpKind::Recurrent(kind) => {
                let steps = graph.value(node.inputs[0]).ty.dims.first().copied().unwrap_or(1);
                let samples = self.batch.div_ceil(self.degree(&[Split::Batch]));
                let gates = kind.cell.gates().saturating_mul(kind.hidden).div_ceil(columns);
                self.product(samples, gates, kind.inputs.saturating_add(kind.width()), 1).map(|one| one * steps as f64)
            }
            _ => [self.traffic(Pass::Forward), self.traffic(Pass::Backward)],
        }
    }

    /// A product, and those of its two gradients.
    fn product(&self, m: u64, n: u64, k: u64, batch: u64) -> [f64; 2] {
        let one = |m, n, k| self.kernel(&Kernel::Matmul { m, n, k, batch });
        [one(m, n, k), one(m, k, n) + one(k, n, m)]
    }

    fn attention(&self, pass: Pass) -> f64 {
        let graph = self.problem.graph;
        let node = graph.op(self.op);
        let OpKind::Attention(kind) = &node.kind else { return 0.0 };
        let length = |value: usize| graph.value(node.inputs[value.min(node.inputs.len() - 1)]).ty.dims[0];
        let heads = self.degree(&[Split::Heads]);
        let algorithm = if self.problem.is_fused(self.op) {
            AttentionAlgorithm::Flash2
        } else {
            AttentionAlgorithm::Materialised { softmax_passes: SOFTMAX_PASSES }
        };
        self.kernel(&Kernel::Attention(Attention {
            batch: self.batch.div_ceil(self.degree(&[Split::Batch])),
            heads: kind.heads.div_ceil(heads),
            kv_heads: kind.kv_heads().div_ceil(heads),
            query_len: length(0).div_ceil(self.degree(&[Split::Context])),
            key_len: length(1),
            head_dim: kind.head_dim,
            causal: kind.causal,
            algorithm,
            pass,
        }))
    }

    /// An operator that is bound by memory.
    fn traffic(&self, pass: Pass) -> f64 {
        let facts = self.problem.graph.facts(self.op, pass, self.batch);
        let narrower = self.problem.precision.size() as f64 / 4.0;
        let bytes = facts.bytes.as_f64() * narrower / self.treated.ranks(self.problem.mesh) as f64;
        if bytes <= 0.0 {
            return 0.0;
        }
        // Facts count bytes both ways together; a pointwise kernel reads about as much as it writes.
        let half = (bytes / 2.0).ceil() as u64;
        let moved = Kernel::MemoryBound { bytes_read: half, bytes_written: half, kernels: facts.kernels, rows: None };
        self.problem.gpu.seconds(&moved, Precision::F32)
    }
}

/// Time of the update of so many parameters, s: weight, gradient and state are read, weight and state written.
pub(super) fn update(problem: &ShardProblem<'_>, parameters: f64) -> f64 {
    let of = problem.state_bytes();
    let whole = |bytes: f64| (parameters * bytes).ceil() as u64;
    let kernel = Kernel::pointwise(whole(of.gradient + of.optimizer), whole(of.weight + of.optimizer));
    if parameters > 0.0 { problem.gpu.seconds(&kernel, Precision::F32) } else { 0.0 }
}
