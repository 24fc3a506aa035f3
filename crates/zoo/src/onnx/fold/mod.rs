//! Nodes whose inputs are all known are computed while the graph is read.

mod index;
mod numbers;

use super::constant::Constant;
use super::node::NodeView;
pub(super) use numbers::spread;

/// Computes a node from constants; `None` where it is not one that is computed.
pub(super) fn compute(node: &NodeView<'_>, inputs: &[Option<Constant>]) -> Option<Result<Vec<Constant>, String>> {
    let whole: Option<Vec<&Constant>> = inputs.iter().filter(|input| input.is_some()).map(Option::as_ref).collect();
    let whole = whole?;
    if let Some(result) = numbers::compute(node, &whole) {
        return Some(result.map(|constant| vec![constant]));
    }
    index::compute(node, inputs)
}
