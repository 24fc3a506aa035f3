//! Item b: the device's rates, and its profile.

use std::path::Path;

use anyhow::{Context as _, Result};
use cutplane_record::write_profile;
use cutplane_runtime::devices::{measure_rate, rate_cases};

use super::journal::Journal;
use super::table::append_row;
use super::work::Target;
use crate::{local, pricing};

/// File of the device profile.
pub(crate) const PROFILE: &str = "profile.toml";

/// Runs the item. With a profile at hand the device is not measured again.
pub(crate) fn run(target: Target, folder: &Path, given: Option<&Path>, journal: &mut Journal) -> Result<()> {
    let place = target.ranks(1)?.1[0];
    for case in rate_cases(place.card().is_some()) {
        let [m, k, n] = case.shape;
        let name = format!("{:?} {m} x {k} x {n} {}", case.kind, case.dtype);
        journal.case(&name, || append_row(&folder.join("rates.csv"), &measure_rate(&local::backend(place), &case)?))?;
    }
    let profile = folder.join(PROFILE);
    journal.case("device profile", || {
        if let Some(given) = given {
            std::fs::copy(given, &profile)?;
            return Ok(());
        }
        let (devices, _) = target.ranks(2)?;
        let group = pricing::groups(&devices).into_iter().next().context("a target has a device")?;
        let measured = group.measure(&None)?.context("one process measures its devices")?;
        Ok(write_profile(&profile, &measured)?)
    })
}
