//! Mesh-TensorFlow's layout of a two-layer perceptron on a mesh of 2 x 2 (Shazeer et al. 2018, section 5): batch over the rows,
//! hidden units over the columns. The program finds it, and run on four ranks it gives what one device gives.

use cutplane_graph::sharding::{Layout, ShardRule, Sharded, Split};
use cutplane_graph::{
    ActivationKind, Dtype, InputRole, MeanSquaredError, ModelGraph, ModelGraphBuilder, OpId, OpKind, TensorType,
    WeightLayout,
};
use cutplane_sim::planner::sharding::{Sharding, Strategy};

use super::random::Random;
use super::setting::{Setting, Work};

fn perceptron(width: u64, hidden: u64) -> ModelGraph {
    let mut builder = ModelGraphBuilder::new("perceptron");
    let linear =
        |inputs, outputs| OpKind::Linear { inputs, outputs, bias: false, layout: WeightLayout::InOut, init_std: 0.02 };
    let ty = TensorType::batched(&[width], Dtype::F32);
    let x = builder.input("x", InputRole::Features, ty).unwrap();
    let n = builder.op("norm", OpKind::layer_norm(width, 1e-5), &[x]).unwrap();
    let h = builder.op("w", linear(width, hidden), &[n]).unwrap();
    let h = builder.op("relu", OpKind::Activation { function: ActivationKind::Relu }, &[h]).unwrap();
    let y = builder.op("v", linear(hidden, width), &[h]).unwrap();
    let target = builder.input("target", InputRole::FeatureTargets, TensorType::batched(&[width], Dtype::F32)).unwrap();
    let loss = builder.op("loss", OpKind::MeanSquaredError(MeanSquaredError {}), &[y, target]).unwrap();
    builder.loss(loss).build().unwrap()
}

fn sharded(width: u64, hidden: u64, batch: u64) -> (ModelGraph, Sharding) {
    let setting = Setting::of_graph(perceptron(width, hidden), "a100-80gb:4");
    let work = Work { mesh: &[2, 2], batch, micro_batches: 1, memory_limit: Some(setting.memory) };
    let found = setting.shard(work).unwrap();
    (setting.graph, found)
}

#[test]
fn batch_goes_over_rows_and_hidden_units_over_columns() {
    let (_, found) = sharded(8192, 8192, 12_288);
    let splits: Vec<_> = found.strategies[1..4].iter().map(|strategy| strategy.splits).collect();
    let across = |inner| [Some(Split::Batch), Some(inner)];
    let rows_and_columns = [Split::Column, Split::Width, Split::Row].map(across);
    let mirrored = rows_and_columns.map(|[a, b]| [b, a]);
    assert!(splits == rows_and_columns || splits == mirrored, "{splits:?}");
    // Each weight is cut in two over the hidden units, its gradient summed over two groups of the batch.
    let (weights, norm) = (2.0 * 8192.0 * 8192.0, 2.0 * 8192.0);
    assert!((found.account.parameter_bytes - 2.0 * (weights / 2.0 + norm)).abs() < 1.0, "{:?}", found.account);
    // A larger batch is cheaper to split four ways, a smaller one not at all.
    let all = |found: &Sharding, split| found.strategies.iter().all(|strategy| strategy.splits == [Some(split); 2]);
    assert!(all(&sharded(8192, 8192, 262_144).1, Split::Batch));
    let (_, small) = sharded(8192, 8192, 512);
    assert!(
        small.strategies.iter().all(|strategy| !strategy.splits.contains(&Some(Split::Batch))),
        "{:?}",
        small.blocks
    );
}

type Matrix = Vec<Vec<f64>>;

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let cell = |row: &Vec<f64>, column: usize| row.iter().zip(b).map(|(x, line)| x * line[column]).sum();
    a.iter().map(|row| (0..b[0].len()).map(|column| cell(row, column)).collect()).collect()
}

fn transposed(a: &Matrix) -> Matrix {
    (0..a[0].len()).map(|column| a.iter().map(|row| row[column]).collect()).collect()
}

/// The rows and columns of a rank's part; `dims` gives the matrix axis of a layout's axis 0.
fn part(size: [usize; 2], layouts: [Layout; 2], rank: [usize; 2], first: usize) -> [std::ops::Range<usize>; 2] {
    let mut ranges = [0..size[0], 0..size[1]];
    for (layout, at) in layouts.into_iter().zip(rank) {
        let axis = match layout {
            Layout::Batch => 0,
            Layout::Axis(axis) => first + axis,
            _ => continue,
        };
        let half = ranges[axis].len() / 2;
        let start = ranges[axis].start + at * half;
        ranges[axis] = start..start + half;
    }
    ranges
}

fn cut(whole: &Matrix, layouts: [Layout; 2], rank: [usize; 2], first: usize) -> Matrix {
    let [rows, columns] = part([whole.len(), whole[0].len()], layouts, rank, first);
    whole[rows].iter().map(|row| row[columns.clone()].to_vec()).collect()
}

/// Puts the ranks' parts together: summands are added, copies are counted once.
fn joined(parts: &[([usize; 2], Matrix)], size: [usize; 2], layouts: [Layout; 2], first: usize) -> Matrix {
    let mut whole = vec![vec![0.0; size[1]]; size[0]];
    for (rank, local) in parts {
        if (0..2).any(|axis| layouts[axis] == Layout::Replicated && rank[axis] > 0) {
            continue;
        }
        let [rows, columns] = part(size, layouts, *rank, first);
        for (row, line) in rows.zip(local) {
            for (column, value) in columns.clone().zip(line) {
                whole[row][column] += value;
            }
        }
    }
    whole
}

fn assert_close(a: &Matrix, b: &Matrix) {
    let largest = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest < 1e-9, "{largest}");
}

/// One operator on four ranks, each with its part, put together again.
struct Split2<'a> {
    rules: &'a [ShardRule],
    strategy: Strategy,
}

impl Split2<'_> {
    fn layouts(&self, of: impl Fn(&ShardRule) -> Sharded, gradient: bool) -> [Layout; 2] {
        self.strategy.rules.map(|rule| {
            let sharded = rule.map_or(Sharded::replicated(), |index| of(&self.rules[index]));
            if gradient { sharded.gradient } else { sharded.value }
        })
    }

    fn on_ranks(compute: impl Fn([usize; 2]) -> Matrix) -> Vec<([usize; 2], Matrix)> {
        [[0, 0], [0, 1], [1, 0], [1, 1]].into_iter().map(|rank| (rank, compute(rank))).collect()
    }

    /// `x w`, and the gradient of `w` for the gradient `g` of the output.
    fn linear(&self, x: &Matrix, w: &Matrix, g: &Matrix) -> (Matrix, Matrix) {
        let x_of = |rank| cut(x, self.layouts(|rule| rule.inputs[0], false), rank, 1);
        let w_of = |rank| cut(w, self.layouts(|rule| rule.params[0], false), rank, 0);
        let outputs = Self::on_ranks(|rank| product(&x_of(rank), &w_of(rank)));
        let y = joined(&outputs, [x.len(), w[0].len()], self.layouts(|rule| rule.output, false), 1);
        let gradient = self.layouts(|rule| rule.output, true);
        let gradients = Self::on_ranks(|rank| product(&transposed(&x_of(rank)), &cut(g, gradient, rank, 1)));
        let dw = joined(&gradients, [w.len(), w[0].len()], self.layouts(|rule| rule.params[0], true), 0);
        (y, dw)
    }
}

#[test]
fn four_ranks_compute_what_one_device_does() {
    let mut random = Random(5);
    let mut matrix = |rows: usize, columns: usize| -> Matrix {
        (0..rows).map(|_| (0..columns).map(|_| random.unit() - 0.5).collect()).collect()
    };
    let (x, w, v, g) = (matrix(8, 12), matrix(12, 16), matrix(16, 12), matrix(8, 12));
    for batch in [512, 12_288, 262_144] {
        let (graph, found) = sharded(8192, 8192, batch);
        let rules: Vec<Vec<ShardRule>> = graph.op_ids().map(|op| graph.shard_rules(op, batch)).collect();
        let of = |op: usize| Split2 { rules: &rules[op], strategy: found.strategies[OpId::new(op).index()] };
        let relu = |m: &Matrix| -> Matrix { m.iter().map(|row| row.iter().map(|x| x.max(0.0)).collect()).collect() };
        let h = relu(&product(&x, &w));
        let dh: Matrix = product(&g, &transposed(&v))
            .iter()
            .zip(&h)
            .map(|(dh, h)| dh.iter().zip(h).map(|(dh, h)| if *h > 0.0 { *dh } else { 0.0 }).collect())
            .collect();
        let (hidden, dw) = of(1).linear(&x, &w, &dh);
        let (y, dv) = of(3).linear(&relu(&hidden), &v, &g);
        assert_close(&y, &product(&h, &v));
        assert_close(&dw, &product(&transposed(&x), &dh));
        assert_close(&dv, &product(&transposed(&h), &g));
    }
}
