//! The calibrated families: `sim/data/kernels.toml`, written by a fit, and `sim/data/kernel-priors.toml`, read once.

use std::sync::{Arc, LazyLock};

use cutplane_graph::Architecture;
use serde::{Deserialize, Serialize};

use super::{KernelClass, Parameters, Precision, Standing};

/// Factor within which nine of ten measurements lie, by kind of kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spreads {
    /// Matrix products.
    pub matmul: f64,
    /// Attention.
    pub attention: f64,
    /// Kernels bound by memory, gathers among them.
    pub memory: f64,
    /// Convolutions.
    pub convolution: f64,
    /// Recurrent layers.
    pub recurrent: f64,
}

impl Spreads {
    /// For devices that nobody measured.
    pub const PRIOR: Self = Self { matmul: 1.6, attention: 1.7, memory: 1.5, convolution: 2.2, recurrent: 2.5 };

    /// The factor of a kind.
    pub const fn of(&self, class: KernelClass) -> f64 {
        match class {
            KernelClass::Matmul => self.matmul,
            KernelClass::Attention => self.attention,
            KernelClass::MemoryBound => self.memory,
            KernelClass::Convolution => self.convolution,
            KernelClass::Recurrent => self.recurrent,
        }
    }
}

impl Default for Spreads {
    fn default() -> Self {
        Self::PRIOR
    }
}

impl Default for Parameters {
    fn default() -> Self {
        Self::PRIOR
    }
}

/// Parameters of a device family with its libraries, and what they were fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Name: family and libraries.
    pub name: String,
    /// Device models, as the catalogue spells them, that the numbers were fitted on or stand for.
    pub models: Vec<String>,
    /// Their family; another device of it takes the nearest calibration and is told as an extrapolation.
    pub architecture: Architecture,
    /// Multiprocessors of the device that was measured: tells which relative is nearest.
    pub multiprocessors: f64,
    /// Its last cache, MiB.
    pub cache_mib: f64,
    /// Its memory bandwidth, GB/s.
    pub memory_bandwidth_gb_per_s: f64,
    /// How well the numbers are known to be those of [`Calibration::models`].
    pub standing: Standing,
    /// Precisions that were measured; empty for priors, which measure nothing.
    #[serde(default)]
    pub precisions: Vec<Precision>,
    /// Which rows were fitted, how many, and how they were drawn.
    pub rows: String,
    /// Seed of the draw.
    #[serde(default)]
    pub seed: u64,
    /// Share of each source's rows that was drawn.
    #[serde(default)]
    pub fraction: f64,
    /// Parameters that the rows told; the others are priors.
    #[serde(default)]
    pub fitted: Vec<String>,
    /// What was left unexplained.
    #[serde(default)]
    pub spreads: Spreads,
    /// The numbers.
    #[serde(default)]
    pub parameters: Parameters,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    calibration: Vec<Calibration>,
}

static CALIBRATIONS: LazyLock<Vec<Arc<Calibration>>> = LazyLock::new(|| {
    let files = [include_str!("../../data/kernels.toml"), include_str!("../../data/kernel-priors.toml")];
    let read = |text| calibrations_of(text).expect("a test reads the data files");
    files.into_iter().flat_map(read).map(Arc::new).collect()
});

/// All calibrations of this build: fitted ones first, then the priors of each family.
pub fn calibrations() -> &'static [Arc<Calibration>] {
    &CALIBRATIONS
}

/// What is assumed of a family before anything is measured: where a fit starts.
pub fn prior_of(architecture: Option<Architecture>) -> Parameters {
    let assumed = |known: &&Arc<Calibration>| {
        known.standing == Standing::Assumed && Some(known.architecture) == architecture && known.models.is_empty()
    };
    calibrations().iter().find(assumed).map_or(Parameters::PRIOR, |known| known.parameters)
}

/// Reads a file of calibrations.
///
/// # Errors
/// What is wrong with the text, by line and key.
pub fn calibrations_of(text: &str) -> Result<Vec<Calibration>, toml::de::Error> {
    toml::from_str::<File>(text).map(|file| file.calibration)
}

/// The text of a file of calibrations.
///
/// # Errors
/// A number that no file can hold.
pub fn calibrations_to_toml(calibrations: Vec<Calibration>) -> Result<String, toml::ser::Error> {
    toml::to_string(&File { calibration: calibrations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_calibration_reads_and_says_what_it_was_fitted_to() {
        assert!(!calibrations().is_empty());
        for calibration in calibrations() {
            let known = |name: &String| Parameters::PRIORS.iter().any(|prior| prior.name == name.as_str());
            assert!(calibration.fitted.iter().all(known), "{}", calibration.name);
            assert!(!calibration.rows.is_empty(), "{}", calibration.name);
            assert!(calibration.fraction <= 0.1, "{}", calibration.name);
            assert!(calibration.parameters.values().into_iter().all(|value| value > 0.0), "{}", calibration.name);
        }
    }

    #[test]
    fn every_architecture_has_numbers_of_its_own() {
        for architecture in Architecture::ALL {
            assert!(calibrations().iter().any(|known| known.architecture == architecture), "{architecture}");
        }
    }
}
