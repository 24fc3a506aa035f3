//! Mixture of experts. Rows move by permutations and never by scattered sums, so that results are the same every time.

use burn::tensor::{Tensor, activation::softmax};
use cutplane_graph::{ExpertLinear, OpKind, Router, Routing, WeightLayout};

use super::call::{Call, Inputs};
use super::deal::{Deal, Received, Sent};
use super::linear::{affine, indices};
use super::position::HIDDEN;
use super::route::{Route, largest, split_rows};
use super::value::{Matrix, from_floats};
use crate::backend::Backend;
use crate::error::RuntimeError;
use crate::tensor::numbers;

pub(super) fn run(call: &Call<'_>, mut inputs: Inputs<'_>) -> Result<Matrix, RuntimeError> {
    let x = inputs.matrix()?;
    if let OpKind::Router(kind) = &call.op.kind {
        return Ok(router(kind, x, call.backend));
    }
    let gates = inputs.matrix()?;
    Ok(match &call.op.kind {
        OpKind::Dispatch(kind) => dispatch(call, &deal(call, &kind.routing, &gates).sent(), &x),
        OpKind::ExpertLinear(kind) => expert_linear(call, kind, &deal(call, &kind.routing, &gates).received(), &x),
        OpKind::Combine(kind) => combine(call, &deal(call, &kind.routing, &gates), &x, &gates),
        _ => return Err(call.unknown()),
    })
}

/// Dispatch, experts and combination read one value of gates, so they find one route.
fn deal(call: &Call<'_>, routing: &Routing, gates: &Matrix) -> Deal {
    let plain = numbers(gates.rows.clone().inner());
    let route = Route::new(routing, &plain, call.samples(1, &gates.shape));
    let part = call.manner.tables.and_then(|tables| tables.get(&call.op.output));
    Deal::new(routing, route, part.map_or(0, |part| part.first))
}

/// The softmax of the chosen experts' logits, or of all, with zeros for the experts that are not chosen.
fn router(kind: &Router, logits: Matrix, backend: &Backend) -> Matrix {
    let top_k = kind.routing.top_k as usize;
    logits.map(|logits| {
        let logits = backend.full(logits);
        let (dims, device) = (logits.dims(), logits.device().inner());
        let mut chosen = numbers(logits.clone().inner());
        for row in chosen.chunks_exact_mut(dims[1]) {
            let picked = largest(row, top_k);
            row.fill(0.0);
            for expert in picked {
                row[expert] = 1.0;
            }
        }
        if kind.normalised {
            let hidden = chosen.iter().map(|chosen| (1.0 - chosen) * HIDDEN).collect();
            return backend.low(softmax(logits + from_floats(hidden, dims, &device), 1));
        }
        backend.low(softmax(logits, 1) * from_floats(chosen, dims, &device))
    })
}

/// Copies of the tokens in the order of the experts' rows; rows without a token are zero.
fn dispatch(call: &Call<'_>, sent: &Sent, x: &Matrix) -> Matrix {
    let ([tokens, width], all) = (x.rows.dims(), sent.copies.len());
    let copies = x.tensor([tokens, 1, width]).expand([tokens, all / tokens.max(1), width]);
    let copies = copies.reshape([all, width]);
    let mut sources = vec![None; sent.rows];
    for (copy, place) in sent.places.iter().enumerate() {
        if let Some(place) = place {
            sources[*place] = Some(copy);
        }
    }
    Matrix::shaped(call.output_shape(&x.shape), picked(&copies, &sources, call.backend))
}

/// The rows `sources` of `rows`, zeros for `None`.
fn picked(rows: &Tensor<2>, sources: &[Option<usize>], backend: &Backend) -> Tensor<2> {
    let numbers = sources.iter().map(|source| source.unwrap_or(0) as i32).collect();
    let taken = rows.clone().select(0, indices(numbers, rows));
    if sources.iter().all(Option::is_some) {
        return taken;
    }
    let present = sources.iter().map(|source| if source.is_some() { 1.0 } else { 0.0 }).collect();
    taken * backend.low(from_floats(present, [sources.len(), 1], &backend.device()))
}

/// A product for each expert that has rows; rows without a token are zero.
fn expert_linear(call: &Call<'_>, kind: &ExpertLinear, received: &Received, x: &Matrix) -> Matrix {
    let backend = call.backend;
    let Received { order, counts } = received;
    let sorted = x.rows.clone().select(0, indices(order.iter().map(|row| *row as i32).collect(), &x.rows));
    let busy: Vec<(usize, usize)> = counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
    let parts = split_rows(sorted, &busy.iter().map(|(_, count)| *count).collect::<Vec<_>>());
    let product = |(rows, (expert, _)): (Tensor<2>, &(usize, usize))| {
        affine(rows, call.weights[*expert].matrix(), WeightLayout::OutIn, None, backend)
    };
    let products = Tensor::cat(parts.into_iter().zip(&busy).map(product).collect(), 0);
    let mut back = vec![None; x.rows.dims()[0]];
    order.iter().enumerate().for_each(|(place, row)| back[*row] = Some(place));
    let mut shape = x.shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = kind.outputs as usize;
    }
    Matrix { shape, rows: picked(&products, &back, backend) }
}

/// The sum of a token's rows, each times its gate, in f32.
fn combine(call: &Call<'_>, deal: &Deal, rows: &Matrix, gates: &Matrix) -> Matrix {
    let (backend, route, sent) = (call.backend, &deal.route, deal.sent());
    let [tokens, experts] = gates.rows.dims();
    let width = rows.rows.dims()[1];
    let own = backend.full(picked(&rows.rows, &sent.places, backend));
    let gate = |copy: &usize| (copy / route.top_k * experts + route.chosen[*copy]) as i32;
    let chosen = indices(sent.copies.iter().map(gate).collect(), &gates.rows);
    let weights = backend.full(gates.tensor([tokens * experts, 1]).select(0, chosen));
    let sum = (own * weights).reshape([sent.copies.len() / route.top_k, route.top_k, width]).sum_dim(1);
    Matrix::shaped(call.output_shape(&gates.shape), backend.low(sum))
}
