//! Rows of the workload `training`: time of a step, by the kind of network; memory, by the footprint model.

mod graph;
mod language;
mod memory;

use crate::metric::{Metric, Quantity};
use crate::parse::{self, RowModel};
use crate::prediction::{Predictor, RowPrediction, Skip};
use crate::profile::Profile;
use crate::row::Row;

pub(crate) use graph::{GraphRow, graph_row};

/// Predicts rows of the workload `training`.
#[derive(Clone, Copy, Debug)]
pub struct TrainingPredictor<'a> {
    /// Devices and interconnects that were fitted for this run.
    pub profile: &'a Profile,
}

impl Predictor for TrainingPredictor<'_> {
    fn predict(&self, row: &Row) -> Result<RowPrediction, Skip> {
        let metric = Metric::of(row)?;
        if matches!(metric.quantity, Quantity::Memory { .. } | Quantity::OutOfMemory) {
            return memory::predict(row, &metric, self.profile);
        }
        let prediction = match parse::model(row) {
            Ok(RowModel::Named { name }) if !is_language_model(&name) => {
                graph::predict(row, &metric, &name, self.profile)
            }
            Ok(_) => language::predict(row, &metric, self.profile),
            Err(skip) => Err(skip),
        };
        // A row may have a memory figure beside a metric that nothing predicts: one of the two is enough.
        match (prediction, memory::peak(row, self.profile)) {
            (Ok(prediction), Ok(peak)) => Ok(peak.beside(prediction)),
            (Ok(prediction), Err(_)) => Ok(prediction),
            (Err(skip), Ok(peak)) => {
                Ok(peak.beside(RowPrediction { unpredicted: Some(skip), ..RowPrediction::default() }))
            }
            (Err(skip), Err(_)) => Err(skip),
        }
    }
}

/// Networks that have a name of their own and are transformers all the same.
fn is_language_model(name: &str) -> bool {
    name.starts_with("transformer-xl")
}
