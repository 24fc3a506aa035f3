//! Recurrent layers: one operator a direction, with the gates in the order of the graph.

use cutplane_graph::{Cell, Concat, OpKind, Recurrent, RecurrentBias};

use super::super::extent::{Extent, batch_axis, elements, sample_dims};
use super::super::import::{Entry, Importer, Weight};
use super::super::ir::{Id, Value};
use super::super::node::NodeView;
use super::{Lowered, float, given};

/// What both directions have in common.
struct Layer {
    cell: Cell,
    steps: u64,
    inputs: u64,
    hidden: u64,
    /// The place of each gate of the graph among those of ONNX.
    gates: &'static [u64],
    weights: [usize; 2],
    bias: Option<usize>,
}

pub(super) fn layer(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    let directions: &[bool] = match node.text("direction").unwrap_or("forward") {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return Err(format!("runs in direction '{other}'")),
    };
    let layer = read(node, inputs, &x, directions.len() as u64)?;
    initial_states(importer, inputs)?;
    let mut sequences = Vec::new();
    let mut lasts = Vec::new();
    for (direction, reverse) in directions.iter().enumerate() {
        let id = one_direction(importer, &layer, &x, direction as u64, *reverse)?;
        let index = if *reverse { 0 } else { layer.steps - 1 };
        let last = importer.ir.op(OpKind::SelectToken { index }, &[id])?;
        lasts.push(importer.ir.reshaped(last, vec![1, layer.hidden])?);
        sequences.push(importer.ir.reshaped(id, vec![layer.steps, 1, layer.hidden])?);
    }
    let count = Extent::known(directions.len() as i64);
    let (steps, hidden) = (Extent::known(layer.steps as i64), Extent::known(layer.hidden as i64));
    let sequence = joined(importer, &sequences, 1)?;
    let last = joined(importer, &lasts, 0)?;
    let sequence = importer.ir.checked(sequence, vec![steps, count, Extent::BATCH, hidden])?;
    let last = importer.ir.checked(last, vec![count, Extent::BATCH, hidden])?;
    Ok(vec![Entry::Value(sequence), Entry::Value(last), Entry::Absent])
}

fn joined(importer: &mut Importer<'_>, ids: &[Id], axis: usize) -> Result<Id, String> {
    match ids {
        [only] => Ok(*only),
        _ => importer.ir.op(OpKind::Concat(Concat { axis, values: ids.len() }), ids),
    }
}

fn read(node: &NodeView<'_>, inputs: &[Entry], x: &Value, directions: u64) -> Result<Layer, String> {
    let (cell, gates): (Cell, &[u64]) = match (node.op(), node.int("linear_before_reset", 0)) {
        ("LSTM", _) => (Cell::Lstm, &[0, 2, 3, 1]),
        ("GRU", 1) => (Cell::Gru, &[1, 0, 2]),
        ("GRU", _) => return Err("resets before the product; linear_before_reset = 1 is supported".to_owned()),
        _ => (Cell::RnnTanh, &[0]),
    };
    node.only("layout", 0)?;
    let hidden = u64::try_from(node.int("hidden_size", 0)).unwrap_or(0);
    let (&[steps, inputs_width], Some(1)) = (&sample_dims(&x.dims)[..], batch_axis(&x.dims)) else {
        return Err("takes [steps, batch, features]".to_owned());
    };
    let usual = |name: &str| name.eq_ignore_ascii_case("tanh") || name.eq_ignore_ascii_case("sigmoid");
    if node.has("clip") || node.int("input_forget", 0) != 0 || node.text("activations").is_some_and(|name| !usual(name))
    {
        return Err("has other activations, clipping or coupled gates".to_owned());
    }
    let rows = directions * cell.gates() * hidden;
    let matrix = |index: usize, width: u64| match given(inputs, index) {
        Entry::Weight(Weight { initializer, dims, transposed: false }) if elements(dims) == rows * width => {
            Ok(*initializer)
        }
        _ => Err(format!("input {index} must be an initializer of {rows} rows of {width}")),
    };
    let bias = match given(inputs, 3) {
        Entry::Absent => None,
        _ => Some(matrix(3, 2)?),
    };
    Ok(Layer {
        cell,
        steps,
        inputs: inputs_width,
        hidden,
        gates,
        weights: [matrix(1, inputs_width)?, matrix(2, hidden)?],
        bias,
    })
}

/// States before the first step must be zero, and all sequences full.
fn initial_states(importer: &mut Importer<'_>, inputs: &[Entry]) -> Result<(), String> {
    for index in 5..inputs.len().min(7) {
        if !matches!(given(inputs, index), Entry::Absent) {
            let zero = importer.constant(given(inputs, index)).is_ok_and(|state| state.uniform() == Some(0.0));
            if !zero {
                return Err(format!("begins from a state (input {index}) that is not zero"));
            }
        }
    }
    if matches!(given(inputs, 4), Entry::Absent) && matches!(given(inputs, 7), Entry::Absent) {
        return Ok(());
    }
    Err("has sequences of different lengths, or peepholes".to_owned())
}

fn one_direction(
    importer: &mut Importer<'_>,
    layer: &Layer,
    x: &Value,
    direction: u64,
    reverse: bool,
) -> Result<Id, String> {
    let (count, hidden) = (layer.cell.gates(), layer.hidden);
    let rows = |width: u64, first: u64| -> Vec<[u64; 2]> {
        let gate = |gate: &u64| [(first + gate * hidden) * width, (first + (gate + 1) * hidden) * width];
        layer.gates.iter().map(gate).collect()
    };
    let first = direction * count * hidden;
    let mut params = vec![
        importer.ir.param(layer.weights[0], rows(layer.inputs, first)),
        importer.ir.param(layer.weights[1], rows(hidden, first)),
    ];
    if let Some(bias) = layer.bias {
        params.extend([2 * first, 2 * first + count * hidden].map(|first| importer.ir.param(bias, rows(1, first))));
    }
    let bias = if layer.bias.is_some() { RecurrentBias::Two } else { RecurrentBias::None };
    let kind = Recurrent { bias, reverse, ..Recurrent::new(layer.cell, layer.inputs, hidden) };
    importer.ir.op_with(OpKind::Recurrent(kind), &[x.id], params)
}
