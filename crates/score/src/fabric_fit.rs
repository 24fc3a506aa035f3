//! Fitting an interconnect to measured collectives: what a port achieves, and the shortest isolated call.

use std::collections::BTreeMap;

use cutplane_sim::network::NetworkError;
use cutplane_sim::network::fit::{Measured, Priors, fit};

use crate::collective_rows::{CollectiveQuestion, CollectiveSetting};
use crate::fitted::draw;
use crate::metric::{Metric, Quantity};
use crate::predict::stated_fabric;
use crate::profile::{FabricProfile, Profile, ProfileLevel};
use crate::row::{Grade, MeasuredRow, Workload};

/// Fits the interconnect of every hardware text that collective rows below the share's draw name, on times of grades A
/// and B. Hardware with fewer than `least` rows that can be represented is left out.
///
/// # Errors
/// [`NetworkError`] when rows contradict the fabric.
pub fn fit_fabrics(
    rows: &[MeasuredRow],
    share: f64,
    seed: u64,
    least: usize,
) -> Result<Vec<FabricProfile>, NetworkError> {
    let mut groups: BTreeMap<&str, Vec<(&MeasuredRow, CollectiveSetting, Measured)>> = BTreeMap::new();
    for row in rows.iter().filter(|row| usable(row) && draw(&row.digest, seed) < share) {
        if let Some((setting, point)) = measured(row) {
            groups.entry(&row.row.hardware).or_default().push((row, setting, point));
        }
    }
    let enough = groups.into_iter().filter(|(_, rows)| rows.len() >= least.max(1));
    enough.map(|(hardware, rows)| fit_hardware(hardware, &rows, share, seed)).collect()
}

fn usable(row: &MeasuredRow) -> bool {
    let timed = Metric::of(&row.row).is_ok_and(|metric| metric.quantity == Quantity::CollectiveTime);
    row.row.workload == Workload::Collective && row.row.grade != Grade::C && timed && row.unreadable.is_empty()
}

/// A row that can be represented, as the network model sees it.
fn measured(row: &MeasuredRow) -> Option<(CollectiveSetting, Measured)> {
    let metric = Metric::of(&row.row).ok()?;
    let seconds = metric.in_base(row.measured_value.filter(|value| *value > 0.0)?);
    let stated = stated_fabric(&row.row, &Profile::default()).ok()?;
    let question = CollectiveQuestion { stated: stated.as_ref(), ..CollectiveQuestion::of(&row.row).ok()? };
    let setting = question.setting().ok()?;
    let point = Measured { collective: setting.collective, bytes: question.bytes, group: setting.group, seconds };
    Some((setting, point))
}

fn fit_hardware(
    hardware: &str,
    rows: &[(&MeasuredRow, CollectiveSetting, Measured)],
    share: f64,
    seed: u64,
) -> Result<FabricProfile, NetworkError> {
    let points: Vec<Measured> = rows.iter().map(|(_, _, point)| *point).collect();
    let (_, setting, _) = &rows[0];
    let found = fit(&setting.fabric, &setting.library, &points, Priors::default())?;
    let mut sources: Vec<&str> = rows.iter().map(|(row, ..)| row.row.source.as_str()).collect();
    sources.sort_unstable();
    sources.dedup();
    let count = points.len();
    Ok(FabricProfile {
        hardware: hardware.to_owned(),
        rows: format!("{count} rows of {}, drawn by digest below {share} with seed {seed}", sources.join(" and ")),
        rows_fitted: count,
        left_out_median_error: found.leave_one_out_error,
        floor_us: found.library.call_floor * 1e6,
        levels: found.fabric.levels().iter().map(ProfileLevel::of).collect(),
    })
}
