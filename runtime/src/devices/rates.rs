//! Rates of a device: matrix multiplication by shape and element type, memory-bound operators, launches, copies.

use std::time::{Duration, Instant};

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use cutplane_graph::Dtype;
use serde::Serialize;

use crate::backend::Backend;
use crate::error::RuntimeError;

/// What one rate is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateKind {
    /// `[m, k]` times `[k, n]`.
    Matmul,
    /// Sum of two tensors: three times their bytes move.
    Add,
    /// A tensor plus a number: twice its bytes move.
    AddScalar,
    /// One of a chain of tiny multiplications: what a kernel costs that has nothing to do.
    Launch,
    /// A tiny multiplication, and waiting for it.
    Synchronize,
    /// From the host to the device.
    HostToDevice,
    /// From the device to the host.
    DeviceToHost,
}

/// One measured rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// What was done.
    pub kind: RateKind,
    /// Element type.
    pub dtype: Dtype,
    /// Rows of a matrix multiplication; elements of the tensor otherwise.
    pub m: u64,
    /// Inner extent of a matrix multiplication; 1 otherwise.
    pub k: u64,
    /// Columns of a matrix multiplication; 1 otherwise.
    pub n: u64,
    /// Repetitions that the median is over.
    pub samples: usize,
    /// Median time, ns.
    pub median_ns: f64,
    /// Median absolute deviation, ns.
    pub mad_ns: f64,
    /// 2 m k n over the median, TFLOP/s; 0 for what multiplies no matrices.
    pub tflop_per_s: f64,
    /// Bytes moved over the median, GB/s: a matrix multiplication moves each matrix once.
    pub gb_per_s: f64,
}

/// A rate that is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateCase {
    /// What is done.
    pub kind: RateKind,
    /// Element type.
    pub dtype: Dtype,
    /// `[m, k, n]`, as in [`Rate`].
    pub shape: [u64; 3],
}

/// The cases that describe a device: for an accelerator shapes of GPT-2 and BERT layers and squares, in f32 and bf16;
/// few and small ones for a core.
pub fn rate_cases(accelerator: bool) -> Vec<RateCase> {
    let case = |kind, dtype, shape| RateCase { kind, dtype, shape };
    let mut cases = Vec::new();
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let squares: &[u64] = if accelerator { &[512, 1024, 2048, 4096, 8192] } else { &[64, 128] };
        cases.extend(squares.iter().map(|n| case(RateKind::Matmul, dtype, [*n; 3])));
        if accelerator {
            // Tokens x width x outputs of the layers of GPT-2 small and medium.
            let layers =
                [[4096, 768, 2304], [4096, 768, 3072], [4096, 3072, 768], [8192, 1024, 4096], [1024, 768, 50257]];
            cases.extend(layers.map(|shape| case(RateKind::Matmul, dtype, shape)));
        }
        let elements = if accelerator { 1 << 26 } else { 1 << 16 };
        cases.push(case(RateKind::Add, dtype, [elements, 1, 1]));
        cases.push(case(RateKind::AddScalar, dtype, [elements, 1, 1]));
    }
    cases.push(case(RateKind::Launch, Dtype::F32, [16, 16, 16]));
    cases.push(case(RateKind::Synchronize, Dtype::F32, [16, 16, 16]));
    let copies: &[u64] = if accelerator { &[1 << 10, 1 << 18, 1 << 22, 1 << 26] } else { &[1 << 10] };
    for elements in copies {
        cases.push(case(RateKind::HostToDevice, Dtype::F32, [*elements, 1, 1]));
        cases.push(case(RateKind::DeviceToHost, Dtype::F32, [*elements, 1, 1]));
    }
    cases
}

/// Tiny multiplications that are queued before the device is waited for.
const CHAIN: u32 = 100;
/// Repetitions before the clock is trusted, at most: kernels are compiled and chosen in the first.
const WARM_UPS: usize = 8;
const SAMPLES: usize = 7;
/// Two successive times that differ by less than this share end the warm-up.
const AGREEMENT: f64 = 0.1;

/// Measures one rate.
///
/// # Errors
/// [`RuntimeError::Device`] when the device does not answer.
pub fn measure_rate(backend: &Backend, case: &RateCase) -> Result<Rate, RuntimeError> {
    let mut work = Work::new(case, &backend.device());
    let mut last = work.run(backend)?;
    for _ in 0..WARM_UPS {
        let time = work.run(backend)?;
        let agrees = (time.as_secs_f64() - last.as_secs_f64()).abs() < AGREEMENT * last.as_secs_f64();
        last = time;
        if agrees {
            break;
        }
    }
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        times.push(work.run(backend)?.as_nanos() as f64 / f64::from(work.operations));
    }
    let summary = cutplane_record::Summary::of(&times);
    let (median_ns, mad_ns) = summary.map_or((0.0, 0.0), |summary| (summary.median_ns, summary.mad_ns));
    let [m, k, n] = case.shape;
    let flops = if case.kind == RateKind::Matmul { 2.0 * (m * k) as f64 * n as f64 } else { 0.0 };
    Ok(Rate {
        kind: case.kind,
        dtype: case.dtype,
        m,
        k,
        n,
        samples: SAMPLES,
        median_ns,
        mad_ns,
        tflop_per_s: flops / median_ns.max(1.0) / 1e3,
        gb_per_s: moved_bytes(case) / median_ns.max(1.0),
    })
}

fn moved_bytes(case: &RateCase) -> f64 {
    let [m, k, n] = case.shape.map(|extent| extent as f64);
    let elements = match case.kind {
        RateKind::Matmul | RateKind::Launch | RateKind::Synchronize => m * k + k * n + m * n,
        RateKind::Add => 3.0 * m,
        RateKind::AddScalar => 2.0 * m,
        RateKind::HostToDevice | RateKind::DeviceToHost => m,
    };
    elements * case.dtype.size() as f64
}

/// The operands of a case, on the device.
struct Work {
    kind: RateKind,
    left: Tensor<2>,
    right: Tensor<2>,
    host: Vec<f32>,
    /// Operations in one run.
    operations: u32,
}

impl Work {
    fn new(case: &RateCase, device: &Device) -> Self {
        let [m, k, n] = case.shape.map(|extent| extent as usize);
        let copies = matches!(case.kind, RateKind::HostToDevice | RateKind::DeviceToHost);
        let matrices = case.kind == RateKind::Matmul;
        let operations = match case.kind {
            RateKind::Launch => CHAIN,
            // About a hundredth of a second on a fast card, so that waiting does not count.
            RateKind::Matmul => (2e12 / (2.0 * (m * k) as f64 * n as f64)).clamp(1.0, 50.0) as u32,
            _ => 1,
        };
        let numbers = |rows: usize, columns: usize| {
            let value = |i: usize| (i % 64) as f32 / 64.0 - 0.5;
            let data = TensorData::new((0..rows * columns).map(value).collect(), [rows, columns]);
            cast(Tensor::<2>::from_data(data, device), case.dtype)
        };
        Self {
            kind: case.kind,
            left: numbers(m, k),
            right: if matrices || k > 1 { numbers(k, n) } else { numbers(m, 1) },
            host: if copies { vec![0.5; m] } else { Vec::new() },
            operations,
        }
    }

    /// Runs all operations once, the device idle before and after.
    fn run(&mut self, backend: &Backend) -> Result<Duration, RuntimeError> {
        backend.sync()?;
        let copied = (self.kind == RateKind::HostToDevice).then(|| self.host.clone());
        let started = Instant::now();
        match self.kind {
            RateKind::Matmul => {
                for _ in 0..self.operations {
                    drop(self.left.clone().matmul(self.right.clone()));
                }
            }
            RateKind::Launch | RateKind::Synchronize => {
                for _ in 0..self.operations {
                    // The product replaces the left operand: each multiplication waits for the one before it.
                    self.left = self.left.clone().matmul(self.right.clone());
                }
            }
            RateKind::Add => drop(self.left.clone() + self.right.clone()),
            RateKind::AddScalar => drop(self.left.clone() + 1.0),
            RateKind::HostToDevice => {
                let data = copied.unwrap_or_default();
                let shape = [data.len()];
                drop(Tensor::<1>::from_data(TensorData::new(data, shape), &backend.device()));
            }
            RateKind::DeviceToHost => {
                let data = self.left.clone().try_into_data();
                data.map_err(|error| RuntimeError::Device { problem: error.to_string() })?;
            }
        }
        backend.sync()?;
        Ok(started.elapsed())
    }
}

fn cast(tensor: Tensor<2>, dtype: Dtype) -> Tensor<2> {
    match dtype {
        Dtype::Bf16 => tensor.cast(FloatDType::BF16),
        Dtype::F16 => tensor.cast(FloatDType::F16),
        _ => tensor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_a_core_gives_a_rate() {
        for case in rate_cases(false) {
            let rate = measure_rate(&Backend::cpu(), &case).expect("measures");
            assert!(rate.median_ns > 0.0 && rate.gb_per_s > 0.0, "{rate:?}");
            assert_eq!(rate.tflop_per_s > 0.0, case.kind == RateKind::Matmul);
        }
    }

    #[test]
    fn bytes_are_counted_once_a_matrix() {
        let case = RateCase { kind: RateKind::Matmul, dtype: Dtype::Bf16, shape: [2, 3, 4] };
        assert!((moved_bytes(&case) - 2.0 * (6.0 + 12.0 + 8.0)).abs() < 1e-9);
    }
}
