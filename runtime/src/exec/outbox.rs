//! Values on their way between instructions of a rank.

use std::collections::HashMap;

use cutplane_graph::ValueId;
use cutplane_plan::{Direction, Message, Program, Rank};

use crate::backend::Backend;
use crate::comm::Payload;
use crate::error::RuntimeError;
use crate::tensor::HostTensor;

/// Values of a segment, by id.
pub(super) type Values = Vec<(ValueId, HostTensor)>;

type Key = (Direction, u64, ValueId);

/// What a rank has computed and has yet to send. A value that several messages carry is copied for all but the last.
#[derive(Debug)]
pub(super) struct Outbox {
    fan_out: HashMap<Key, usize>,
    held: HashMap<Key, (HostTensor, usize)>,
}

impl Outbox {
    pub(super) fn new(program: &Program, rank: Rank) -> Self {
        let mut fan_out = HashMap::new();
        for message in program.messages.iter().filter(|message| message.from == rank) {
            for value in &message.values {
                *fan_out.entry((message.direction, message.micro_batch, *value)).or_default() += 1;
            }
        }
        Self { fan_out, held: HashMap::new() }
    }

    /// Keeps those of `values` that some message carries.
    pub(super) fn put(&mut self, direction: Direction, micro_batch: u64, values: Values) {
        for (value, tensor) in values {
            let key = (direction, micro_batch, value);
            if let Some(messages) = self.fan_out.get(&key) {
                self.held.insert(key, (tensor, *messages));
            }
        }
    }

    /// The tensors of a message, in the order of its values.
    pub(super) fn take(&mut self, message: &Message) -> Result<Payload, RuntimeError> {
        let key = |value: &ValueId| (message.direction, message.micro_batch, *value);
        message.values.iter().map(|value| self.take_one(key(value))).collect()
    }

    fn take_one(&mut self, key: Key) -> Result<HostTensor, RuntimeError> {
        let missing =
            || RuntimeError::Value { value: key.2.to_string(), problem: "is sent before it is computed".into() };
        let (tensor, left) = self.held.get_mut(&key).ok_or_else(missing)?;
        *left -= 1;
        if *left > 0 {
            return Ok(tensor.clone());
        }
        Ok(self.held.remove(&key).ok_or_else(missing)?.0)
    }
}

/// What a rank has received or loaded for the coming pass of each micro-batch.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    values: HashMap<(Direction, u64), Values>,
}

impl Inbox {
    /// Adds values for a pass; gradients of one value that come from several stages are summed.
    pub(super) fn put(&mut self, direction: Direction, micro_batch: u64, values: Values, backend: &Backend) {
        let there = self.values.entry((direction, micro_batch)).or_default();
        for (value, tensor) in values {
            match there.iter_mut().find(|(known, _)| *known == value) {
                Some((_, sum)) => sum.add(tensor, backend),
                None => there.push((value, tensor)),
            }
        }
    }

    /// Everything for a pass.
    pub(super) fn take(&mut self, direction: Direction, micro_batch: u64) -> Values {
        self.values.remove(&(direction, micro_batch)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(x: f32) -> Values {
        vec![(ValueId::new(3), HostTensor::f32([1], vec![x]))]
    }

    #[test]
    fn gradients_of_one_value_add_up() {
        let (mut inbox, cpu) = (Inbox::default(), Backend::cpu());
        inbox.put(Direction::Gradient, 1, values(2.0), &cpu);
        inbox.put(Direction::Gradient, 1, values(0.5), &cpu);
        inbox.put(Direction::Gradient, 2, values(9.0), &cpu);
        assert_eq!(inbox.take(Direction::Gradient, 1), values(2.5));
        assert_eq!(inbox.take(Direction::Gradient, 1), Vec::new());
    }

    #[test]
    fn a_value_serves_every_message_that_carries_it() {
        let key = (Direction::Activation, 0, ValueId::new(3));
        let message = |to| Message {
            from: Rank(0),
            to: Rank(to),
            values: vec![ValueId::new(3)],
            direction: Direction::Activation,
            micro_batch: 0,
            bytes: cutplane_units::Bytes::new(4),
        };
        let mut outbox = Outbox { fan_out: [(key, 2)].into(), held: HashMap::new() };
        outbox.put(Direction::Activation, 0, values(7.0));
        for to in [1, 2] {
            assert_eq!(outbox.take(&message(to)).expect("held"), [HostTensor::f32([1], vec![7.0])]);
        }
        let error = outbox.take(&message(1)).expect_err("spent");
        assert_eq!(error.to_string(), "value 'value3': is sent before it is computed");
    }
}
