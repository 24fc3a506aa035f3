//! Memory of a rank that runs forward only: inference.

use std::collections::{BTreeMap, BTreeSet};

use cutplane_graph::{Device, ModelGraph, OpId, ValueId};
use cutplane_units::Bytes;

use super::{Activations, CostError, MemoryModel, StageMemory, StageUse, parameters};

impl StageMemory {
    /// Memory of a stage of any set of operators, in ascending order, that runs forward only: its parameters in f32, and
    /// the values that are alive at the worst moment of one micro-batch. A value lives from its producer to its last
    /// reader, the segment's inputs from the beginning and its outputs to the end; what an operator would keep for a
    /// backward pass it holds while it runs.
    ///
    /// # Errors
    /// [`CostError`] when the profile does not know an operator.
    pub fn forward_only(
        model: &ModelGraph,
        ops: &[OpId],
        stage: StageUse,
        memory: MemoryModel<'_>,
        device: &Device,
    ) -> Result<Self, CostError> {
        let load = Activations { batch: stage.batch, precision: stage.precision };
        let weights = Self::state(parameters(model, ops), stage.optimizer).parameters;
        let activations = live_peak(model, ops, load, memory, device)?;
        Ok(Self {
            parameters: weights,
            gradients: Bytes::ZERO,
            optimizer: Bytes::ZERO,
            activations_per_micro_batch: activations,
            workspace: Bytes::ZERO,
            in_flight: 1,
            total: weights + activations,
        })
    }
}

/// Most bytes of values that are alive at once.
fn live_peak(
    model: &ModelGraph,
    ops: &[OpId],
    load: Activations,
    memory: MemoryModel<'_>,
    device: &Device,
) -> Result<Bytes, CostError> {
    let mut readers = readers_inside(model, ops);
    let produced: BTreeSet<ValueId> = ops.iter().map(|op| model.op(*op).output).collect();
    let outside = readers.keys().filter(|value| !produced.contains(value));
    let mut live: Bytes = outside.map(|value| load.size(model, *value)).sum();
    let mut peak = live;
    for op in ops {
        let node = model.op(*op);
        live += load.size(model, node.output);
        peak = peak.max(live + memory.op(model, *op, load, device)?.internal);
        let freed = |value: &&ValueId| {
            let left = readers.get_mut(*value);
            left.is_some_and(|left| {
                *left -= 1;
                *left == 0
            })
        };
        let freed: Bytes = node.inputs.iter().filter(freed).map(|value| load.size(model, *value)).sum();
        live = live.saturating_sub(freed);
    }
    Ok(peak)
}

/// How often each value is read inside, once more where it leaves the segment.
fn readers_inside(model: &ModelGraph, ops: &[OpId]) -> BTreeMap<ValueId, usize> {
    let mut readers: BTreeMap<ValueId, usize> = BTreeMap::new();
    for op in ops {
        for value in &model.op(*op).inputs {
            *readers.entry(*value).or_default() += 1;
        }
        let output = model.op(*op).output;
        let leaves = model.value(output).consumers.iter().any(|reader| ops.binary_search(reader).is_err());
        if leaves || model.outputs().contains(&output) {
            *readers.entry(output).or_default() += 1;
        }
    }
    readers
}

#[cfg(test)]
mod tests {
    use cutplane_graph::{DeviceGraph, DeviceId, Dtype, Overrides};
    use cutplane_plan::Optimizer;

    use super::*;

    #[test]
    fn inference_holds_weights_and_a_few_values_whatever_the_depth() {
        let devices = DeviceGraph::build(cutplane_zoo::cluster("a100-80gb:1").unwrap()).unwrap();
        let memory = |layers| {
            let overrides = Overrides { layers: Some(layers), ..Overrides::default() };
            let source = cutplane_zoo::source_from_argument("gpt2", Some(256), overrides).unwrap();
            let model = cutplane_zoo::build(&source).unwrap();
            let ops: Vec<OpId> = model.op_ids().collect();
            let stage = StageUse { batch: 2, precision: Dtype::F32, optimizer: Optimizer::AdamW, in_flight: 1 };
            let device = devices.device(DeviceId::new(0));
            let inference = StageMemory::forward_only(&model, &ops, stage, MemoryModel::Framework, device).unwrap();
            let training = StageMemory::new(&model, &ops, stage, MemoryModel::Framework, device).unwrap();
            assert_eq!(inference.parameters, training.parameters);
            assert!(inference.total < training.total);
            inference
        };
        let (shallow, deep) = (memory(2), memory(8));
        assert_eq!(shallow.activations_per_micro_batch, deep.activations_per_micro_batch);
        // The worst moment is at the end: hidden states, and logits over the vocabulary (in f32: 2 x 256 x 50257 numbers).
        assert!(deep.activations_per_micro_batch >= Bytes::new(2 * 256 * 50257 * 4));
        assert!(deep.activations_per_micro_batch < Bytes::new(3 * 2 * 256 * 50257 * 4));
    }
}
