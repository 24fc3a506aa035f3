//! Small devices: memory of a forward pass that keeps nothing, energy of a request.

use cutplane_graph::ModelGraph;

/// Most bytes that live tensors need at once in a forward pass of `batch` samples with `element` bytes an element: a value
/// lives from the operator that writes it (inputs: from the start) to its last reader. What an arena planner can reach at
/// best (TensorFlow Lite Micro; David et al. 2021).
pub fn peak_live_bytes(graph: &ModelGraph, batch: u64, element: u64) -> u64 {
    let last = |value: &cutplane_graph::Value| value.consumers.iter().map(|id| id.index()).max();
    (0..graph.ops().len())
        .map(|at| {
            let alive = |value: &&cutplane_graph::Value| {
                let born = value.producer.map_or(0, cutplane_graph::OpId::index);
                born <= at && last(value).map_or(born == at, |last| last >= at)
            };
            graph.values().iter().filter(alive).map(|value| value.ty.elements(batch) * element).sum()
        })
        .max()
        .unwrap_or(0)
}

/// Joules of a request: arithmetic and traffic have a price each.
pub fn joules(multiply_adds: f64, bytes: f64, joules_per_multiply_add: f64, joules_per_byte: f64) -> f64 {
    multiply_adds * joules_per_multiply_add + bytes * joules_per_byte
}

/// Requests that a battery of `watt_hours` serves.
pub fn requests_of_battery(watt_hours: f64, joules_per_request: f64) -> f64 {
    watt_hours * 3600.0 / joules_per_request
}
