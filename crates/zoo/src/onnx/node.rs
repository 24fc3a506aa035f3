//! A node as operators see it: its attributes by name.

use super::proto::{Attribute, Node, Tensor};

/// A node and its attributes.
#[derive(Clone, Copy)]
pub(super) struct NodeView<'a> {
    pub(super) node: &'a Node<'a>,
    /// Version of the operator set.
    pub(super) opset: i64,
}

impl<'a> NodeView<'a> {
    pub(super) fn op(&self) -> &'a str {
        self.node.op_type
    }

    fn attribute(&self, name: &str) -> Option<&'a Attribute<'a>> {
        self.node.attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        match self.attribute(name) {
            Some(Attribute::Int(value)) => *value,
            _ => default,
        }
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        match self.attribute(name) {
            Some(Attribute::Float(value)) => *value,
            _ => default,
        }
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        match self.attribute(name) {
            Some(Attribute::Ints(list)) => Some(list),
            _ => None,
        }
    }

    pub(super) fn floats(&self, name: &str) -> Option<&'a [f32]> {
        match self.attribute(name) {
            Some(Attribute::Floats(list)) => Some(list),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        match self.attribute(name) {
            Some(Attribute::Text(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&'a Tensor<'a>> {
        match self.attribute(name) {
            Some(Attribute::Tensor(tensor)) => Some(tensor),
            _ => None,
        }
    }

    /// An attribute that must have the value that it has by default.
    pub(super) fn only(&self, name: &str, value: i64) -> Result<(), String> {
        match self.int(name, value) {
            given if given == value => Ok(()),
            given => Err(format!("the attribute {name} = {given} is not supported, only {value}")),
        }
    }

    /// An axis of a tensor of rank `rank`, counted from the end where it is negative.
    pub(super) fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, String> {
        positive_axis(self.int(name, default), rank)
    }
}

/// An axis counted from the front.
pub(super) fn positive_axis(axis: i64, rank: usize) -> Result<usize, String> {
    let shifted = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = shifted.and_then(|axis| usize::try_from(axis).ok()).filter(|axis| *axis < rank);
    found.ok_or_else(|| format!("the axis {axis} of a tensor with {rank} axes"))
}
