//! From a row to the predictor of its workload.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::collective_rows::{CollectiveQuestion, StatedFabric, predict_collective};
use crate::fabrics::machine_of;
use crate::inference_rows::InferencePredictor;
use crate::kernel_rows::{KernelQuestion, KernelRow};
use crate::parse;
use crate::prediction::{Origin, Predictor, RowPrediction, Skip};
use crate::profile::Profile;
use crate::row::{Row, Workload};
use crate::training_rows::TrainingPredictor;

/// Predicts a row by the predictor of its workload, with the calibrations of this build.
///
/// # Errors
/// [`Skip`] when the row cannot be represented.
pub fn predict(row: &Row) -> Result<RowPrediction, Skip> {
    predict_with(row, &Profile::default())
}

/// As [`predict`], with the devices and interconnects of a profile first.
///
/// # Errors
/// As [`predict`].
pub fn predict_with(row: &Row, profile: &Profile) -> Result<RowPrediction, Skip> {
    let predictor: &dyn Predictor = match row.workload {
        Workload::Kernel => &Kernels { profile },
        Workload::Collective => &Collectives { profile },
        Workload::Inference => &InferencePredictor { profile },
        Workload::Training => &TrainingPredictor { profile },
        Workload::Other => {
            return Err(Skip::new("unknown-workload", format!("'{}'", row.workload_text)));
        }
    };
    // Numbers that no cluster has may leave the range of integers far inside a cost model; other rows go on.
    catch_unwind(AssertUnwindSafe(|| predictor.predict(row)))
        .unwrap_or_else(|_| Err(Skip::new("not-computable", "its numbers leave the range that can be computed with")))
}

/// Rows of the workload `kernel`.
struct Kernels<'a> {
    profile: &'a Profile,
}

impl Predictor for Kernels<'_> {
    fn predict(&self, row: &Row) -> Result<RowPrediction, Skip> {
        let device = parse::device(&row.hardware)?;
        Ok(KernelRow::read(&KernelQuestion::of(row))?.predict(&self.profile.gpu(device)))
    }
}

/// Rows of the workload `collective`.
struct Collectives<'a> {
    profile: &'a Profile,
}

impl Predictor for Collectives<'_> {
    fn predict(&self, row: &Row) -> Result<RowPrediction, Skip> {
        let stated = stated_fabric(row, self.profile)?;
        predict_collective(&CollectiveQuestion { stated: stated.as_ref(), ..CollectiveQuestion::of(row)? })
    }
}

/// The interconnect of a collective row: the profile's, that of a machine known by name, else what the row's columns say.
pub(crate) fn stated_fabric(row: &Row, profile: &Profile) -> Result<Option<StatedFabric>, Skip> {
    if let Some(found) = profile.fabric(&row.hardware)? {
        return Ok(Some(found));
    }
    if machine_of(&row.hardware).is_some() {
        return Ok(None);
    }
    let device = parse::device(&row.hardware)?;
    let origin = if row.interconnect.is_empty() { Origin::Assumed } else { Origin::Stated };
    Ok(Some(StatedFabric { fabric: parse::fabric(row, device)?.fabric, floor_us: None, origin }))
}

impl<'a> CollectiveQuestion<'a> {
    /// The question of a row.
    ///
    /// # Errors
    /// [`Skip`] `missing-shape` without a size or ranks.
    pub fn of(row: &'a Row) -> Result<Self, Skip> {
        let missing = |column: &str| Skip::new("missing-shape", format!("column '{column}'"));
        Ok(Self {
            hardware: &row.hardware,
            op: &row.op,
            bytes: row.message_bytes.ok_or_else(|| missing("message_bytes"))? as f64,
            ranks: row.gpus.ok_or_else(|| missing("gpus"))? as usize,
            ranks_per_node: row.gpus_per_node.map(|ranks| ranks as usize),
            framework: &row.framework,
            metric: &row.metric_name,
            unit: &row.metric_unit,
            stated: None,
        })
    }
}
