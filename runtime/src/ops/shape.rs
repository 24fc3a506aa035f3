//! Reshaping, reordering, joining and slicing, of floats and of integers.

use std::sync::Arc;

use burn::tensor::Tensor;
use cutplane_graph::{OpKind, Slice};

use super::call::{Call, Inputs};
use super::linear::indices;
use super::value::{Matrix, Tokens, Value};
use crate::error::RuntimeError;

pub(super) fn run(call: &Call<'_>, inputs: Inputs<'_>) -> Result<Value, RuntimeError> {
    let values = inputs.rest();
    if values.iter().all(|value| matches!(value, Value::Float(_))) {
        let matrices = values.into_iter().map(|value| value.matrix(call.op)).collect::<Result<Vec<_>, _>>()?;
        return floats(call, matrices).map(Value::Float);
    }
    let tokens = values.into_iter().map(|value| value.tokens(call.op)).collect::<Result<Vec<_>, _>>()?;
    integers(call, &tokens).map(Value::Int)
}

fn floats(call: &Call<'_>, mut inputs: Vec<Matrix>) -> Result<Matrix, RuntimeError> {
    let batch_axes = usize::from(call.is_batched(0));
    let shape = call.output_shape(&inputs[0].shape);
    match &call.op.kind {
        OpKind::Reshape(_) => Ok(Matrix::shaped(shape, inputs.swap_remove(0).rows)),
        OpKind::Transpose(kind) => {
            let x = &inputs[0];
            let (dims, order) = joined(&x.shape, &with_batch(&kind.axes, batch_axes));
            let rows = permuted(x, &dims, &order).ok_or_else(|| {
                call.refuse(format!("the order {:?} moves too many axes for this runtime", kind.axes))
            })?;
            Ok(Matrix::shaped(shape, rows))
        }
        OpKind::Concat(kind) => {
            let part = |x: &Matrix| {
                let [before, extent, after] = x.around(batch_axes + kind.axis);
                x.tensor([before, extent * after])
            };
            Ok(Matrix::shaped(shape, Tensor::cat(inputs.iter().map(part).collect(), 1)))
        }
        OpKind::Slice(kind) => Ok(Matrix::shaped(shape, slice(kind, &inputs[0], batch_axes))),
        _ => Err(call.unknown()),
    }
}

fn slice(kind: &Slice, x: &Matrix, batch_axes: usize) -> Tensor<3> {
    let around = x.around(batch_axes + kind.axis);
    let (start, end) = (kind.start as usize, kind.end as usize);
    let values = x.tensor(around);
    if kind.step == 1 {
        return values.narrow(1, start, end - start);
    }
    let places = (kind.start..kind.end).step_by(kind.step as usize).map(|place| place as i32).collect();
    values.select(1, indices(places, &x.rows))
}

/// The order of all axes, the batch's included.
fn with_batch(axes: &[usize], batch_axes: usize) -> Vec<usize> {
    (0..batch_axes).chain(axes.iter().map(|axis| axis + batch_axes)).collect()
}

/// The same reordering with fewer axes: extents of 1 are left out, and axes that stay side by side become one.
fn joined(shape: &[usize], order: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let order: Vec<usize> = order.iter().copied().filter(|axis| shape[*axis] != 1).collect();
    let wide: Vec<usize> = (0..shape.len()).filter(|axis| shape[*axis] != 1).collect();
    let rank = |axis: usize| wide.iter().position(|other| *other == axis);
    // Runs of axes that follow each other on both sides.
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for axis in order {
        match runs.last_mut() {
            Some(run) if run.last().and_then(|last| rank(*last)).map(|last| last + 1) == rank(axis) => run.push(axis),
            _ => runs.push(vec![axis]),
        }
    }
    let mut starts: Vec<usize> = runs.iter().map(|run| run[0]).collect();
    let order_of_starts = starts.clone();
    starts.sort_unstable();
    let extent = |start: &usize| {
        let run = runs.iter().find(|run| run[0] == *start);
        run.into_iter().flatten().map(|axis| shape[*axis]).product()
    };
    let place = |start: &usize| starts.iter().position(|other| other == start).unwrap_or_default();
    (starts.iter().map(extent).collect(), order_of_starts.iter().map(place).collect())
}

/// Reorders up to six axes; `None` for more.
fn permuted(x: &Matrix, dims: &[usize], order: &[usize]) -> Option<Tensor<2>> {
    fn reordered<const D: usize>(x: &Matrix, dims: &[usize], order: &[usize]) -> Option<Tensor<2>> {
        let (dims, order) = (<[usize; D]>::try_from(dims).ok()?, <[usize; D]>::try_from(order).ok()?);
        let elements = x.rows.shape().num_elements();
        Some(x.tensor(dims).permute(order.map(|axis| axis as isize)).reshape([1, elements]))
    }
    match dims.len() {
        0 | 1 => Some(x.rows.clone()),
        2 => reordered::<2>(x, dims, order),
        3 => reordered::<3>(x, dims, order),
        4 => reordered::<4>(x, dims, order),
        5 => reordered::<5>(x, dims, order),
        6 => reordered::<6>(x, dims, order),
        _ => None,
    }
}

fn integers(call: &Call<'_>, inputs: &[Tokens]) -> Result<Tokens, RuntimeError> {
    let batch_axes = usize::from(call.is_batched(0));
    let (x, shape) = (&inputs[0], call.output_shape(&inputs[0].shape));
    let ids = match &call.op.kind {
        OpKind::Reshape(_) => x.ids.clone(),
        OpKind::Transpose(kind) => transposed(x, &with_batch(&kind.axes, batch_axes)),
        OpKind::Concat(kind) => concatenated(inputs, batch_axes + kind.axis),
        OpKind::Slice(kind) => {
            let (extent, after) = around(&x.shape, batch_axes + kind.axis);
            let kept = |(index, _): &(usize, &i32)| {
                let place = (index / after % extent) as u64;
                (kind.start..kind.end).contains(&place) && (place - kind.start).is_multiple_of(kind.step)
            };
            x.ids.iter().enumerate().filter(kept).map(|(_, id)| *id).collect()
        }
        _ => return Err(call.unknown()),
    };
    Ok(Tokens { shape, ids })
}

/// Extent of an axis, and the product of those after it.
fn around(shape: &[usize], axis: usize) -> (usize, usize) {
    (shape[axis], shape[axis + 1..].iter().product())
}

fn transposed(x: &Tokens, order: &[usize]) -> Arc<[i32]> {
    let stride = |axis: &usize| (x.shape[*axis], x.shape[axis + 1..].iter().product::<usize>());
    let strides: Vec<(usize, usize)> = order.iter().map(stride).collect();
    let source = |index: usize| {
        let place = |(rest, from): (usize, usize), (extent, stride): &(usize, usize)| {
            (rest / extent, from + rest % extent * stride)
        };
        strides.iter().rev().fold((index, 0), place).1
    };
    (0..x.ids.len()).map(|index| x.ids[source(index)]).collect()
}

fn concatenated(inputs: &[Tokens], axis: usize) -> Arc<[i32]> {
    let length = |x: &Tokens| {
        let (extent, after) = around(&x.shape, axis);
        extent * after
    };
    let outer = inputs.first().map_or(0, |x| x.ids.len() / length(x).max(1));
    let row = |index: usize| {
        inputs.iter().flat_map(move |x| x.ids[index * length(x)..(index + 1) * length(x)].iter().copied())
    };
    (0..outer).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::{Tokens, concatenated, joined, transposed};

    #[test]
    fn axes_that_stay_together_are_one() {
        assert_eq!(joined(&[2, 3, 4, 5], &[0, 3, 1, 2]), (vec![2, 12, 5], vec![0, 2, 1]));
        assert_eq!(joined(&[2, 1, 4], &[0, 2, 1]), (vec![8], vec![0]));
        assert_eq!(joined(&[2, 3, 4], &[2, 1, 0]), (vec![2, 3, 4], vec![2, 1, 0]));
    }

    #[test]
    fn integers_are_moved_on_the_host() {
        let x = Tokens { shape: vec![2, 3], ids: (0..6).collect() };
        assert_eq!(transposed(&x, &[1, 0])[..], [0, 3, 1, 4, 2, 5]);
        let y = Tokens { shape: vec![2, 1], ids: [8, 9].into() };
        assert_eq!(concatenated(&[x, y], 1)[..], [0, 1, 2, 8, 3, 4, 5, 9]);
    }
}
