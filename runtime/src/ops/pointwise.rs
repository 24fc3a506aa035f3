//! Operators that treat every element alone, and softmax.

use burn::tensor::{Tensor, activation as functions};
use cutplane_graph::{Arithmetic, Gate, OpKind};

use super::broadcast::{Meeting, arithmetic};
use super::call::{Call, Inputs};
use super::value::{Matrix, from_floats};
use super::{activation, dropout};
use crate::error::RuntimeError;

pub(super) fn run(call: &Call<'_>, mut inputs: Inputs<'_>) -> Result<Matrix, RuntimeError> {
    let backend = call.backend;
    match &call.op.kind {
        OpKind::Activation { function } => {
            let x = inputs.matrix()?;
            let rows = activation::apply(*function, x.rows, backend).ok_or_else(|| call.unknown())?;
            Ok(Matrix { shape: x.shape, rows })
        }
        OpKind::Add => {
            let (left, right) = (inputs.matrix()?, inputs.matrix()?);
            Ok(left.map(|left| add(left, right.rows)))
        }
        OpKind::Binary(kind) => {
            let (left, right) = (inputs.matrix()?, inputs.matrix()?);
            binary(call, kind.function, (left, call.is_batched(0)), (right, call.is_batched(1)))
        }
        OpKind::ScaleShift(kind) => Ok(inputs.matrix()?.map(|x| x * kind.scale + kind.shift)),
        OpKind::Learned(kind) => {
            let shape = kind.dims.iter().map(|dim| *dim as usize).collect();
            let weight = Matrix { shape, rows: call.weights[0].rows() };
            binary(call, kind.function, (inputs.matrix()?, call.is_batched(0)), (weight, false))
        }
        OpKind::Fixed(kind) => {
            let shape = kind.dims.iter().map(|dim| *dim as usize).collect();
            let width = kind.dims.last().map_or(1, |width| *width as usize);
            let dims = [kind.numbers.len() / width, width];
            let numbers = Matrix { shape, rows: from_floats(kind.numbers.to_vec(), dims, &backend.device()) };
            binary(call, kind.function, (inputs.matrix()?, call.is_batched(0)), (numbers, false))
        }
        OpKind::Gate(kind) => gate(call, kind, inputs.matrices()?),
        OpKind::Dropout(kind) => Ok(dropout::dropout(call, kind, inputs.matrix()?)),
        OpKind::Softmax(kind) => Ok(inputs.matrix()?.map(|x| {
            let x = backend.full(x);
            backend.low(if kind.log { functions::log_softmax(x, 1) } else { functions::softmax(x, 1) })
        })),
        _ => Err(call.unknown()),
    }
}

/// A sum; losses that are summed may be in f32 where one of them was computed here.
fn add(left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
    if left.dtype() == right.dtype() {
        return left + right;
    }
    left.cast(burn::tensor::FloatDType::F32) + right.cast(burn::tensor::FloatDType::F32)
}

/// Arithmetic in f32, rounded to the precision of the rank.
fn binary(
    call: &Call<'_>,
    function: Arithmetic,
    (left, left_batched): (Matrix, bool),
    (right, right_batched): (Matrix, bool),
) -> Result<Matrix, RuntimeError> {
    let backend = call.backend;
    let meeting = Meeting::new((&left.shape, left_batched), (&right.shape, right_batched));
    if !meeting.fits() {
        let problem = format!("the shapes {:?} and {:?} broadcast along too many axes", left.shape, right.shape);
        return Err(call.refuse(problem));
    }
    let batch = if left_batched { left.shape.first() } else { right.shape.first() };
    let shape = output_shape(call, batch.copied().unwrap_or(1));
    let (left, right) = (backend.full(left.rows), backend.full(right.rows));
    if meeting.is_plain() && left.dims() == right.dims() {
        return Ok(Matrix::shaped(shape, backend.low(arithmetic(function, left, right))));
    }
    Ok(Matrix::shaped(shape, backend.low(meeting.apply(function, left, right))))
}

fn output_shape(call: &Call<'_>, batch: usize) -> Vec<usize> {
    let ty = &call.model.value(call.op.output).ty;
    ty.shape(batch as u64).into_iter().map(|dim| dim as usize).collect()
}

/// `function(gate) up`.
fn gate(call: &Call<'_>, kind: &Gate, inputs: Vec<Matrix>) -> Result<Matrix, RuntimeError> {
    let shape = call.output_shape(&inputs[0].shape);
    let parts: Vec<Tensor<2>> = match <[Matrix; 1]>::try_from(inputs) {
        Ok([packed]) => packed.rows.chunk(2, 1),
        Err(separate) => separate.into_iter().map(|part| part.rows).collect(),
    };
    let [gate, up] = <[Tensor<2>; 2]>::try_from(parts).expect("one packed input or two");
    let gate = activation::apply(kind.function, gate, call.backend).ok_or_else(|| call.unknown())?;
    Ok(Matrix { shape, rows: gate * up })
}
