//! Recurrent layers: one product for the inputs of all steps, then a loop over the steps.

use burn::tensor::{Tensor, activation};
use cutplane_graph::{Cell, Recurrent, RecurrentBias, RecurrentOutput, WeightLayout};

use super::call::{Call, Inputs};
use super::linear::affine;
use super::route::split_rows;
use super::value::{Matrix, Weight};
use crate::backend::Backend;
use crate::error::RuntimeError;

/// The weights of a layer, made ready once for all steps.
struct Weights<'a> {
    backend: &'a Backend,
    /// From the hidden state to the gates, `[width, gates]`.
    state: Tensor<2>,
    /// Added to it; a GRU multiplies the sum by its reset gate.
    state_bias: Option<Tensor<2>>,
    /// From the units to the hidden state, `[hidden, width]`.
    projection: Option<Tensor<2>>,
}

/// The state between two steps: `hidden [b, width]` in the precision of the rank, and the cells of an LSTM in f32.
#[derive(Clone)]
struct State {
    hidden: Tensor<2>,
    cell: Option<Tensor<2>>,
}

/// Runs the layer over all steps.
pub(super) fn layer(call: &Call<'_>, kind: &Recurrent, mut inputs: Inputs<'_>) -> Result<Matrix, RuntimeError> {
    let x = inputs.matrix()?;
    let batch = call.samples(0, &x.shape);
    let steps = x.sequence();
    let mut state = if kind.initial_state {
        given(kind, inputs.matrix()?.tensor([batch, kind.state() as usize]), call.backend)
    } else {
        zero(kind, batch, &x, call.backend)
    };
    let (gates, weights) = gates(call, kind, &x, [batch, steps]);
    let mut gates: Vec<Option<Tensor<2>>> = gates.into_iter().map(Some).collect();
    let mut states: Vec<Option<State>> = vec![None; steps];
    for step in 0..steps {
        let step = if kind.reverse { steps - 1 - step } else { step };
        if let Some(gates) = gates[step].take() {
            state = weights.step(kind.cell, gates, &state);
        }
        if kind.output != RecurrentOutput::Last {
            states[step] = Some(state.clone());
        }
    }
    let shape = call.output_shape(&x.shape);
    if kind.output == RecurrentOutput::Last {
        return Ok(Matrix::shaped(shape, state.hidden));
    }
    let whole = kind.output == RecurrentOutput::States;
    let rows = states.into_iter().flatten().map(|state| row(state, whole, call.backend));
    Ok(Matrix::shaped(shape, Tensor::stack::<3>(rows.collect(), 1)))
}

/// The hidden state, with the cells after it where the whole state is asked for.
fn row(state: State, whole: bool, backend: &Backend) -> Tensor<2> {
    match state.cell {
        Some(cell) if whole => Tensor::cat(vec![state.hidden, backend.low(cell)], 1),
        _ => state.hidden,
    }
}

fn zero(kind: &Recurrent, batch: usize, x: &Matrix, backend: &Backend) -> State {
    let zeros = |width: u64| Tensor::<2>::zeros([batch, width as usize], &x.rows.device().inner());
    let cell = (kind.cell == Cell::Lstm).then(|| zeros(kind.hidden));
    State { hidden: backend.low(zeros(kind.width())), cell }
}

fn given(kind: &Recurrent, state: Tensor<2>, backend: &Backend) -> State {
    let (width, hidden) = (kind.width() as usize, kind.hidden as usize);
    let cell = (kind.cell == Cell::Lstm).then(|| backend.full(state.clone().narrow(1, width, hidden)));
    State { hidden: state.narrow(1, 0, width), cell }
}

/// The inputs' part of the gates of every step, `[b, gates]` in f32, and the other weights.
fn gates<'a>(
    call: &Call<'a>,
    kind: &Recurrent,
    x: &Matrix,
    [batch, steps]: [usize; 2],
) -> (Vec<Tensor<2>>, Weights<'a>) {
    let backend = call.backend;
    let bias = |index: usize| call.weights[index].vector();
    let (of_input, of_state) = match kind.bias {
        RecurrentBias::None => (None, None),
        RecurrentBias::One => (Some(bias(2)), None),
        // Only a GRU needs its second bias apart from the first.
        RecurrentBias::Two if kind.cell == Cell::Gru => (Some(bias(2)), Some(bias(3).unsqueeze())),
        RecurrentBias::Two => (Some(bias(2) + bias(3)), None),
    };
    let projection = kind.projection.and_then(|_| call.weights.last());
    let weights = Weights {
        backend,
        state: backend.low(call.weights[1].matrix()).transpose(),
        state_bias: of_state,
        projection: projection.map(|weight: &&Weight| backend.low(weight.matrix()).transpose()),
    };
    let all = affine(x.rows.clone(), call.weights[0].matrix(), WeightLayout::OutIn, of_input, backend);
    let width = all.dims()[1];
    let by_step = all.reshape([batch, steps, width]).swap_dims(0, 1).reshape([steps * batch, width]);
    (split_rows(backend.full(by_step), &vec![batch; steps]), weights)
}

impl Weights<'_> {
    /// One step of a cell; `inputs` is the inputs' part of its gates.
    fn step(&self, cell: Cell, inputs: Tensor<2>, state: &State) -> State {
        let product = self.backend.full(state.hidden.clone().matmul(self.state.clone()));
        let recurrent = self.state_bias.clone().map_or(product.clone(), |bias| product + bias);
        match cell {
            Cell::RnnTanh => self.hidden((inputs + recurrent).tanh(), None),
            Cell::RnnRelu => self.hidden(activation::relu(inputs + recurrent), None),
            Cell::Gru => self.gru(inputs, recurrent, state),
            Cell::Lstm => self.lstm(&(inputs + recurrent), state),
        }
    }

    fn hidden(&self, units: Tensor<2>, cell: Option<Tensor<2>>) -> State {
        let units = self.backend.low(units);
        let hidden = self.projection.clone().map_or(units.clone(), |projection| units.matmul(projection));
        State { hidden, cell }
    }

    /// `n = tanh(x_n + r h_n)`, `h' = (1 - z) n + z h` with PyTorch's order of reset `r`, update `z`, new `n`.
    fn gru(&self, inputs: Tensor<2>, recurrent: Tensor<2>, state: &State) -> State {
        let units = inputs.dims()[1] / 3;
        let both = inputs.clone().narrow(1, 0, 2 * units) + recurrent.clone().narrow(1, 0, 2 * units);
        let both = activation::sigmoid(both);
        let (reset, update) = (both.clone().narrow(1, 0, units), both.narrow(1, units, units));
        let new = (inputs.narrow(1, 2 * units, units) + reset * recurrent.narrow(1, 2 * units, units)).tanh();
        let old = self.backend.full(state.hidden.clone());
        self.hidden(new.clone() + update * (old - new), None)
    }

    /// `c' = f c + i g`, `h' = o tanh(c')` with PyTorch's order of input `i`, forget `f`, cell `g`, output `o`.
    fn lstm(&self, gates: &Tensor<2>, state: &State) -> State {
        let units = gates.dims()[1] / 4;
        let part = |index: usize, count: usize| gates.clone().narrow(1, index * units, count * units);
        let both = activation::sigmoid(part(0, 2));
        let (input, forget) = (both.clone().narrow(1, 0, units), both.narrow(1, units, units));
        let new = input * part(2, 1).tanh();
        let cell = state.cell.clone().map_or(new.clone(), |old| forget * old + new);
        let units = activation::sigmoid(part(3, 1)) * cell.clone().tanh();
        self.hidden(units, Some(cell))
    }
}
