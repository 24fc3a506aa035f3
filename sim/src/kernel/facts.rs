//! What a datasheet says of a device, in base units.

use cutplane_graph::{Architecture, DeviceSpec, Dtype};

use super::Precision;

/// Bytes of the last cache over a multiprocessor where no datasheet says: the middle of the catalogue.
const CACHE_BYTES_PER_MULTIPROCESSOR: f64 = 192.0 * 1024.0;
/// Operations a clock of a multiprocessor with 128 lanes.
const LANE_OPERATIONS: f64 = 256.0;
/// Passes in which matrix units without f32 compute it from 16-bit pieces.
const PASSES: f64 = 6.0;
/// Boost clock where no datasheet says, Hz.
const USUAL_CLOCK: f64 = 1.5e9;

/// The arithmetic that one precision runs at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Peak {
    /// Dense operations a second.
    pub(crate) flops: f64,
    /// On matrix units, not on vector lanes.
    pub(crate) tensor: bool,
}

/// A datasheet in base units: flop/s, bytes, bytes/s, Hz, s.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    pub(crate) architecture: Option<Architecture>,
    pub(crate) multiprocessors: f64,
    pub(crate) clock: f64,
    pub(crate) cache: f64,
    pub(crate) bandwidth: f64,
    pub(crate) launch: f64,
    vector: f64,
    tf32: Option<f64>,
    f16: Option<f64>,
    bf16: Option<f64>,
    fp8: Option<f64>,
    int8: Option<f64>,
    pub(crate) matrix_units: bool,
}

impl Facts {
    pub(crate) fn of(spec: &DeviceSpec) -> Self {
        let peak = |dtype| spec.peak_tflop_per_s.get(&dtype).map(|tera| tera * 1e12);
        let facts = spec.accelerator.as_ref();
        let tera = |value: Option<f64>| value.map(|tera| tera * 1e12);
        let any = spec.peak_tflop_per_s.values().copied().fold(0.0, f64::max) * 1e12;
        let vector = peak(Dtype::F32).unwrap_or(any / PASSES);
        let clock = facts.map_or(USUAL_CLOCK, |facts| facts.clock_mhz * 1e6);
        let guessed = (vector / clock / LANE_OPERATIONS).round().max(1.0);
        let multiprocessors = facts.map_or(guessed, |facts| f64::from(facts.multiprocessors));
        let architecture = facts.map(|facts| facts.architecture);
        let f16 = peak(Dtype::F16);
        Self {
            architecture,
            multiprocessors,
            clock,
            cache: facts.map_or(guessed * CACHE_BYTES_PER_MULTIPROCESSOR, |facts| facts.l2_mib * 1_048_576.0),
            bandwidth: spec.memory_bandwidth_gb_per_s * 1e9,
            launch: spec.launch_overhead_us * 1e-6,
            vector,
            tf32: facts.and_then(|facts| tera(facts.tf32_tflop_per_s)),
            f16,
            bf16: peak(Dtype::Bf16),
            fp8: facts.and_then(|facts| tera(facts.fp8_tflop_per_s)),
            int8: facts.and_then(|facts| tera(facts.int8_top_per_s)),
            matrix_units: architecture.map_or(f16.or(peak(Dtype::Bf16)) > Some(2.5 * vector), has_matrix_units),
        }
    }

    /// The peak of a precision; where the device does not compute in it, of the next wider one that it does.
    pub(crate) fn peak(&self, precision: Precision) -> Peak {
        let vector = Peak { flops: self.vector, tensor: false };
        let on_matrix_units = |flops: Option<f64>| flops.map(|flops| Peak { flops, tensor: self.matrix_units });
        let half = || on_matrix_units(self.f16.or(self.bf16)).unwrap_or(vector);
        match precision {
            Precision::F32 | Precision::HalfStorage => vector,
            Precision::Tf32 => on_matrix_units(self.tf32).unwrap_or(vector),
            Precision::F16 => half(),
            Precision::Bf16 => on_matrix_units(self.bf16).unwrap_or(vector),
            Precision::Fp8 => on_matrix_units(self.fp8).unwrap_or_else(half),
            Precision::Int8 => on_matrix_units(self.int8).unwrap_or_else(half),
        }
    }
}

const fn has_matrix_units(architecture: Architecture) -> bool {
    use Architecture::{Kepler, KnightsLanding, Maxwell, Pascal};
    !matches!(architecture, Kepler | Maxwell | Pascal | KnightsLanding)
}
