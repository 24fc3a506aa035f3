//! Rows of records that this tool writes.

use cutplane_graph::{DeviceGraph, ModelGraph};
use cutplane_plan::Plan;
use cutplane_record::{Measurement, Provenance, Source};

/// What the records of one experiment have in common.
pub(crate) struct Subject<'a> {
    /// Name of the experiment.
    pub(crate) experiment: String,
    pub(crate) model: &'a ModelGraph,
    pub(crate) devices: &'a DeviceGraph,
    pub(crate) sequence_length: u64,
    pub(crate) seed: u64,
    pub(crate) provenance: &'a Provenance,
}

impl Subject<'_> {
    /// A record of `plan` without a result.
    pub(crate) fn record(&self, plan: &Plan, source: Source, backend: &str) -> Measurement {
        Measurement {
            experiment: self.experiment.clone(),
            case: plan.name.clone(),
            source,
            plan_digest: plan.digest(),
            model: self.model.name().to_owned(),
            parameters: self.model.parameter_count(),
            devices: self.devices.name().to_owned(),
            global_batch: plan.workload.global_batch,
            sequence_length: self.sequence_length,
            precision: plan.workload.precision.to_string(),
            n: 0,
            median_ns: 0.0,
            mad_ns: 0.0,
            min_ns: 0.0,
            max_ns: 0.0,
            peak_memory_bytes: 0,
            loss: None,
            seed: self.seed,
            backend: backend.to_owned(),
            date: String::new(),
            tool_version: String::new(),
            commit: String::new(),
            host: String::new(),
            cpu_model: String::new(),
            error: None,
        }
        .with_provenance(self.provenance)
    }

    /// The record of a prediction.
    pub(crate) fn predicted(&self, plan: &Plan, timeline: &cutplane_record::Timeline, origin: &str) -> Measurement {
        let step = timeline.makespan().as_f64();
        let once = cutplane_record::Summary { n: 1, median_ns: step, mad_ns: 0.0, min_ns: step, max_ns: step };
        let mut record = self.record(plan, Source::Predicted, origin).with_summary(&once);
        record.peak_memory_bytes = timeline.max_peak_memory().get();
        record
    }
}
