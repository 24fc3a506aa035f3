//! Memory of training steps: the row as a shape, a layout and a framework's habits, counted by
//! [`cutplane_sim::footprint`].

pub(super) mod graph;
mod habits;
mod plan;
mod recipe;
mod shape;

use cutplane_graph::DeviceSpec;
use cutplane_sim::estimate::{Layout, Recompute, ZeroStage};
use cutplane_sim::footprint::{Footprint, StageFootprint, TransformerShape, of_transformer};

use crate::metric::{MemoryPart, Metric, Per, Quantity};
use crate::parse::{self, RowModel};
use crate::prediction::{Origin, RowPrediction, Skip, TraceEntry};
use crate::profile::Profile;
use crate::row::{MemoryKind, Row};
use crate::training_rows::is_language_model;

use plan::MemoryPlan;
use recipe::Recipe;

const GIB: f64 = 1_073_741_824.0;

/// Peak memory of a device, of the kind that [`Row::memory_kind`] names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Peak {
    /// GiB.
    pub(super) predicted_gib: f64,
    /// What the device offers to a figure of that kind, GiB.
    pub(super) capacity_gib: f64,
    /// Where its numbers come from.
    pub(super) trace: Vec<TraceEntry>,
}

impl Peak {
    /// Adds this to a prediction of the row's own metric.
    pub(super) fn beside(self, prediction: RowPrediction) -> RowPrediction {
        let mut prediction = prediction.with_memory(self.predicted_gib, self.capacity_gib);
        prediction.trace.extend(self.trace);
        prediction
    }
}

/// Predicts a row whose metric is memory, or whether memory suffices.
///
/// # Errors
/// [`Skip`] when the row cannot be represented.
pub(super) fn predict(row: &Row, metric: &Metric, profile: &Profile) -> Result<RowPrediction, Skip> {
    match metric.quantity {
        Quantity::Memory { part: MemoryPart::Peak, per: Per::Device | Per::Unstated } | Quantity::OutOfMemory => {
            peak(row, profile).map(|peak| peak.beside(RowPrediction::default()))
        }
        Quantity::Memory { part, per } => part_of(row, metric, part, per),
        _ => Err(Skip::new("unsupported-metric", format!("'{}' is no memory", row.metric_name))),
    }
}

/// The peak of a row's step.
///
/// # Errors
/// [`Skip`] when the row cannot be represented.
pub(super) fn peak(row: &Row, profile: &Profile) -> Result<Peak, Skip> {
    let counted = match parse::model(row) {
        Ok(RowModel::Named { name }) if !is_language_model(&name) => graph::counted(row, profile)?,
        _ => Counted::new(row)?,
    };
    let stage = counted.reported();
    let footprint = &counted.footprint;
    let tensors = stage.parts.total();
    let capacity = counted.capacity_gib * GIB;
    // The allocator gives back what it only keeps in reserve.
    let slack = footprint.cached / footprint.fragmentation;
    let (predicted, offered) = match row.memory_kind() {
        MemoryKind::Allocated => (tensors, footprint.room(capacity as u64)),
        MemoryKind::Reserved => (tensors * footprint.cached, (capacity - footprint.context).max(0.0) * slack),
        MemoryKind::Device => (tensors * footprint.cached + footprint.context, capacity * slack),
    };
    let mut trace = counted.trace.clone();
    let parts = stage.parts.named().into_iter().filter(|(_, bytes)| *bytes > 1e-3 * tensors);
    let parts: Vec<String> = parts.map(|(name, bytes)| format!("{name} {:.3} GiB", bytes / GIB)).collect();
    let place = format!("stage {}, {}: {}", stage.stage, stage.moment.name(), parts.join(", "));
    trace.push(TraceEntry { name: "memory".into(), value: place, origin: Origin::Datasheet });
    Ok(Peak { predicted_gib: predicted / GIB, capacity_gib: offered / GIB, trace })
}

/// A row whose metric is a part of the memory.
fn part_of(row: &Row, metric: &Metric, part: MemoryPart, per: Per) -> Result<RowPrediction, Skip> {
    if let (MemoryPart::ModelState, Ok(RowModel::Named { .. }), Some(numbers)) = (part, parse::model(row), row.params) {
        return Ok(around(metric.in_unit(graph::state_bytes(numbers) / GIB)));
    }
    let counted = Counted::new(row)?;
    let of_stage = |stage: &StageFootprint| match part {
        MemoryPart::Peak => stage.parts.total(),
        MemoryPart::Activations => stage.activations,
        MemoryPart::ModelState => stage.parts.state(),
    };
    let stages = &counted.footprint.stages;
    let bytes: f64 = match per {
        Per::All => {
            let devices = counted.layout.devices() as f64 / stages.len() as f64;
            stages.iter().map(of_stage).sum::<f64>() * devices
        }
        Per::Device | Per::Unstated => of_stage(&stages[0]),
    };
    Ok(RowPrediction { trace: counted.trace, ..around(metric.in_unit(bytes / GIB)) })
}

/// A part of the memory with the interval that most parts lie in.
fn around(value: f64) -> RowPrediction {
    RowPrediction::new(value, value * 0.9, value * 1.1)
}

/// A row whose memory is counted.
struct Counted {
    footprint: Footprint,
    layout: Layout,
    capacity_gib: f64,
    reports_last_stage: bool,
    trace: Vec<TraceEntry>,
}

impl Counted {
    fn new(row: &Row) -> Result<Self, Skip> {
        let recipe = Recipe::of(row);
        recipe.refuse_unknown()?;
        let device = parse::device(&row.hardware)?;
        let (shape, mut trace) = shape::shape(row, &recipe)?;
        let plan = MemoryPlan::of(row, &recipe, device)?;
        let habits = habits::habits(row, &recipe, device);
        let refused = |error: cutplane_sim::estimate::EstimateError| Skip::new("refused-layout", error.to_string());
        let capacity_gib = capacity_gib(row, device);
        let mut layout = plan.layout;
        let shape = if layout.frozen { TransformerShape { trained: ADAPTERS, ..shape } } else { shape };
        let mut footprint = of_transformer(&shape, &layout, &habits).map_err(refused)?;
        if plan.may_shard_optimizer && !footprint.verdict((capacity_gib * GIB) as u64).fits {
            layout.zero.stage = ZeroStage::One;
            footprint = of_transformer(&shape, &layout, &habits).map_err(refused)?;
        }
        // Whoever timed a step without saying what it recomputes took what fits.
        for recompute in plan.usual_recompute {
            if footprint.verdict((capacity_gib * GIB) as u64).fits {
                break;
            }
            layout.recompute = *recompute;
            footprint = of_transformer(&shape, &layout, &habits).map_err(refused)?;
        }
        trace.extend(plan.trace);
        trace.push(TraceEntry { name: "memory habits".into(), value: habits.name.into(), origin: Origin::Datasheet });
        let fits_at = format!("{:.3} and {:.2} GiB", habits.fragmentation, habits.context_bytes / GIB);
        trace.push(TraceEntry { name: "fragmentation, context".into(), value: fits_at, origin: Origin::Assumed });
        let reports_last_stage = recipe.reports_last_stage;
        Ok(Self { footprint, layout, capacity_gib, reports_last_stage, trace })
    }

    /// The stage whose memory the row reports.
    fn reported(&self) -> &StageFootprint {
        if self.reports_last_stage { self.footprint.last() } else { self.footprint.fullest() }
    }
}

/// Memory of a device, GiB: its own, unless the row says that it has much more or less; less what checks it.
fn capacity_gib(row: &Row, device: &DeviceSpec) -> f64 {
    let alike = |stated: &f64| (stated / device.memory_gib - 1.0).abs() > 0.1;
    row.gpu_memory_gb.filter(alike).unwrap_or(device.memory_gib) * unchecked_share(device)
}

/// Share of the memory that is left to programs: servers' cards with GDDR keep a sixteenth for error
/// correction, which is on by default (`nvidia-smi` shows 15,360 MiB of a T4 with 16 GiB); stacked memory has bits of its own
/// for that, and other cards have none.
fn unchecked_share(device: &DeviceSpec) -> f64 {
    const CHECKED: [&str; 10] = ["T4", "A10", "A10G", "A40", "L4", "L40", "L40S", "P40", "P4", "A2"];
    let name = device.model.split('-').next().unwrap_or_default();
    if CHECKED.contains(&name) { 15.0 / 16.0 } else { 1.0 }
}

/// Share of the numbers that adapters are (Hu et al. 2021).
const ADAPTERS: f64 = 0.01;

/// Recomputations that a practitioner tries in turn.
const LADDER: &[Recompute] = &[Recompute::Selective, Recompute::Full];
