//! Blocks: the stretches of operators that a searcher does not cut.

use std::ops::Range;

use cutplane_graph::ModelGraph;

/// Up to this many operators, every operator is a block of its own.
pub const MAX_BLOCKS: usize = 192;

/// Places to cut that a large model should have at least.
pub const ENOUGH_CUTS: usize = 48;

/// The operators of a model in topological order, grouped into blocks. A bound that a searcher proves covers all cuts
/// between blocks; with at most [`MAX_BLOCKS`] operators these are all contiguous cuts there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// `bounds[k]..bounds[k + 1]` are the operators of block `k`.
    bounds: Vec<usize>,
}

impl Blocks {
    /// One block an operator for a small model. A larger one is cut only where a single value crosses (the boundaries
    /// of residual blocks), or where such places are few where as few values cross as give [`ENOUGH_CUTS`]; thinned out
    /// evenly to [`MAX_BLOCKS`] if there are more such places.
    pub fn new(model: &ModelGraph) -> Self {
        let count = model.ops().len();
        if count <= MAX_BLOCKS {
            return Self { bounds: (0..=count).collect() };
        }
        let crossing = crossing_values(model);
        let widest = crossing.iter().copied().max().unwrap_or(0);
        let cuts = |most: usize| -> Vec<usize> { (1..count).filter(|cut| crossing[*cut] <= most).collect() };
        let narrow = (1..=widest).map(cuts).find(|cuts| cuts.len() >= ENOUGH_CUTS).unwrap_or_else(|| cuts(widest));
        let inner = thin(&narrow, MAX_BLOCKS - 1);
        Self { bounds: std::iter::once(0).chain(inner).chain([count]).collect() }
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Always false: a model has at least one operator.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The operator indices of the blocks `first..end`.
    pub fn ops(&self, first: usize, end: usize) -> Range<usize> {
        self.bounds[first]..self.bounds[end]
    }

    /// The blocks that hold operators of a repeated layer; empty when there is no such layer.
    pub fn of_layer(&self, model: &ModelGraph, layer: u32) -> Range<usize> {
        let block_of = self.block_of();
        let own = model.ops().iter().zip(block_of).filter(|(op, _)| op.layer == Some(layer)).map(|(_, block)| block);
        own.fold(0..0, |all, block| if all.is_empty() { block..block + 1 } else { all.start..block + 1 })
    }

    /// The block of every operator.
    pub fn block_of(&self) -> Vec<usize> {
        (0..self.len()).flat_map(|block| self.ops(block, block + 1).map(move |_| block)).collect()
    }
}

/// For each cut position, the number of values that operators before it write and operators after it read.
fn crossing_values(model: &ModelGraph) -> Vec<usize> {
    let mut crossing = vec![0; model.ops().len() + 1];
    for value in model.values() {
        if let (Some(from), Some(last)) = (value.producer, value.consumers.iter().max()) {
            crossing[from.index() + 1..=last.index()].iter_mut().for_each(|count| *count += 1);
        }
    }
    crossing
}

/// At most `most` entries of `list`, evenly spread.
fn thin(list: &[usize], most: usize) -> Vec<usize> {
    if list.len() <= most {
        return list.to_vec();
    }
    (0..most).map(|k| list[(2 * k + 1) * list.len() / (2 * most)]).collect()
}

#[cfg(test)]
mod tests {
    use cutplane_graph::{Dtype, InputRole, ModelGraphBuilder, OpKind, TensorType};

    use super::*;

    /// Residual blocks of a linear layer and an addition.
    fn residual(blocks: usize) -> ModelGraph {
        let mut builder = ModelGraphBuilder::new("residual");
        let mut x = builder.input("x", InputRole::Features, TensorType::batched(&[4], Dtype::F32)).expect("fresh");
        x = builder.op("stem", OpKind::linear(4, 4), &[x]).expect("fits");
        for block in 0..blocks {
            let y = builder.op(&format!("linear{block}"), OpKind::linear(4, 4), &[x]).expect("fits");
            x = builder.op(&format!("add{block}"), OpKind::Add, &[x, y]).expect("fits");
        }
        builder.output(x).build().expect("sound")
    }

    #[test]
    fn a_small_model_is_cut_anywhere() {
        let blocks = Blocks::new(&residual(5));
        assert_eq!((blocks.len(), blocks.ops(3, 5)), (11, 3..5));
        assert_eq!(blocks.block_of(), (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn a_large_model_is_cut_where_one_value_crosses() {
        // 301 operators, cut behind the stem and behind every addition but the last: 150 places.
        let blocks = Blocks::new(&residual(150));
        assert_eq!(blocks.len(), 151);
        assert_eq!((blocks.ops(0, 1), blocks.ops(1, 2), blocks.ops(150, 151)), (0..1, 1..3, 299..301));
        // 500 places are thinned out.
        let thinned = Blocks::new(&residual(500));
        assert_eq!((thinned.len(), thinned.ops(0, thinned.len())), (MAX_BLOCKS, 0..1001));
    }
}
