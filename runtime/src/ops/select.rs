//! Operators that pick parts of a value, put zeros around it, or sum axes up.

use burn::tensor::Tensor;
use cutplane_graph::{OpKind, Reduce, Reduction};

use super::call::{Call, Inputs};
use super::linear::indices;
use super::value::{Matrix, Tokens};
use crate::backend::Backend;
use crate::error::RuntimeError;

pub(super) fn run(call: &Call<'_>, mut inputs: Inputs<'_>) -> Result<Matrix, RuntimeError> {
    let x = inputs.matrix()?;
    let batch_axes = usize::from(call.is_batched(0));
    match &call.op.kind {
        OpKind::SelectToken { index } => Ok(select_token(x, *index as usize)),
        OpKind::Gather(_) => gather(call, &x, &inputs.tokens()?),
        OpKind::Pad(kind) => {
            let zeros = (kind.before as usize, kind.after as usize);
            Ok(pad(&x, batch_axes + kind.axis, zeros, call.backend))
        }
        OpKind::Reduce(kind) => Ok(reduce(kind, x, batch_axes, call.backend)),
        _ => Err(call.unknown()),
    }
}

fn select_token(x: Matrix, index: usize) -> Matrix {
    let [rows, width] = x.rows.dims();
    let s = x.sequence();
    let picked = x.tensor([rows / s, s, width]).narrow(1, index, 1);
    let mut shape = x.shape;
    shape.remove(shape.len() - 2);
    Matrix::shaped(shape, picked)
}

/// Rows of `x [b, n, ..]` by indices `[b, k]`; a side without a batch axis serves every sample.
fn gather(call: &Call<'_>, x: &Matrix, chosen: &Tokens) -> Result<Matrix, RuntimeError> {
    let (x_batched, chosen_batched) = (call.is_batched(0), call.is_batched(1));
    let [samples, n, width] = x.around(usize::from(x_batched));
    call.check_ids(&chosen.ids, n, None)?;
    let picks = if chosen_batched { chosen.shape[0] } else { 1 };
    let k = chosen.ids.len() / picks.max(1);
    let batch = samples.max(picks);
    let row = |index: usize| {
        let (sample, place) = (index / k, index % k);
        let own = chosen.ids[if chosen_batched { index } else { place }];
        if x_batched { (sample * n) as i32 + own } else { own }
    };
    let rows = x.tensor([samples * n, width]);
    let numbers = indices((0..batch * k).map(row).collect(), &rows);
    let ty = &call.model.value(call.op.output).ty;
    let shape: Vec<usize> = ty.shape(batch as u64).into_iter().map(|dim| dim as usize).collect();
    Ok(Matrix::shaped(shape, rows.select(0, numbers)))
}

/// Zeros before and after an axis.
pub(super) fn pad(x: &Matrix, axis: usize, (before, after): (usize, usize), backend: &Backend) -> Matrix {
    let [outer, extent, inner] = x.around(axis);
    let zeros = |count: usize| {
        let zeros = Tensor::<3>::zeros([outer, count, inner], &backend.device());
        (count > 0).then(|| backend.low(zeros))
    };
    let parts = [zeros(before), Some(x.tensor([outer, extent, inner])), zeros(after)];
    let mut shape = x.shape.clone();
    shape[axis] = before + extent + after;
    Matrix::shaped(shape, Tensor::cat(parts.into_iter().flatten().collect(), 1))
}

/// Sums in f32, the last axis first.
fn reduce(kind: &Reduce, mut x: Matrix, batch_axes: usize, backend: &Backend) -> Matrix {
    for axis in kind.axes.iter().rev() {
        let around = x.around(batch_axes + axis);
        let values = backend.full(x.tensor(around));
        let values = match kind.function {
            Reduction::Sum => values.sum_dim(1),
            Reduction::Mean => values.mean_dim(1),
            Reduction::Max => values.max_dim(1),
        };
        x.shape.remove(batch_axes + axis);
        x = Matrix::shaped(x.shape, backend.low(values));
    }
    x
}
