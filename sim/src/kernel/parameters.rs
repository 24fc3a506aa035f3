//! The named numbers that calibration fits, with their priors.

use serde::{Deserialize, Serialize};

/// One fitted number: its name, and the prior that fitting is held to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prior {
    /// Name, as files spell it.
    pub name: &'static str,
    /// Where it lies before anything was measured.
    pub value: f64,
    /// Standard deviation of its logarithm.
    pub spread: f64,
    /// Most that it can be: shares of a peak end at 1.
    pub most: f64,
}

macro_rules! most {
    () => {
        f64::INFINITY
    };
    ($most:literal) => {
        $most
    };
}

macro_rules! parameters {
    ($($(#[doc = $doc:literal])* $name:ident = $value:literal, $spread:literal $(, $most:literal)?;)*) => {
        /// What a datasheet does not say about a device family and its libraries. Shares are of the datasheet's peak;
        /// every number has a physical meaning and a prior ([`Parameters::PRIORS`]).
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Parameters {
            $($(#[doc = $doc])* pub $name: f64,)*
        }

        impl Parameters {
            /// All numbers before anything was measured.
            pub const PRIOR: Self = Self { $($name: $value,)* };

            /// Name, prior and its spread, in the order of the fields.
            pub const PRIORS: &'static [Prior] =
                &[$(Prior { name: stringify!($name), value: $value, spread: $spread, most: most!($($most)?) },)*];

            /// The numbers in the order of [`Parameters::PRIORS`].
            pub fn values(&self) -> Vec<f64> {
                vec![$(self.$name,)*]
            }

            /// The numbers from [`Parameters::values`]; those that are absent are priors.
            pub fn from_values(values: &[f64]) -> Self {
                let mut values = values.iter().copied();
                Self { $($name: values.next().unwrap_or($value),)* }
            }
        }
    };
}

parameters! {
    /// Share of the tensor-core peak that the main loop of the best tile reaches with every multiprocessor busy, clocks
    /// under load included.
    tensor_efficiency = 0.78, 0.08, 1.0;
    /// The same for f32 on vector units.
    vector_efficiency = 0.85, 0.1, 1.0;
    /// Work that a multiprocessor must hold to reach half of that, as a share of a tile of 128 x 128.
    resident_half = 0.12, 0.5;
    /// Harmonic mean side of a tile that halves its throughput, elements: small tiles reload more than they compute.
    tile_half = 7.0, 0.5;
    /// Share of the memory bandwidth that the operands of a matrix product stream at.
    operand_bandwidth = 0.83, 0.1, 1.0;
    /// Share of the memory bandwidth that a large pointwise kernel reaches.
    stream_bandwidth = 0.87, 0.08, 1.0;
    /// Bandwidth of the last cache over the memory's.
    cache_bandwidth = 2.5, 0.35;
    /// Share of the last cache that holds what the kernel before wrote or read.
    cache_share = 0.7, 0.4;
    /// Bandwidth that one multiprocessor can draw, over its even share of the memory bandwidth.
    multiprocessor_bandwidth = 1.8, 0.3;
    /// Shortest kernel, us.
    kernel_us = 0.8, 0.4;
    /// Filling and draining the pipeline of a matrix product, us.
    matmul_us = 3.2, 0.4;
    /// How sharply the slower of arithmetic and memory hides the other: exponent of the mean (1 adds, large takes the
    /// maximum).
    overlap = 3.0, 0.35;
    /// Adding up the parts of a product split over its inner extent, us.
    split_us = 1.0, 0.5;
    /// One read of memory that the next one waits for, us.
    round_trip_us = 0.55, 0.3;
    /// Elements that a row-blocked kernel computes per clock and multiprocessor: it reads 16 bits at a time.
    row_per_clock = 1.2, 0.2;
    /// Elements that a gather addresses per clock and multiprocessor.
    gather_per_clock = 0.58, 0.15;
    /// Throughput of implicit-GEMM convolution over that of a matrix product of its shape.
    convolution_efficiency = 0.8, 0.2;
    /// The same for the gradient of the input.
    input_gradient_efficiency = 0.7, 0.25;
    /// The same for the gradient of the weights.
    weight_gradient_efficiency = 0.7, 0.25;
    /// Throughput of Winograd's products with fused transforms over that of a matrix product.
    winograd_efficiency = 0.65, 0.25, 1.0;
    /// The same with transforms of their own.
    winograd_split_efficiency = 0.7, 0.25, 1.0;
    /// Shortest convolution, us.
    convolution_us = 8.0, 0.5;
    /// Time of one recurrent step beside its arithmetic and memory, us: a launch, or a barrier of a persistent kernel.
    step_us = 8.0, 0.6;
    /// Fixed time of the gradient of a recurrent layer's weights, us.
    recurrent_us = 40.0, 0.6;
    /// Bandwidth that a recurrent layer reads its weights with on every step, over the memory's; above 1 when they stay in
    /// the cache or in registers.
    step_bandwidth = 1.0, 0.4;
    /// Throughput of a step's product over that of a matrix product of its shape.
    step_efficiency = 0.8, 0.3;
    /// Throughput of a flash-attention forward pass over the peak, at head width 128 with all multiprocessors busy.
    flash_efficiency = 0.62, 0.15, 1.0;
    /// The same for the backward pass.
    flash_backward_efficiency = 0.5, 0.15, 1.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_order() {
        let values = Parameters::PRIOR.values();
        assert_eq!(values.len(), Parameters::PRIORS.len());
        assert_eq!(Parameters::from_values(&values), Parameters::PRIOR);
        assert!(Parameters::PRIORS.iter().all(|prior| prior.value > 0.0 && prior.spread > 0.0));
    }
}
