//! Recurrent layers and attentions as kernels.

use cutplane_graph::{Op, Pass, Recurrent as GraphRecurrent};

use super::{
    Attention, AttentionAlgorithm, Both, Charge, Kernel, Precision, Pricer, Product, Recurrent, RecurrentCell,
    RowBlocks,
};

impl Pricer<'_> {
    /// A layer over all its steps at once: one product for the inputs of all steps, then the steps.
    pub(super) fn recurrent(&self, op: &Op, kind: &GraphRecurrent) -> Both {
        let steps = self.ty(op.inputs[0]).dims.first().copied().unwrap_or(1);
        let cell = match kind.cell.gates() {
            1 => RecurrentCell::Rnn,
            3 => RecurrentCell::Gru,
            _ => RecurrentCell::Lstm,
        };
        let gated = kind.cell.gates() * kind.hidden;
        let rows = (self.batch * steps).max(1);
        let walk = |product| {
            let shape = Recurrent { cell, batch: self.batch, steps, hidden: kind.hidden, product };
            let seconds = self.gpu.seconds(&Kernel::Recurrent(shape), self.numerics.products);
            Charge { recurrent: seconds, launches: 1.0, ..Charge::default() }
        };
        let projected = |m, n, k| match kind.projection {
            Some(width) => self.product(&Kernel::matmul(m, if n == 0 { width } else { n }, k)),
            None => Charge::default(),
        };
        let forward = self.product(&Kernel::matmul(rows, gated, kind.inputs))
            + walk(Product::Forward)
            + projected(rows, 0, kind.hidden);
        let backward = walk(Product::InputGradient)
            + walk(Product::WeightGradient)
            + self.product(&Kernel::matmul(rows, kind.inputs, gated))
            + self.product(&Kernel::matmul(kind.inputs, gated, rows))
            + projected(rows, 0, kind.hidden) * 2.0;
        (forward, backward)
    }

    pub(super) fn attention(&self, op: &Op, kind: &cutplane_graph::Attention) -> Both {
        let query_len = self.ty(op.output).dims.first().copied().unwrap_or(1);
        let keys = op.inputs.get(1).and_then(|keys| self.ty(*keys).dims.first()).copied();
        let attend = |pass| {
            self.product(&Kernel::Attention(Attention {
                batch: self.batch,
                heads: kind.heads,
                kv_heads: kind.kv_heads.unwrap_or(kind.heads),
                query_len,
                key_len: keys.unwrap_or(query_len),
                head_dim: kind.head_dim,
                causal: kind.causal,
                algorithm: AttentionAlgorithm::Materialised { softmax_passes: 3 },
                pass,
            }))
        };
        (attend(Pass::Forward), attend(Pass::Backward))
    }

    /// One kernel for the scores of all pairs, which are never written unit by unit, and a product with the values.
    pub(super) fn additive(&self, op: &Op, units: u64) -> Both {
        let (queries, keys) = (self.ty(op.inputs[0]).dims[0], self.ty(op.inputs[1]).dims[0]);
        let width = self.ty(op.output).last();
        let pairs = self.batch * queries * keys;
        let bytes = self.numerics.activation_bytes;
        let read = self.batch * (queries + keys) * units * bytes;
        let rows = Some(RowBlocks { rows: pairs, width: units, round_trips: 1 });
        let kernel = Kernel::MemoryBound { bytes_read: read, bytes_written: pairs * bytes, kernels: 1, rows };
        let scores = Charge { passes: self.gpu.seconds(&kernel, Precision::F32), launches: 1.0, ..Charge::default() };
        let softmax = self.pass([pairs, pairs]);
        let values = self.product(&Kernel::Matmul { m: queries, n: width, k: keys, batch: self.batch });
        (scores + softmax + values, (scores + values) * 2.0 + softmax)
    }
}
