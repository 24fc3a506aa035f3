//! Rank correlation inside sweeps.
//!
//! A sweep is rows of one source that ask the same of the same thing and differ in how it is laid out: for training and
//! inference those with one model, hardware, metric and unit, which differ in degrees, batch, length or precision; for
//! kernels and collectives those with one hardware, operator, metric and unit, which differ in size. Sweeps of fewer than
//! three rows say nothing of order. When a source has no such sweep, rows with one hardware and metric stand in, then
//! those with one metric; [`RankCorrelation::over`] names what was used. The correlations of sweeps are averaged,
//! weighted by their rows.

use std::collections::BTreeMap;

use cutplane_record::spearman;
use serde::Serialize;

use super::rows::ScoredRow;
use crate::row::{Row, Workload};

/// Fewest rows of a sweep.
const FEWEST: usize = 3;

/// Spearman's rank correlation inside sweeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RankCorrelation {
    /// Mean over sweeps, weighted by their rows.
    #[serde(rename = "rank_correlation")]
    pub mean: Option<f64>,
    /// What the rows of a sweep share.
    #[serde(rename = "rank_over")]
    pub over: Option<&'static str>,
    /// Sweeps.
    #[serde(rename = "rank_sweeps")]
    pub sweeps: usize,
    /// Rows in sweeps.
    #[serde(rename = "rank_rows")]
    pub rows: usize,
}

/// What rows of a sweep share, the finest first.
const LEVELS: [&str; 3] = ["model, hardware, metric", "hardware, metric", "metric"];

pub(super) fn rank_correlation(rows: &[&ScoredRow]) -> RankCorrelation {
    let mut levels = LEVELS.into_iter().enumerate().map(|(level, name)| over(rows, level, name));
    levels.find(|found| found.sweeps > 0).unwrap_or_default()
}

fn over(rows: &[&ScoredRow], level: usize, name: &'static str) -> RankCorrelation {
    let mut sweeps: BTreeMap<Vec<&str>, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for (row, (predicted, measured)) in rows.iter().filter_map(|row| Some((row, row.pair()?))) {
        let sweep = sweeps.entry(key(&row.measured.row, level)).or_default();
        sweep.0.push(predicted);
        sweep.1.push(measured);
    }
    let long = sweeps.values().filter(|(predicted, _)| predicted.len() >= FEWEST);
    let found: Vec<(f64, usize)> =
        long.filter_map(|(predicted, measured)| Some((spearman(predicted, measured)?, predicted.len()))).collect();
    let counted = found.iter().map(|(_, rows)| rows).sum();
    let weighted: f64 = found.iter().map(|(rank, rows)| rank * *rows as f64).sum();
    RankCorrelation {
        mean: (counted > 0).then(|| weighted / counted as f64),
        over: (counted > 0).then_some(name),
        sweeps: found.len(),
        rows: counted,
    }
}

fn key(row: &Row, level: usize) -> Vec<&str> {
    let metric = [row.workload.name(), &row.metric_name, &row.metric_unit, &row.op];
    let sized = matches!(row.workload, Workload::Kernel | Workload::Collective);
    let mut key: Vec<&str> = metric.to_vec();
    if level < 2 {
        key.push(&row.hardware);
    }
    if level < 1 && !sized {
        key.push(&row.model);
    }
    key
}
