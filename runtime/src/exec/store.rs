//! Values of a rank on their way between its instructions.

use std::collections::{HashMap, HashSet};

use cutplane_graph::ValueId;
use cutplane_plan::{Action, Direction, Message, Program, Rank, SegmentId};

use crate::backend::Backend;
use crate::comm::Payload;
use crate::error::RuntimeError;
use crate::segment::Tensors;
use crate::tensor::HostTensor;

/// A value of a micro-batch.
type Key = (u64, ValueId);

/// What a rank has loaded, computed or received, until its last reader has taken it: a segment, or a message. A value that
/// several read is copied for all but the last.
#[derive(Debug)]
pub(super) struct Store {
    /// How many of this rank's segments and messages read a value.
    readers: HashMap<ValueId, usize>,
    /// Values whose gradient this rank sends on or goes back through.
    wanted: HashSet<ValueId>,
    loaded: HashMap<(u64, SegmentId), Tensors>,
    activations: HashMap<Key, (HostTensor, usize)>,
    gradients: HashMap<Key, HostTensor>,
}

impl Store {
    pub(super) fn new(program: &Program, rank: Rank) -> Self {
        let mut readers: HashMap<ValueId, usize> = HashMap::new();
        let mut wanted = HashSet::new();
        let segments = program.segments_of(rank).into_iter().map(|segment| program.segment(segment));
        segments.clone().flat_map(|segment| &segment.inputs).for_each(|value| *readers.entry(*value).or_default() += 1);
        wanted.extend(segments.flat_map(|segment| segment.outputs.iter().copied()));
        // A message of every micro-batch carries the same values: those of the first are counted.
        for message in program.messages.iter().filter(|message| message.from == rank) {
            match message.direction {
                Direction::Activation if message.micro_batch == 0 => {
                    message.values.iter().for_each(|value| *readers.entry(*value).or_default() += 1);
                }
                Direction::Activation => {}
                Direction::Gradient => wanted.extend(message.values.iter().copied()),
            }
        }
        if !goes_back(program, rank) {
            wanted.clear();
        }
        let (loaded, activations, gradients) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { readers, wanted, loaded, activations, gradients }
    }

    /// Keeps graph inputs for the coming pass of a segment.
    pub(super) fn load(&mut self, micro_batch: u64, segment: SegmentId, values: Tensors) {
        self.loaded.insert((micro_batch, segment), values);
    }

    /// Keeps those of `values` that somebody reads.
    pub(super) fn put(&mut self, micro_batch: u64, values: Tensors) {
        for (value, tensor) in values {
            if let Some(readers) = self.readers.get(&value) {
                self.activations.insert((micro_batch, value), (tensor, *readers));
            }
        }
    }

    /// The inputs of a segment that are there; the segment names those that are not.
    pub(super) fn inputs(&mut self, micro_batch: u64, segment: SegmentId, inputs: &[ValueId]) -> Tensors {
        let mut values = self.loaded.remove(&(micro_batch, segment)).unwrap_or_default();
        values.extend(inputs.iter().filter_map(|value| Some((*value, self.take((micro_batch, *value))?))));
        values
    }

    /// Adds to the gradients of values; what nobody asks for is dropped.
    pub(super) fn put_gradients(&mut self, micro_batch: u64, values: Tensors, backend: &Backend) {
        for (value, tensor) in values.into_iter().filter(|(value, _)| self.wanted.contains(value)) {
            match self.gradients.get_mut(&(micro_batch, value)) {
                Some(sum) => sum.add(tensor, backend),
                None => drop(self.gradients.insert((micro_batch, value), tensor)),
            }
        }
    }

    /// The gradients that have come for the outputs of a segment.
    pub(super) fn gradients(&mut self, micro_batch: u64, outputs: &[ValueId]) -> Tensors {
        let gradient = |value: &ValueId| Some((*value, self.gradients.remove(&(micro_batch, *value))?));
        outputs.iter().filter_map(gradient).collect()
    }

    /// The tensors of a message, in the order of its values.
    pub(super) fn message(&mut self, message: &Message) -> Result<Payload, RuntimeError> {
        let take = |value: &ValueId| {
            let key = (message.micro_batch, *value);
            let tensor = match message.direction {
                Direction::Activation => self.take(key),
                Direction::Gradient => self.gradients.remove(&key),
            };
            let problem = || "is sent before it is computed".to_owned();
            tensor.ok_or_else(|| RuntimeError::Value { value: value.to_string(), problem: problem() })
        };
        message.values.iter().map(take).collect()
    }

    fn take(&mut self, key: Key) -> Option<HostTensor> {
        let (tensor, left) = self.activations.get_mut(&key)?;
        *left -= 1;
        if *left > 0 {
            return Some(tensor.clone());
        }
        self.activations.remove(&key).map(|(tensor, _)| tensor)
    }
}

fn goes_back(program: &Program, rank: Rank) -> bool {
    let back = |action| matches!(action, Action::Backward { .. } | Action::BackwardInput { .. });
    program.ranks[rank.index()].instructions.iter().any(|instruction| back(instruction.action))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> ValueId {
        ValueId::new(3)
    }

    fn values(x: f32) -> Tensors {
        vec![(value(), HostTensor::f32([1], vec![x]))]
    }

    fn store(readers: usize) -> Store {
        Store {
            readers: HashMap::from([(value(), readers)]),
            wanted: HashSet::from([value()]),
            loaded: HashMap::new(),
            activations: HashMap::new(),
            gradients: HashMap::new(),
        }
    }

    #[test]
    fn gradients_of_one_value_add_up() {
        let (mut store, cpu) = (store(1), Backend::cpu());
        for (micro_batch, x) in [(1, 2.0), (1, 0.5), (2, 9.0)] {
            store.put_gradients(micro_batch, values(x), &cpu);
        }
        assert_eq!(store.gradients(1, &[value()]), values(2.5));
        assert_eq!(store.gradients(1, &[value()]), Vec::new());
    }

    #[test]
    fn a_value_serves_every_reader() {
        let message = |to| Message {
            from: Rank(0),
            to: Rank(to),
            values: vec![value()],
            direction: Direction::Activation,
            micro_batch: 0,
            bytes: cutplane_units::Bytes::new(4),
        };
        let mut store = store(3);
        store.put(0, values(7.0));
        assert_eq!(store.inputs(0, SegmentId(0), &[value()]), values(7.0));
        for to in [1, 2] {
            assert_eq!(store.message(&message(to)).expect("held"), [HostTensor::f32([1], vec![7.0])]);
        }
        let error = store.message(&message(1)).expect_err("spent");
        assert_eq!(error.to_string(), "value 'value3': is sent before it is computed");
    }
}
