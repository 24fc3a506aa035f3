//! Facts of an accelerator that decide how long its kernels take.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Family of accelerators that share an instruction set, a memory hierarchy and, mostly, a library's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// NVIDIA 2012-2014: K20, K40, K80.
    Kepler,
    /// NVIDIA 2014-2015: M40, M60, Titan X.
    Maxwell,
    /// NVIDIA 2016: P100, P40, GTX 1080.
    Pascal,
    /// NVIDIA 2017: V100, Titan V; the first tensor cores.
    Volta,
    /// NVIDIA 2018: T4, RTX 2080, RTX 8000.
    Turing,
    /// NVIDIA 2020: A100, A40, RTX 3090.
    Ampere,
    /// NVIDIA 2022: L4, L40, RTX 4090.
    Ada,
    /// NVIDIA 2022: H100, H200, GH200.
    Hopper,
    /// NVIDIA 2024-2025: B200, B300, GB200, RTX 5090.
    Blackwell,
    /// Intel Xeon Phi of the second generation.
    KnightsLanding,
    /// AMD 2020-2021: MI100, MI210, MI250X.
    Cdna2,
    /// AMD 2023-2024: MI300X, MI325X.
    Cdna3,
    /// AMD 2025: MI355X.
    Cdna4,
    /// Google's matrix units on high-bandwidth memory.
    Tpu,
    /// Intel Gaudi.
    Gaudi,
}

impl Architecture {
    /// Every family.
    pub const ALL: [Self; 15] = [
        Self::Kepler,
        Self::Maxwell,
        Self::Pascal,
        Self::Volta,
        Self::Turing,
        Self::Ampere,
        Self::Ada,
        Self::Hopper,
        Self::Blackwell,
        Self::KnightsLanding,
        Self::Cdna2,
        Self::Cdna3,
        Self::Cdna4,
        Self::Tpu,
        Self::Gaudi,
    ];

    /// The name that files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kepler => "kepler",
            Self::Maxwell => "maxwell",
            Self::Pascal => "pascal",
            Self::Volta => "volta",
            Self::Turing => "turing",
            Self::Ampere => "ampere",
            Self::Ada => "ada",
            Self::Hopper => "hopper",
            Self::Blackwell => "blackwell",
            Self::KnightsLanding => "knights-landing",
            Self::Cdna2 => "cdna2",
            Self::Cdna3 => "cdna3",
            Self::Cdna4 => "cdna4",
            Self::Tpu => "tpu",
            Self::Gaudi => "gaudi",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a datasheet says of an accelerator beside memory and the peaks of [`crate::DeviceSpec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceleratorFacts {
    /// Family.
    pub architecture: Architecture,
    /// Streaming multiprocessors, compute units or cores: what one block of a kernel runs on.
    pub multiprocessors: u32,
    /// Boost clock, MHz.
    pub clock_mhz: f64,
    /// Last cache before memory, MiB.
    pub l2_mib: f64,
    /// Dense peak on tensor cores with f32 inputs rounded to TF32, TFLOP/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tf32_tflop_per_s: Option<f64>,
    /// Dense peak with 8-bit floating point, TFLOP/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp8_tflop_per_s: Option<f64>,
    /// Dense peak with 8-bit integers, Tera-operations a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8_top_per_s: Option<f64>,
    /// Board power that the clock is held within, W.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_w: Option<f64>,
}

impl AcceleratorFacts {
    /// Every number that is given, with the key that files write it under; all must be above zero.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let optional = [
            ("accelerator.tf32_tflop_per_s", self.tf32_tflop_per_s),
            ("accelerator.fp8_tflop_per_s", self.fp8_tflop_per_s),
            ("accelerator.int8_top_per_s", self.int8_top_per_s),
            ("accelerator.power_w", self.power_w),
        ];
        [
            ("accelerator.multiprocessors", f64::from(self.multiprocessors)),
            ("accelerator.clock_mhz", self.clock_mhz),
            ("accelerator.l2_mib", self.l2_mib),
        ]
        .into_iter()
        .chain(optional.into_iter().filter_map(|(key, value)| Some((key, value?))))
    }
}
