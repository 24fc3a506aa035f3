//! Rows of the workload `kernel`: what ran, in which precision, and what the metric says of it.

mod deepbench;
mod fields;
mod layer;
mod plain;

use cutplane_sim::kernel::{GpuModel, Kernel, KernelClass, Precision};
use cutplane_sim::prediction::{self, Predicted};

use crate::prediction::{Origin, RowPrediction, Skip};
use crate::row::Row;

/// What a kernel row asks. Extents are those of the whole model; a row is one device's share of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KernelQuestion<'a> {
    /// Column `hardware`.
    pub hardware: &'a str,
    /// Column `op`.
    pub op: &'a str,
    /// Column `model`.
    pub model: &'a str,
    /// Column `precision`.
    pub precision: &'a str,
    /// Column `metric_name`.
    pub metric: &'a str,
    /// Column `metric_unit`.
    pub unit: &'a str,
    /// Column `hidden`.
    pub hidden: Option<u64>,
    /// Column `heads`.
    pub heads: Option<u64>,
    /// Column `kv_heads`.
    pub kv_heads: Option<u64>,
    /// Column `ffn_hidden`.
    pub ffn_hidden: Option<u64>,
    /// Column `vocab`.
    pub vocab: Option<u64>,
    /// Column `seq_len`: tokens.
    pub tokens: Option<u64>,
    /// Column `tp`: devices that share the layer.
    pub tensor_parallel: Option<u64>,
    /// Column `notes`.
    pub notes: &'a str,
    /// How many rows of the file with the same `url_or_repo_path`, `op` and `model` come before this one, and how many there
    /// are: tells apart shapes that the row does not.
    pub occurrence: (usize, usize),
}

impl<'a> KernelQuestion<'a> {
    /// What a row asks.
    pub fn of(row: &'a Row) -> Self {
        Self {
            hardware: &row.hardware,
            op: &row.op,
            model: &row.model,
            precision: &row.precision,
            metric: &row.metric_name,
            unit: &row.metric_unit,
            hidden: row.hidden,
            heads: row.heads,
            kv_heads: row.kv_heads,
            ffn_hidden: row.ffn_hidden,
            vocab: row.vocab,
            tokens: row.seq_len,
            tensor_parallel: row.tp,
            notes: &row.notes,
            occurrence: row.occurrence,
        }
    }
}

/// What the metric of a row says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    /// A time, in units of so many seconds.
    Time {
        /// Seconds of the row's unit.
        unit: f64,
    },
    /// Work over time, in units of so many operations a second.
    Throughput {
        /// Operations.
        flops: f64,
        /// Operations a second of the row's unit.
        unit: f64,
        /// Whether the row keeps the fastest of a search over shapes.
        best_of_search: bool,
    },
}

/// A row as kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelRow {
    /// What ran, one after the other.
    pub kernels: Vec<Kernel>,
    /// In which precision.
    pub precision: Precision,
    /// What the metric says.
    pub asked: Asked,
}

/// How much faster the fastest of a search over thousands of shapes is than the model's account of its shape: a search keeps
/// the shapes and runs that the model errs on most in its favour, the fast end of the interval that nine of ten products
/// lie in (a factor of 1.10 on A100 and 1.15 on H100, as fitted). Assumed.
const SEARCH_GAIN: f64 = 1.12;

impl KernelRow {
    /// Reads a row.
    ///
    /// # Errors
    /// [`Skip`] for operations, precisions and units that are not known and for shapes that the row does not tell.
    pub fn read(question: &KernelQuestion<'_>) -> Result<Self, Skip> {
        let (kernels, asked) = match question.op {
            op if op.starts_with("rnn ") || op.starts_with("conv ") => deepbench::read(question)?,
            op if op.starts_with("gemm ") => product_of_op(question, op)?,
            op => match plain::read(question) {
                Some(read) => read?,
                None if op == "gemm" => deepbench::read(question)?,
                None => (layer::read(question)?, time_asked(question)?),
            },
        };
        Ok(Self { kernels, precision: precision_of(question.precision)?, asked })
    }

    /// The measured time of a row whose metric has this value, s.
    pub fn seconds_of(&self, value: f64) -> f64 {
        match self.asked {
            Asked::Time { unit } => value * unit,
            Asked::Throughput { flops, unit, .. } => flops / (value * unit),
        }
    }

    /// Predicts the row's metric on a device.
    pub fn predict(&self, gpu: &GpuModel) -> RowPrediction {
        let time: Predicted = self.kernels.iter().map(|kernel| gpu.time(kernel, self.precision)).sum();
        let mut row = match self.asked {
            Asked::Time { unit } => RowPrediction::new(time.seconds / unit, time.low / unit, time.high / unit),
            Asked::Throughput { flops, unit, best_of_search } => {
                let gain = if best_of_search { SEARCH_GAIN } else { 1.0 };
                let rate = |seconds: f64| (flops * gain / (seconds * unit)).min(gpu.peak(self.precision) / unit);
                RowPrediction::new(rate(time.seconds), rate(time.high), rate(time.low))
            }
        };
        row.extrapolates = time.extrapolates;
        self.trace(gpu, &mut row);
        row
    }

    fn trace(&self, gpu: &GpuModel, row: &mut RowPrediction) {
        if self.is_best_of_search() {
            row.note("gain of a search over shapes", SEARCH_GAIN, Origin::Assumed);
        }
        let Some(kernel) = self.kernels.first() else { return };
        for term in gpu.explain(kernel, self.precision).terms {
            row.note(term.name, term.value, origin(term.origin));
        }
    }

    /// Whether the metric keeps the fastest of a search over shapes.
    pub const fn is_best_of_search(&self) -> bool {
        matches!(self.asked, Asked::Throughput { best_of_search: true, .. })
    }

    /// The kind that the row's time is mostly of.
    pub fn class(&self) -> Option<KernelClass> {
        self.kernels.first().map(Kernel::class)
    }
}

fn origin(origin: prediction::Origin) -> Origin {
    match origin {
        prediction::Origin::Datasheet { .. } => Origin::Datasheet,
        prediction::Origin::Calibrated { rows } => Origin::Calibrated { rows },
        prediction::Origin::Assumed => Origin::Assumed,
    }
}

/// `gemm 1024x10240x5120`: rows, columns and inner extent.
fn product_of_op(question: &KernelQuestion<'_>, op: &str) -> Result<(Vec<Kernel>, Asked), Skip> {
    let extents: Vec<u64> = op.trim_start_matches("gemm ").split('x').filter_map(|part| part.parse().ok()).collect();
    let [m, n, k] = extents[..] else {
        return Err(Skip::new("unknown-shape", format!("'{op}' is not 'gemm MxNxK'")));
    };
    let kernel = Kernel::matmul(m, n, k);
    let flops = 2.0 * m as f64 * n as f64 * k as f64;
    let best_of_search = question.metric.to_ascii_lowercase().contains("max");
    match question.unit {
        "TFLOP/s" | "TFLOPS" => Ok((vec![kernel], Asked::Throughput { flops, unit: 1e12, best_of_search })),
        _ => Ok((vec![kernel], time_asked(question)?)),
    }
}

fn time_asked(question: &KernelQuestion<'_>) -> Result<Asked, Skip> {
    let unit = match question.unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "ns" => 1e-9,
        other => return Err(Skip::new("unknown-unit", format!("'{other}' of '{}'", question.metric))),
    };
    Ok(Asked::Time { unit })
}

/// The precision that a row names.
fn precision_of(text: &str) -> Result<Precision, Skip> {
    let lower = text.to_ascii_lowercase();
    Ok(match lower.as_str() {
        "fp32" | "f32" | "float32" => Precision::F32,
        "tf32" => Precision::Tf32,
        "fp16 storage/fp32 math" => Precision::HalfStorage,
        "bf16" | "bfloat16" => Precision::Bf16,
        "int8" => Precision::Int8,
        _ if lower.starts_with("fp16") || lower == "float16" || lower == "half" => Precision::F16,
        _ if lower.starts_with("fp8") => Precision::Fp8,
        _ => return Err(Skip::new("unknown-precision", format!("'{text}'"))),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
