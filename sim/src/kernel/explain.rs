//! What a prediction is made of.

use super::parameters::Prior;
use super::{GpuModel, Kernel, KernelClass, Parameters, Precision, Standing};
use crate::prediction::{Explanation, Origin, Term};

impl GpuModel {
    /// The prediction of a kernel with every number that went into it: datasheet, calibrated on which rows, or assumed.
    pub fn explain(&self, kernel: &Kernel, precision: Precision) -> Explanation {
        let sheet = |name: &'static str, value: f64| Term {
            name: name.into(),
            value,
            origin: Origin::Datasheet { source: self.source.clone().into() },
        };
        let facts = &self.facts;
        let mut terms = vec![
            sheet("peak, TFLOP/s", facts.peak(precision).flops / 1e12),
            sheet("memory bandwidth, GB/s", facts.bandwidth / 1e9),
            sheet("multiprocessors", facts.multiprocessors),
            sheet("clock, MHz", facts.clock / 1e6),
            sheet("last cache, MiB", facts.cache / 1_048_576.0),
        ];
        let values = self.parameters.values();
        let named = Parameters::PRIORS.iter().zip(values).filter(|(prior, _)| matters(prior, kernel.class()));
        terms.extend(named.map(|(prior, value)| Term { name: prior.name.into(), value, origin: self.origin(prior) }));
        Explanation { predicted: self.time(kernel, precision), terms }
    }

    fn origin(&self, prior: &Prior) -> Origin {
        match self.calibration.as_ref().filter(|known| known.fitted.iter().any(|name| name == prior.name)) {
            Some(known) if self.standing == Standing::Relative => {
                Origin::Calibrated { rows: format!("{}, on a relative of this device", known.rows).into() }
            }
            Some(known) => Origin::Calibrated { rows: known.rows.clone().into() },
            None => Origin::Assumed,
        }
    }
}

/// Whether a parameter enters the time of a kind of kernel.
fn matters(prior: &Prior, class: KernelClass) -> bool {
    const PRODUCT: [&str; 10] = [
        "tensor_efficiency",
        "vector_efficiency",
        "resident_half",
        "tile_half",
        "operand_bandwidth",
        "cache_bandwidth",
        "multiprocessor_bandwidth",
        "matmul_us",
        "overlap",
        "split_us",
    ];
    let own: &[&str] = match class {
        KernelClass::Matmul => &[],
        KernelClass::Attention => &["flash_efficiency", "flash_backward_efficiency", "kernel_us", "stream_bandwidth"],
        KernelClass::MemoryBound => &[
            "stream_bandwidth",
            "cache_bandwidth",
            "cache_share",
            "kernel_us",
            "round_trip_us",
            "row_per_clock",
            "gather_per_clock",
            "overlap",
        ],
        KernelClass::Convolution => &[
            "convolution_efficiency",
            "input_gradient_efficiency",
            "weight_gradient_efficiency",
            "winograd_efficiency",
            "winograd_split_efficiency",
            "convolution_us",
        ],
        KernelClass::Recurrent => &["step_us", "recurrent_us", "step_bandwidth", "step_efficiency"],
    };
    own.contains(&prior.name) || class != KernelClass::MemoryBound && PRODUCT.contains(&prior.name)
}
