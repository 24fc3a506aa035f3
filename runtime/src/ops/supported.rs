//! What this runtime does not execute; it is refused when a segment is made, before anything is put on a device.

use cutplane_graph::{Op, OpKind, Pool, PoolKind};

use super::activation::is_known;
use crate::error::RuntimeError;

/// Refuses an operator that cannot be executed, by its name and kind.
pub(crate) fn check(op: &Op) -> Result<(), RuntimeError> {
    let problem = match &op.kind {
        OpKind::Activation { function } if !is_known(*function) => format!("the activation '{}'", function.name()),
        OpKind::Gate(gate) if !is_known(gate.function) => format!("a gate of '{}'", gate.function.name()),
        OpKind::Pool(Pool { function: PoolKind::Average | PoolKind::AverageInside, window })
            if window.dilation.iter().any(|distance| *distance != 1) =>
        {
            "a mean over a dilated window".to_owned()
        }
        _ => return Ok(()),
    };
    let problem = format!("this runtime does not execute {problem}; the model can be planned and simulated");
    Err(RuntimeError::Value { value: op.name.clone(), problem })
}
