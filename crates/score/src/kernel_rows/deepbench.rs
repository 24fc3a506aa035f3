//! DeepBench's products, convolutions and recurrent layers.
//!
//! The sheets of products and recurrent layers were read one column off: a product's text has the second extent under `M`,
//! the third under `N` and the transpositions under `K` and `N`, and its time is the column after the time, TFLOP/s; a
//! recurrent layer's text has no time steps under `Timesteps`, and its three times are those of the gradient of the input,
//! of the gradient of the weights, and the forward throughput in TFLOP/s. That the columns are off can be seen in the row (a
//! letter where a number belongs, `Timesteps=None`); what the columns hold follows from the sheet's order, and large
//! products at 13 of 15.7 and 107 of 125 bear it out. A row that is not off is read as it stands. The extent that was lost
//! is taken from the benchmark's own list of problems, in its order.

use std::sync::LazyLock;

use cutplane_sim::kernel::{Convolution, Kernel, Product, Recurrent, RecurrentCell};

use super::fields::{number, word};
use super::{Asked, KernelQuestion, time_asked};
use crate::prediction::Skip;

/// A product of the benchmark's list.
#[derive(Clone, Copy, Debug, PartialEq)]
struct GemmProblem<'a> {
    m: u64,
    n: u64,
    k: u64,
    transposed: [&'a str; 2],
}

/// A recurrent layer of the benchmark's list.
#[derive(Clone, Copy, Debug, PartialEq)]
struct RecurrentProblem {
    hidden: u64,
    batch: u64,
    steps: u64,
    cell: RecurrentCell,
}

static GEMMS: LazyLock<Vec<GemmProblem<'static>>> = LazyLock::new(|| {
    lines(include_str!("../../data/deepbench_gemm.csv")).filter_map(|fields| gemm_problem(&fields)).collect()
});

static LAYERS: LazyLock<Vec<RecurrentProblem>> = LazyLock::new(|| {
    lines(include_str!("../../data/deepbench_recurrent.csv")).filter_map(|fields| layer_problem(&fields)).collect()
});

/// Data lines: neither comments nor the header.
fn lines(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().filter(|line| !line.starts_with('#')).skip(1).map(|line| line.split(',').collect())
}

fn gemm_problem(fields: &[&'static str]) -> Option<GemmProblem<'static>> {
    let [m, n, k, a, b] = *fields else { return None };
    Some(GemmProblem { m: m.parse().ok()?, n: n.parse().ok()?, k: k.parse().ok()?, transposed: [a, b] })
}

fn layer_problem(fields: &[&'static str]) -> Option<RecurrentProblem> {
    let [hidden, batch, steps, cell] = *fields else { return None };
    let cell = match cell {
        "rnn" => RecurrentCell::Rnn,
        "gru" => RecurrentCell::Gru,
        _ => RecurrentCell::Lstm,
    };
    Some(RecurrentProblem {
        hidden: hidden.parse().ok()?,
        batch: batch.parse().ok()?,
        steps: steps.parse().ok()?,
        cell,
    })
}

/// The kernels of a row and what its metric says.
pub(super) fn read(question: &KernelQuestion<'_>) -> Result<(Vec<Kernel>, Asked), Skip> {
    match question.op.split_whitespace().next() {
        Some("conv") => Ok((vec![Kernel::Convolution(convolution(question)?)], time_asked(question)?)),
        Some("rnn") => recurrent(question),
        _ => gemm(question),
    }
}

fn missing(question: &KernelQuestion<'_>, what: &str) -> Skip {
    Skip::new("missing-shape", format!("no {what} in '{}'", question.model))
}

/// Of the problems that agree with what the row shows, the one that its place among equal rows tells.
fn placed<T: Copy>(candidates: &[T], question: &KernelQuestion<'_>) -> Result<T, Skip> {
    let (before, all) = question.occurrence;
    match candidates {
        [only] => Ok(*only),
        several if several.len() == all && before < all => Ok(several[before]),
        several => Err(Skip::new(
            "ambiguous-shape",
            format!("'{}' stands for {} problems of the benchmark and {all} rows", question.model, several.len()),
        )),
    }
}

fn gemm(question: &KernelQuestion<'_>) -> Result<(Vec<Kernel>, Asked), Skip> {
    let number = |name| number(question.model, name).ok_or_else(|| missing(question, name));
    let (first, second) = (number("M")?, number("N")?);
    if let Ok(k) = number("K") {
        return Ok((vec![Kernel::matmul(first, second, k)], time_asked(question)?));
    }
    let a = word(question.model, "K").ok_or_else(|| missing(question, "K"))?;
    let b = question.model.split_whitespace().nth(4).and_then(|word| word.get(..1)).unwrap_or("N");
    let agrees = |problem: &&GemmProblem<'_>| (problem.n, problem.k, problem.transposed) == (first, second, [a, b]);
    let candidates: Vec<GemmProblem<'_>> = GEMMS.iter().filter(agrees).copied().collect();
    let GemmProblem { m, n, k, .. } = placed(&candidates, question)?;
    // What ran was the benchmark's problem; the sheet mistypes it.
    let k = if k == 1530 { 1536 } else { k };
    let flops = 2.0 * (m * n) as f64 * k as f64;
    // On tensor cores the benchmark pads every extent to eight.
    let [m, n, k] =
        if question.precision.starts_with("fp16") { [m, n, k].map(|x| x.next_multiple_of(8)) } else { [m, n, k] };
    Ok((vec![Kernel::matmul(m, n, k)], Asked::Throughput { flops, unit: 1e12, best_of_search: false }))
}

fn recurrent(question: &KernelQuestion<'_>) -> Result<(Vec<Kernel>, Asked), Skip> {
    let text = question.model;
    let shifted = number(text, "Timesteps").is_none();
    let names = if shifted { ["Source", "Hidden Units", "N"] } else { ["Hidden Units", "N", "Timesteps"] };
    let [hidden, batch, steps] = names.map(|name| number(text, name));
    let batch = batch.ok_or_else(|| missing(question, "batch"))?;
    let steps = steps.ok_or_else(|| missing(question, "time steps"))?;
    let agrees = |problem: &&RecurrentProblem| {
        // The sheet leaves the width out where the cell has one gate.
        let width = hidden.map_or(problem.cell == RecurrentCell::Rnn, |hidden| problem.hidden == hidden);
        (problem.batch, problem.steps) == (batch, steps) && width
    };
    let candidates: Vec<RecurrentProblem> = LAYERS.iter().filter(agrees).copied().collect();
    let RecurrentProblem { hidden, cell, .. } = placed(&candidates, question)?;
    let (product, throughput) = recurrent_column(question.op, shifted)?;
    let layer = Recurrent { cell, batch, steps, hidden, product };
    let asked = if throughput {
        Asked::Throughput { flops: layer.flops(), unit: 1e12, best_of_search: false }
    } else {
        time_asked(question)?
    };
    Ok((vec![Kernel::Recurrent(layer)], asked))
}

/// Which product a column holds, and whether as a throughput.
fn recurrent_column(op: &str, shifted: bool) -> Result<(Product, bool), Skip> {
    let lower = op.to_ascii_lowercase();
    let columns = [
        ("forward", (Product::Forward, false)),
        ("wrt inputs", (Product::InputGradient, false)),
        ("wrt weights", (Product::WeightGradient, false)),
    ];
    let place = columns.iter().position(|(name, _)| lower.contains(name));
    let place = place.ok_or_else(|| Skip::new("unknown-operator", format!("'{op}'")))?;
    let read = if shifted { columns.get(place + 1).map(|(_, column)| *column) } else { Some(columns[place].1) };
    Ok(read.unwrap_or((Product::Forward, true)))
}

fn convolution(question: &KernelQuestion<'_>) -> Result<Convolution, Skip> {
    let text = question.model;
    let number = |name| number(text, name).ok_or_else(|| missing(question, name));
    let lower = question.op.to_ascii_lowercase();
    let product = match () {
        () if lower.contains("forward") => Product::Forward,
        () if lower.contains("wrt inputs") => Product::InputGradient,
        () if lower.contains("wrt parameters") => Product::WeightGradient,
        () => return Err(Skip::new("unknown-operator", format!("'{}'", question.op))),
    };
    Ok(Convolution {
        batch: number("N")?,
        in_channels: number("C")?,
        out_channels: number("K")?,
        height: number("H")?,
        width: number("W")?,
        filter_height: number("R")?,
        filter_width: number("S")?,
        stride: (number("Vertical stride")?, number("Horizontal stride")?),
        padding: (number("pad_h")?, number("pad_w")?),
        dilation: 1,
        groups: 1,
        product,
    })
}
