//! A device and how long its kernels take.

use std::sync::Arc;

use cutplane_graph::DeviceSpec;
use serde::{Deserialize, Serialize};

use super::calibration::{Calibration, Spreads, calibrations};
use super::facts::Facts;
use super::{Kernel, Parameters, Precision};
use crate::prediction::Predicted;

/// Kinds of kernels that err alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelClass {
    /// Matrix products.
    Matmul,
    /// Attention.
    Attention,
    /// Pointwise kernels, normalisations, gathers.
    MemoryBound,
    /// Convolutions.
    Convolution,
    /// Recurrent layers.
    Recurrent,
}

impl Kernel {
    /// Its kind.
    pub const fn class(&self) -> KernelClass {
        match self {
            Self::Matmul { .. } => KernelClass::Matmul,
            Self::Attention(_) => KernelClass::Attention,
            Self::MemoryBound { .. } | Self::Gather { .. } => KernelClass::MemoryBound,
            Self::Convolution(_) => KernelClass::Convolution,
            Self::Recurrent(_) => KernelClass::Recurrent,
        }
    }
}

/// How well the parameters of a model are known to be this device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Fitted on this device model.
    Measured,
    /// Those of a relative: another device of the family.
    Relative,
    /// Priors alone.
    Assumed,
}

/// One device with its libraries: a datasheet and the fitted parameters of its family.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuModel {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) facts: Facts,
    pub(crate) parameters: Parameters,
    pub(crate) standing: Standing,
    pub(crate) calibration: Option<Arc<Calibration>>,
    pub(crate) spreads: Spreads,
}

impl GpuModel {
    /// The model of any device: with the parameters that were fitted on it, else those of its nearest relative, else
    /// priors.
    pub fn from_spec(spec: &DeviceSpec) -> Self {
        let facts = Facts::of(spec);
        let own = calibrations().iter().find(|known| known.models.contains(&spec.model));
        match own.or_else(|| nearest(&facts)) {
            Some(found) => {
                let is_own = own.is_some() || found.standing != Standing::Measured;
                Self::new(spec, facts, Some(found.clone()), if is_own { found.standing } else { Standing::Relative })
            }
            None => Self::new(spec, facts, None, Standing::Assumed),
        }
    }

    /// A device with a calibration of one's own, such as `cutplane calibrate` writes.
    pub fn with_calibration(spec: &DeviceSpec, calibration: Arc<Calibration>) -> Self {
        let standing = calibration.standing;
        Self::new(spec, Facts::of(spec), Some(calibration), standing)
    }

    fn new(spec: &DeviceSpec, facts: Facts, calibration: Option<Arc<Calibration>>, standing: Standing) -> Self {
        let parameters = calibration.as_ref().map_or(Parameters::PRIOR, |found| found.parameters);
        let spreads = calibration.as_ref().map_or(Spreads::PRIOR, |found| found.spreads);
        Self {
            name: spec.model.clone(),
            source: spec.source.clone(),
            facts,
            parameters,
            standing,
            calibration,
            spreads,
        }
    }

    /// The same device with other parameters: what a fit tries, or what a user measured.
    #[must_use]
    pub fn with_parameters(self, parameters: Parameters) -> Self {
        Self { parameters, ..self }
    }

    /// Name of the device model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameters in use.
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Whether the parameters were fitted on this device.
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// What a host spends to launch one kernel, s: a stretch of kernels takes the longer of its device time and its launches.
    pub const fn launch_seconds(&self) -> f64 {
        self.facts.launch
    }

    /// Dense operations a second of a precision, from the datasheet.
    pub fn peak(&self, precision: Precision) -> f64 {
        self.facts.peak(precision).flops
    }

    /// Memory bandwidth of the datasheet, bytes/s.
    pub const fn memory_bandwidth(&self) -> f64 {
        self.facts.bandwidth
    }

    /// Time of a kernel on the device, from the start of its first instruction to the end of its last; the host's launch is
    /// not in it.
    pub fn time(&self, kernel: &Kernel, precision: Precision) -> Predicted {
        let measured = self.calibration.as_ref().is_some_and(|known| known.precisions.contains(&precision));
        let outside = self.standing != Standing::Measured || !measured;
        let widened =
            if outside { self.spreads.of(kernel.class()).max(WIDENED) } else { self.spreads.of(kernel.class()) };
        Predicted::within(self.seconds(kernel, precision), widened).extrapolating(outside)
    }

    /// [`GpuModel::time`] without its interval, s.
    pub fn seconds(&self, kernel: &Kernel, precision: Precision) -> f64 {
        match kernel {
            Kernel::Matmul { m, n, k, batch } => self.matmul(*m, *n, *k, *batch, precision),
            Kernel::Attention(attention) => self.attention(attention, precision),
            Kernel::MemoryBound { bytes_read, bytes_written, kernels, rows } => {
                self.memory_bound(*bytes_read, *bytes_written, *kernels, *rows)
            }
            Kernel::Gather { indices, width } => self.gather(*indices, *width, precision),
            Kernel::Convolution(shape) => self.convolution(shape, precision),
            Kernel::Recurrent(shape) => self.recurrent(shape, precision),
        }
    }
}

/// Factor within which nine of ten measurements are taken to lie on a relative of a measured device.
const WIDENED: f64 = 1.5;

/// The calibration of the same family whose device is nearest in multiprocessors, cache and bandwidth; a measured one
/// before priors.
fn nearest(facts: &Facts) -> Option<&'static Arc<Calibration>> {
    let family = calibrations().iter().filter(|known| Some(known.architecture) == facts.architecture);
    family.min_by(|a, b| distance(a, facts).total_cmp(&distance(b, facts)))
}

fn distance(known: &Calibration, facts: &Facts) -> f64 {
    let apart = |a: f64, b: f64| (a.max(1e-9) / b.max(1e-9)).ln().powi(2);
    let measured = if known.standing == Standing::Measured { 0.0 } else { 1e3 };
    measured
        + apart(known.cache_mib * 1_048_576.0, facts.cache)
        + apart(known.multiprocessors, facts.multiprocessors)
        + apart(known.memory_bandwidth_gb_per_s * 1e9, facts.bandwidth)
}
