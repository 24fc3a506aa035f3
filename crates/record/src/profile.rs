//! Device profiles: what was measured of a device, of its operators, and of the links between ranks.

use std::path::Path;

use cutplane_graph::{Dtype, ProfileKey};
use cutplane_plan::{Optimizer, write_atomically};
use serde::{Deserialize, Serialize};

use crate::error::RecordError;
use crate::provenance::Provenance;

/// What the `format` field of a profile file must hold.
pub const PROFILE_FORMAT: &str = "cutplane-device-profile";
/// The version of the profile format that this build writes. It reads version 1 too, which had neither precisions, nor
/// staged links, nor notes, and version 2, which had neither links between processes nor [`OperatorPoint::beside_factor`].
pub const PROFILE_VERSION: u32 = 3;

/// Measured behaviour of one device model under one back end: one thread a rank on a CPU, one stream a rank on a card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceProfile {
    /// Always [`PROFILE_FORMAT`].
    pub format: String,
    /// At most [`PROFILE_VERSION`].
    pub version: u32,
    /// The device model, as in [`cutplane_graph::DeviceSpec::model`].
    pub device_model: String,
    /// Back end and its version.
    pub backend: String,
    /// How the numbers were made.
    pub provenance: Provenance,
    /// Wall time of the whole measurement, seconds.
    pub measured_in_s: f64,
    /// Time of operators, forward and backward.
    pub operators: Vec<OperatorCurve>,
    /// Time of the optimizer.
    pub optimizers: Vec<OptimizerPoint>,
    /// Slowdown of each rank when several ranks of one host are busy.
    pub contention: Vec<ContentionPoint>,
    /// Cost to the sender of handing over a message, and to the receiver of taking it, once it is there.
    pub messages: Vec<MessagePoint>,
    /// Time of an all-reduce once all ranks have arrived.
    pub all_reduce: Vec<AllReducePoint>,
    /// The same two through the host, where ranks on one card hand tensors over on the card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<StagedLinks>,
    /// The same two between ranks in processes of their own, where several processes measured together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessLinks>,
    /// What the numbers do not hold, or hold with a caveat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Links between ranks on one card when every tensor goes through the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagedLinks {
    /// As [`DeviceProfile::messages`].
    pub messages: Vec<MessagePoint>,
    /// As [`DeviceProfile::all_reduce`].
    pub all_reduce: Vec<AllReducePoint>,
}

/// Where two processes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkClass {
    /// On one host.
    WithinHost,
    /// On two hosts.
    BetweenHosts,
}

/// Links between ranks in processes of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessLinks {
    /// Where the processes are.
    pub class: LinkClass,
    /// As [`DeviceProfile::messages`]; the way over the link is a part of the latency.
    pub messages: Vec<MessagePoint>,
    /// As [`DeviceProfile::all_reduce`], over one rank of each process of a host, or of each host.
    pub all_reduce: Vec<AllReducePoint>,
}

/// Time of one operator kind over a full grid of its axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorCurve {
    /// Name of the curve, as in [`ProfileKey::operator`].
    pub operator: String,
    /// What was computed in.
    #[serde(default = "full_precision", skip_serializing_if = "is_full_precision")]
    pub precision: Dtype,
    /// Measured points: every combination of the values that each axis takes.
    pub points: Vec<OperatorPoint>,
}

const fn full_precision() -> Dtype {
    Dtype::F32
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_full_precision(precision: &Dtype) -> bool {
    *precision == Dtype::F32
}

/// One measured point of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorPoint {
    /// Extents, as in [`ProfileKey::axes`].
    pub axes: Vec<u64>,
    /// Work, as in [`ProfileKey::work`].
    pub work: f64,
    /// Median time of the forward pass, ns.
    pub forward_ns: f64,
    /// Median absolute deviation of the forward pass, ns.
    pub forward_mad_ns: f64,
    /// Median time of the backward pass (gradients of inputs and parameters), ns.
    pub backward_ns: f64,
    /// Median absolute deviation of the backward pass, ns.
    pub backward_mad_ns: f64,
    /// Bytes that stay allocated between forward and backward, besides the operator's inputs, output and parameters.
    pub kept_bytes: f64,
    /// Largest extra allocation while the forward or backward pass runs, bytes.
    pub workspace_bytes: f64,
    /// Time factor of both passes while the other ranks do the same over and over: as many ranks as
    /// [`DeviceProfile::contention`] has at most. Where it was not measured, the curve's name decides what bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside_factor: Option<f64>,
}

/// Time of an optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerPoint {
    /// Update rule.
    pub optimizer: Optimizer,
    /// Parameters updated, in one tensor.
    pub elements: u64,
    /// Median time, ns.
    pub step_ns: f64,
    /// Median absolute deviation, ns.
    pub step_mad_ns: f64,
}

/// How much slower each of several busy ranks of one host is than one alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentionPoint {
    /// Ranks busy at once.
    pub busy_ranks: u32,
    /// Time factor of compute-bound operators (1 = no slowdown).
    pub compute_factor: f64,
    /// Time factor of memory-bound operators.
    pub memory_factor: f64,
}

/// Cost of a message between two ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessagePoint {
    /// Size, bytes.
    pub bytes: u64,
    /// Time that the sender spends, ns.
    pub send_ns: f64,
    /// Time that the receiver spends once the message is there, ns.
    pub recv_ns: f64,
    /// Time from the end of the send until a waiting receiver notices, ns.
    pub latency_ns: f64,
}

/// Time of an all-reduce.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllReducePoint {
    /// Ranks in the group.
    pub ranks: u32,
    /// Size of the buffer on each rank, bytes.
    pub bytes: u64,
    /// Median time, ns.
    pub time_ns: f64,
    /// Median absolute deviation, ns.
    pub time_mad_ns: f64,
}

impl DeviceProfile {
    /// The curve that prices `key` in f32, if the operator was profiled.
    pub fn curve(&self, key: &ProfileKey) -> Option<&OperatorCurve> {
        self.curve_in(key, Dtype::F32)
    }

    /// The curve that prices `key` in a precision, if the operator was profiled in it.
    pub fn curve_in(&self, key: &ProfileKey, precision: Dtype) -> Option<&OperatorCurve> {
        self.operators.iter().find(|curve| curve.operator == key.operator && curve.precision == precision)
    }
}

/// Reads a profile file (TOML).
///
/// # Errors
/// [`RecordError`], naming the file and the field.
pub fn read_profile(path: &Path) -> Result<DeviceProfile, RecordError> {
    let text = std::fs::read_to_string(path).map_err(|source| RecordError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    let malformed = |problem: String| RecordError::Malformed { path: path.to_owned(), problem };
    let profile: DeviceProfile =
        toml::from_str(&text).map_err(|error| malformed(format!("not a device profile: {error}")))?;
    if profile.format != PROFILE_FORMAT || !(1..=PROFILE_VERSION).contains(&profile.version) {
        let found = format!("{} version {}", profile.format, profile.version);
        return Err(malformed(format!(
            "is {found}; this build reads {PROFILE_FORMAT} up to version {PROFILE_VERSION}: run `cutplane profile` again"
        )));
    }
    Ok(profile)
}

/// Writes a profile file (TOML), whole or not at all.
///
/// # Errors
/// [`RecordError::Io`].
pub fn write_profile(path: &Path, profile: &DeviceProfile) -> Result<(), RecordError> {
    let text = toml::to_string(profile)
        .map_err(|error| RecordError::Malformed { path: path.to_owned(), problem: error.to_string() })?;
    write_atomically(path, text.as_bytes()).map_err(|source| RecordError::Io {
        path: path.to_owned(),
        action: "write",
        source,
    })
}
