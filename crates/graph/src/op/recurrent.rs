//! Recurrent layers.

use serde::{Deserialize, Serialize};

use super::operator::{Operator, View, Work, with_dims};
use super::{Init, ParamSpec, is_default};
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Collective, Layout, ShardRule, Sharded, Split};
use crate::tensor::TensorType;

/// What a recurrent layer computes at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// `h = tanh(W x + U h)` (Elman 1990).
    RnnTanh,
    /// `h = max(W x + U h, 0)`.
    RnnRelu,
    /// Gated recurrent unit (Cho et al. 2014), with PyTorch's order of reset, update, new.
    Gru,
    /// Long short-term memory (Hochreiter and Schmidhuber 1997), with PyTorch's order of input, forget, cell, output.
    Lstm,
}

impl Cell {
    /// Weight matrices of one step, of `hidden` rows each.
    pub const fn gates(self) -> u64 {
        match self {
            Self::RnnTanh | Self::RnnRelu => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }

    /// Its name: `rnn`, `gru`, `lstm`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RnnTanh | Self::RnnRelu => "rnn",
            Self::Gru => "gru",
            Self::Lstm => "lstm",
        }
    }
}

/// Bias vectors of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecurrentBias {
    /// None.
    None,
    /// One for each gate (TensorFlow).
    One,
    /// Two for each gate, one of the input and one of the state (PyTorch, cuDNN).
    Two,
}

/// What a recurrent layer gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecurrentOutput {
    /// The hidden state at each step: `[steps, width]`.
    Sequence,
    /// The hidden state after the last step: `[width]`.
    Last,
    /// The whole state at each step, hidden and for an LSTM then cell: `[steps, state]`. Its last row is what the layer
    /// over the next steps starts from.
    States,
}

/// A recurrent layer in one direction over `x [steps, inputs]`, optionally from a state `[state]`.
///
/// A layer over many steps is split over time by building it as several operators that share their parameters: each gives
/// [`RecurrentOutput::States`], whose last row starts the next. A single step is a cell. A bidirectional layer is two
/// operators, one of them [`Recurrent::reverse`], and a concatenation.
///
/// Parameters, named as in `torch.nn.LSTM`: `weight_ih_l0 [gates hidden, inputs]`, `weight_hh_l0 [gates hidden, width]`,
/// then `bias_ih_l0` and `bias_hh_l0` `[gates hidden]`, then `weight_hr_l0 [projection, hidden]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recurrent {
    /// The cell.
    pub cell: Cell,
    /// Width in.
    pub inputs: u64,
    /// Units.
    pub hidden: u64,
    /// Width of the projected hidden state (Sak, Senior and Beaufays 2014); LSTM only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub projection: Option<u64>,
    /// Bias vectors.
    pub bias: RecurrentBias,
    /// Whether it runs from the last step to the first; the output stays in the order of the input.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reverse: bool,
    /// Whether a second input gives the state before the first step; without it, it is zero.
    #[serde(default, skip_serializing_if = "is_default")]
    pub initial_state: bool,
    /// What it gives.
    pub output: RecurrentOutput,
}

impl Recurrent {
    /// A forward layer of `hidden` units with two bias vectors, which gives its whole sequence.
    pub const fn new(cell: Cell, inputs: u64, hidden: u64) -> Self {
        Self {
            cell,
            inputs,
            hidden,
            projection: None,
            bias: RecurrentBias::Two,
            reverse: false,
            initial_state: false,
            output: RecurrentOutput::Sequence,
        }
    }

    /// Width of the hidden state that leaves the layer and comes back at the next step.
    pub fn width(&self) -> u64 {
        self.projection.unwrap_or(self.hidden)
    }

    /// Width of the whole state: hidden, and for an LSTM the cell.
    pub fn state(&self) -> u64 {
        if self.cell == Cell::Lstm { self.width().saturating_add(self.hidden) } else { self.width() }
    }

    /// Rows of the weights.
    fn gate_rows(&self) -> u64 {
        self.cell.gates().saturating_mul(self.hidden)
    }

    fn steps(at: &View<'_>) -> u64 {
        at.input(0).dims[0]
    }

    /// Multiply-adds of one step of one sample.
    fn step_products(&self) -> u128 {
        let recurrent = u128::from(self.gate_rows()) * (u128::from(self.inputs) + u128::from(self.width()));
        recurrent + self.projection.map_or(0, |width| u128::from(width) * u128::from(self.hidden))
    }
}

impl Operator for Recurrent {
    fn label(&self) -> &'static str {
        self.cell.name()
    }

    fn arity(&self) -> usize {
        1 + usize::from(self.initial_state)
    }

    /// Uniform in `1 / sqrt(hidden)`, as PyTorch starts them.
    fn params(&self) -> Vec<ParamSpec> {
        let init = Init::Uniform { bound: (self.hidden.max(1) as f64).powf(-0.5) };
        let spec = |name: &'static str, shape: &[u64]| ParamSpec::new(name, shape, init);
        let (rows, backward) = (self.gate_rows(), self.reverse);
        let name = |forward, reversed| if backward { reversed } else { forward };
        let mut specs = vec![
            spec(name("weight_ih_l0", "weight_ih_l0_reverse"), &[rows, self.inputs]),
            spec(name("weight_hh_l0", "weight_hh_l0_reverse"), &[rows, self.width()]),
        ];
        if self.bias != RecurrentBias::None {
            specs.push(spec(name("bias_ih_l0", "bias_ih_l0_reverse"), &[rows]));
        }
        if self.bias == RecurrentBias::Two {
            specs.push(spec(name("bias_hh_l0", "bias_hh_l0_reverse"), &[rows]));
        }
        if let Some(width) = self.projection {
            specs.push(spec(name("weight_hr_l0", "weight_hr_l0_reverse"), &[width, self.hidden]));
        }
        specs
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let x = inputs[0];
        if x.dims.len() != 2 || x.last() != self.inputs {
            return Err(format!("takes [steps, {}], got {x}", self.inputs));
        }
        if self.projection.is_some() && self.cell != Cell::Lstm {
            return Err(format!("only an LSTM projects its hidden state, not a {}", self.cell.name()));
        }
        let state = with_dims(x, vec![self.state()]);
        if let Some(given) = inputs.get(1).filter(|given| **given != &state) {
            return Err(format!("takes the state {state}, got {given}"));
        }
        let dims = match self.output {
            RecurrentOutput::Sequence => vec![x.dims[0], self.width()],
            RecurrentOutput::Last => vec![self.width()],
            RecurrentOutput::States => vec![x.dims[0], self.state()],
        };
        Ok(with_dims(x, dims))
    }

    /// `2 steps (gates hidden (inputs + width) + projection hidden)` and 10 operations a unit, gate and step for the
    /// functions; backward twice. Kernels: one product for all inputs, then two a step.
    fn work(&self, at: &View<'_>) -> Work {
        let rows = u128::from(at.samples()) * u128::from(Self::steps(at));
        let forward = rows * (2 * self.step_products() + 10 * u128::from(self.gate_rows()));
        let a_step = 2 + u32::from(self.projection.is_some());
        let kernels = u32::try_from(Self::steps(at)).unwrap_or(u32::MAX).saturating_mul(a_step).saturating_add(1);
        // The recurrent weight is read again at every step.
        let again = u128::from(self.gate_rows()) * u128::from(self.width()) * u128::from(Self::steps(at) - 1);
        Work::new(forward, 2 * forward, kernels).with_bytes(at.moved() + 4 * again)
    }

    /// The gates at each step, the cell states of an LSTM, and the hidden states where they are not the output.
    fn saved(&self, at: &View<'_>) -> Saved {
        let rows = at.samples().saturating_mul(Self::steps(at));
        let cells = if self.cell == Cell::Lstm { self.hidden } else { 0 };
        let hidden = if self.output == RecurrentOutput::Last { self.width() } else { 0 };
        let per_row = self.gate_rows().saturating_add(cells).saturating_add(hidden);
        Saved { inputs: true, output: true, internal_elements: rows.saturating_mul(per_row) }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let operator = match self.cell {
            Cell::RnnTanh | Cell::RnnRelu => "recurrent.rnn",
            Cell::Gru => "recurrent.gru",
            Cell::Lstm if self.projection.is_some() => "recurrent.lstm-projected",
            Cell::Lstm => "recurrent.lstm",
        };
        let (steps, samples) = (Self::steps(at), at.samples());
        let work = 2.0 * samples as f64 * steps as f64 * self.step_products() as f64;
        ProfileKey { operator, axes: vec![samples, steps, self.inputs, self.hidden], work }
    }

    /// Units: each rank owns some units of every gate, and the hidden state is gathered at each step; a projection makes
    /// it partial instead, so it is summed. Splits over time are made in the graph, see above.
    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        if self.output == RecurrentOutput::States && self.cell == Cell::Lstm {
            return Vec::new();
        }
        let (whole, rows) = (Sharded::shared(), Sharded::split(Layout::Axis(0)));
        let mut params = vec![rows; self.params().len()];
        let (forward, backward, output) = if self.projection.is_some() {
            params.pop();
            params.push(Sharded::split(Layout::Axis(1)));
            (Collective::AllReduce, Collective::AllReduce, Sharded::replicated())
        } else {
            let last = at.output().dims.len() - 1;
            (Collective::AllGather, Collective::ReduceScatter, Sharded::split(Layout::Axis(last)))
        };
        let steps = Self::steps(at);
        let elements = at.samples().saturating_mul(steps).saturating_mul(self.width());
        let rule = ShardRule::new(Split::Units, self.hidden, &vec![whole; self.arity()], &params, output);
        vec![rule.with_inside(forward, backward, elements, steps)]
    }
}
