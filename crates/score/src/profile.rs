//! Device profiles that a user fitted: calibrated kernels and interconnects, with what they were fitted to.

use std::path::Path;
use std::sync::Arc;

use cutplane_graph::{Architecture, DeviceSpec};
use cutplane_plan::write_atomically;
use cutplane_record::Provenance;
use cutplane_sim::estimate::Stack;
use cutplane_sim::kernel::{Calibration, GpuModel};
use cutplane_sim::network::{Fabric, Interconnect, Level};
use serde::{Deserialize, Serialize};

use crate::collective_rows::StatedFabric;
use crate::error::ScoreError;
use crate::prediction::{Origin, Skip};

/// One level of an interconnect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileLevel {
    /// Technology.
    pub interconnect: Interconnect,
    /// Ranks of a domain.
    pub ranks: usize,
    /// Ports that each domain below has into this level.
    pub ports: usize,
    /// Line rate of a port in one direction, GB/s.
    pub gb_per_s: f64,
    /// What a large message reaches on a port, GB/s, where it was fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub achieved_gb_per_s: Option<f64>,
}

impl ProfileLevel {
    /// Of a level of the network model.
    pub fn of(level: &Level) -> Self {
        Self {
            interconnect: level.interconnect,
            ranks: level.ranks,
            ports: level.ports,
            gb_per_s: level.bandwidth / 1e9,
            achieved_gb_per_s: level.achieved.map(|achieved| achieved / 1e9),
        }
    }

    fn level(&self) -> Level {
        let level = Level::new(self.interconnect, self.ranks, self.gb_per_s * 1e9).ports(self.ports);
        Level { achieved: self.achieved_gb_per_s.map(|achieved| achieved * 1e9), ..level }
    }
}

/// A fitted interconnect, what it was fitted to, and how good it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FabricProfile {
    /// Hardware text of the rows.
    pub hardware: String,
    /// Which rows, how many, how drawn.
    pub rows: String,
    /// Rows that were fitted.
    pub rows_fitted: usize,
    /// Median of |predicted - measured| / measured over these, each predicted by a fit without it.
    pub left_out_median_error: f64,
    /// Shortest isolated call, us.
    pub floor_us: f64,
    /// Levels, innermost first.
    pub levels: Vec<ProfileLevel>,
}

/// A fitted device, and how good the fit is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceFit {
    /// Rows that were fitted.
    pub rows_fitted: usize,
    /// Median of |predicted - measured| / measured over these, each predicted by a fit without its part of the rows.
    pub left_out_median_error: f64,
    /// The same over rows of the device that were not drawn; absent when all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_median_error: Option<f64>,
    /// The fitted numbers.
    pub calibration: Calibration,
}

/// What `cutplane calibrate` writes and `cutplane score --profile` reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Where and when it was made.
    pub provenance: Provenance,
    /// Fitted devices.
    #[serde(default)]
    pub device: Vec<DeviceFit>,
    /// Fitted interconnects.
    #[serde(default)]
    pub fabric: Vec<FabricProfile>,
    /// Software stacks, each in place of the one of its name.
    #[serde(default)]
    pub stack: Vec<Stack>,
}

impl Profile {
    /// The kernel model of a device: of this profile where it knows the device, else of this build.
    pub fn gpu(&self, spec: &DeviceSpec) -> GpuModel {
        match self.device.iter().find(|fit| fit.calibration.models.contains(&spec.model)) {
            Some(fit) => GpuModel::with_calibration(spec, Arc::new(fit.calibration.clone())),
            None => GpuModel::from_spec(spec),
        }
    }

    /// The software stack of a name: this profile's, else this build's, else the prior of stacks that nobody fitted.
    pub fn stack(&self, name: &str, family: Option<Architecture>) -> Stack {
        let own = Stack::among(&self.stack, name, family);
        own.or_else(|| Stack::named(name, family)).cloned().unwrap_or_default()
    }

    /// The interconnect of a hardware text, when this profile knows it.
    ///
    /// # Errors
    /// [`Skip`] `impossible-fabric` for levels that no fabric has.
    pub fn fabric(&self, hardware: &str) -> Result<Option<StatedFabric>, Skip> {
        let Some(known) = self.fabric.iter().find(|known| known.hardware == hardware) else { return Ok(None) };
        let levels = known.levels.iter().map(ProfileLevel::level).collect();
        let fabric =
            Fabric::new(hardware, levels).map_err(|error| Skip::new("impossible-fabric", error.to_string()))?;
        let origin = Origin::Calibrated { rows: known.rows.clone().into() };
        Ok(Some(StatedFabric { fabric, floor_us: Some(known.floor_us), origin }))
    }
}

/// Reads a profile.
///
/// # Errors
/// [`ScoreError`], naming the file and the field.
pub fn read_profile(path: &Path) -> Result<Profile, ScoreError> {
    let text = std::fs::read_to_string(path).map_err(|source| ScoreError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1) as u64);
        let problem = format!("{}: not a profile; make one with `cutplane calibrate`", error.message());
        ScoreError::Malformed { path: path.to_owned(), line, problem }
    })
}

/// Writes a profile, whole or not at all.
///
/// # Errors
/// [`ScoreError::Io`].
pub fn write_profile(path: &Path, profile: &Profile) -> Result<(), ScoreError> {
    let failed = |source: std::io::Error| ScoreError::Io { path: path.to_owned(), action: "write", source };
    let text = toml::to_string(profile).map_err(|error| failed(std::io::Error::other(error)))?;
    write_atomically(path, text.as_bytes()).map_err(failed)
}
