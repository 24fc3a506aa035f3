//! The footprint model on published memory figures.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use cutplane_score::{Grade, Profile, ScoredRow, read_rows, score_rows, was_fitted};

/// Rows of a file beside the workspace, predicted; none, with a line that says so, where it is absent.
fn scored(name: &str) -> Vec<ScoredRow> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/measured").join(name);
    if !path.exists() {
        println!("skipped: ../shared/measured/{name} is not here");
        return Vec::new();
    }
    score_rows(read_rows(&path).unwrap().rows, &Profile::default())
}

/// Sorted |predicted - measured| / measured memory of the rows that were not fitted.
fn errors(rows: &[ScoredRow], keep: impl Fn(&ScoredRow) -> bool) -> Vec<f64> {
    let held_out = |row: &&ScoredRow| !was_fitted(&row.measured) && row.measured.row.grade != Grade::C && keep(row);
    let mut errors: Vec<f64> = rows
        .iter()
        .filter(held_out)
        .filter_map(ScoredRow::memory_pair)
        .map(|(predicted, measured)| (predicted / measured - 1.0).abs())
        .collect();
    errors.sort_by(f64::total_cmp);
    errors
}

fn quantile(errors: &[f64], share: f64) -> f64 {
    errors.get(((errors.len() as f64 * share) as usize).min(errors.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Rows skipped by reason.
fn skipped(rows: &[ScoredRow]) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for row in rows {
        if let cutplane_score::Outcome::Skipped(skip) = &row.outcome {
            *reasons.entry(skip.reason.to_owned()).or_default() += 1;
        }
    }
    reasons
}

#[test]
fn report() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/measured");
    let Ok(found) = std::fs::read_dir(&folder) else { return };
    let mut names: Vec<String> = found.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names.iter().filter(|name| name.ends_with(".csv")) {
        let rows = scored(name);
        if rows.iter().all(|row| row.measured.row.workload != cutplane_score::Workload::Training) {
            continue;
        }
        let all = errors(&rows, |_| true);
        let fits: Vec<_> = rows.iter().filter_map(|row| Some((row, row.fits_pair()?))).collect();
        let count = |a: bool, b: bool| fits.iter().filter(|(_, pair)| *pair == (a, b)).count();
        println!(
            "{name}: memory rows {} median {:.2}% p90 {:.2}% | fits ok {} oom ok {} oom-but-fit {} fit-but-oom {} | skipped {:?}",
            all.len(),
            100.0 * quantile(&all, 0.5),
            100.0 * quantile(&all, 0.9),
            count(true, true),
            count(false, false),
            count(false, true),
            count(true, false),
            skipped(&rows)
        );
        let mut out = String::new();
        for row in &rows {
            let pair = row.memory_pair();
            let pred = row.outcome.prediction();
            out += &format!(
                "{}|{}|{}|{}|{:?}|{:?}|{:?}|{}\n",
                row.measured.row.line,
                row.measured.row.model,
                row.measured.row.hardware,
                row.measured.row.notes.chars().take(150).collect::<String>(),
                pair,
                row.fits_pair(),
                pred.map(|p| (p.memory_gib, p.capacity_gib)),
                pred.map_or_else(
                    || format!("{:?}", row.outcome),
                    |p| p.trace.iter().filter(|t| t.name == "memory").map(|t| t.value.clone()).collect::<String>()
                )
            );
        }
        std::fs::write(format!("/tmp/m2/out_{name}.txt"), out).unwrap();
    }
}
