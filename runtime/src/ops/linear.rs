//! Tables and products of matrices.

use std::cell::RefCell;

use burn::tensor::{Int, Tensor, TensorData, module};
use cutplane_graph::{Dtype, MatMul, OpKind, WeightLayout};

use super::call::{Call, Inputs, TablePart};
use super::value::{Matrix, Tokens, from_floats};
use crate::backend::Backend;
use crate::error::RuntimeError;
use crate::segment::DeferredProduct;

pub(super) fn run(call: &Call<'_>, mut inputs: Inputs<'_>) -> Result<Matrix, RuntimeError> {
    let (weights, backend) = (call.weights, call.backend);
    Ok(match &call.op.kind {
        OpKind::Embedding { vocab, dim, .. } => {
            let ids = inputs.tokens()?;
            let part = call.manner.tables.and_then(|tables| tables.get(&call.op.output));
            if let Some(part) = part {
                call.check_ids(&ids.ids, part.whole, None)?;
                return Ok(embedding_part(&ids, weights[0].matrix(), *part).map(|rows| backend.low(rows)));
            }
            call.check_ids(&ids.ids, *vocab as usize, None)?;
            embedding(&ids, weights[0].matrix(), *dim as usize).map(|rows| backend.low(rows))
        }
        OpKind::PositionEmbedding { offset, .. } => {
            position_embedding(inputs.matrix()?, weights[0].matrix(), *offset as usize, backend)
        }
        OpKind::PrependTokens(_) => prepend(call, &inputs.matrix()?),
        OpKind::Linear { outputs, layout, .. } => {
            let x = inputs.matrix()?;
            let mut shape = x.shape;
            if let Some(last) = shape.last_mut() {
                *last = *outputs as usize;
            }
            if let Some(products) = call.manner.deferred {
                return Ok(Matrix { shape, rows: deferred(call, x.rows, *layout, products) });
            }
            let bias = weights.get(1).map(|bias| bias.vector());
            Matrix { shape, rows: affine(x.rows, weights[0].matrix(), *layout, bias, backend) }
        }
        OpKind::MatMul(kind) => product(call, kind, &inputs.matrix()?, &inputs.matrix()?),
        _ => return Err(call.unknown()),
    })
}

fn embedding(ids: &Tokens, weight: Tensor<2>, dim: usize) -> Matrix {
    let count = ids.ids.len();
    let indices = Tensor::from_data(TensorData::new(ids.ids.to_vec(), [1, count]), &weight.device());
    let shape: Vec<usize> = ids.shape.iter().copied().chain([dim]).collect();
    Matrix::shaped(shape, module::embedding(weight, indices))
}

/// The rows of the tokens that this part of the table has, and zeros for the others: a summand of the whole lookup.
fn embedding_part(ids: &Tokens, weight: Tensor<2>, part: TablePart) -> Matrix {
    let [rows, dim] = weight.dims();
    let own = |id: &i32| (*id as usize).checked_sub(part.first).filter(|row| *row < rows);
    let mask: Vec<f32> = ids.ids.iter().map(|id| f32::from(u8::from(own(id).is_some()))).collect();
    let local = ids.ids.iter().map(|id| own(id).unwrap_or(0) as i32).collect();
    let found = embedding(&Tokens { shape: ids.shape.clone(), ids: local }, weight, dim);
    let mask = from_floats(mask, [ids.ids.len(), 1], &found.rows.device().inner());
    let mask = if found.rows.is_autodiff() { Tensor::from_inner(mask) } else { mask };
    found.map(|rows| rows * mask)
}

fn position_embedding(x: Matrix, weight: Tensor<2>, offset: usize, backend: &Backend) -> Matrix {
    let [rows, width] = x.rows.dims();
    let s = x.sequence();
    let positions = if weight.dims()[0] == s { weight } else { weight.slice([offset..offset + s, 0..width]) };
    let sum = backend.full(x.rows).reshape([rows / s, s, width]) + positions.reshape([1, s, width]);
    Matrix { shape: x.shape, rows: backend.low(sum.reshape([rows, width])) }
}

/// The same learned tokens before every sample.
fn prepend(call: &Call<'_>, x: &Matrix) -> Matrix {
    let [rows, width] = x.rows.dims();
    let (s, batch) = (x.sequence(), rows / x.sequence());
    let tokens = call.backend.low(call.weights[0].matrix());
    let count = tokens.dims()[0];
    let tokens = tokens.reshape([1, count, width]).expand([batch, count, width]);
    let joined = Tensor::cat(vec![tokens, x.tensor([batch, s, width])], 1);
    Matrix::shaped(call.output_shape(&x.shape), joined)
}

/// `x W + bias` for rows `x`.
pub(super) fn affine(
    x: Tensor<2>,
    weight: Tensor<2>,
    layout: WeightLayout,
    bias: Option<Tensor<1>>,
    backend: &Backend,
) -> Tensor<2> {
    let weight = match layout {
        WeightLayout::InOut => backend.low(weight),
        WeightLayout::OutIn => backend.low(weight).transpose(),
    };
    if backend.precision() == Dtype::F32 {
        return module::linear(x, weight, bias);
    }
    // The bias is added in f32, so that its gradient is summed in f32.
    let product = module::linear(x, weight, None);
    bias.map_or(product.clone(), |bias| backend.low(backend.full(product) + bias.unsqueeze()))
}

/// `x W + bias` whose gradients of weight and bias are left for later.
fn deferred(
    call: &Call<'_>,
    x: Tensor<2>,
    layout: WeightLayout,
    products: &RefCell<Vec<DeferredProduct>>,
) -> Tensor<2> {
    let weight = call.weights[0].fixed().matrix();
    let bias = call.weights.get(1).map(|bias| bias.fixed().vector());
    let product = affine(x.clone(), weight, layout, bias, call.backend);
    let tap = Tensor::from_inner(product.clone().inner().zeros_like()).require_grad();
    products.borrow_mut().push(DeferredProduct {
        params: call.op.params.clone(),
        layout,
        x: x.inner(),
        tap: tap.clone(),
    });
    product + tap
}

/// One product for each pair of matrices.
fn product(call: &Call<'_>, kind: &MatMul, left: &Matrix, right: &Matrix) -> Matrix {
    let matrices = |x: &Matrix| {
        let [.., m, n] = x.shape[..] else { unreachable!("the graph checked the rank") };
        let dims = [x.rows.dims()[0] / m, m, n];
        x.tensor(dims)
    };
    let shape = call.output_shape(&left.shape);
    let (left, right) = (matrices(left), matrices(right));
    let right = if kind.transpose_right { right.transpose() } else { right };
    Matrix::shaped(shape, left.matmul(right))
}

/// Row numbers on the device of `like`.
pub(super) fn indices(numbers: Vec<i32>, like: &Tensor<2>) -> Tensor<1, Int> {
    let count = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [count]), &like.device())
}
