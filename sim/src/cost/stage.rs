//! What a stretch of operators costs: sums of operator prices, and what crosses each cut.

use cutplane_graph::{Device, Dtype, ModelGraph, OpId, Pass, Value};
use cutplane_plan::Segment;
use cutplane_units::Bytes;

use super::{CostError, CostModel, WorkTime};

/// Cost of one micro-batch in one segment: its operators and the fixed cost of its passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageCost {
    /// Forward pass.
    pub forward: WorkTime,
    /// Backward pass, the vector-Jacobian product at the boundary included.
    pub backward: WorkTime,
    /// Size of the outputs that gradients come back for.
    pub boundary: Bytes,
}

impl StageCost {
    /// Prices a segment on a micro-batch of `batch` samples, alone on `device`.
    ///
    /// # Errors
    /// [`CostError`] when an operator has no price.
    pub fn new(
        cost: &dyn CostModel,
        model: &ModelGraph,
        segment: &Segment,
        batch: u64,
        precision: Dtype,
        device: &Device,
    ) -> Result<Self, CostError> {
        let boundary = boundary_bytes(model, segment, batch, precision);
        let price = |pass| -> Result<WorkTime, CostError> {
            let mut total = cost.segment(pass, boundary, device)?;
            for op in &segment.ops {
                total = total + cost.op(model, *op, pass, batch, precision, device)?;
            }
            Ok(total)
        };
        Ok(Self { forward: price(Pass::Forward)?, backward: price(Pass::Backward)?, boundary })
    }
}

/// Size of the segment's outputs that other segments read: those that gradients come back for.
pub fn boundary_bytes(model: &ModelGraph, segment: &Segment, batch: u64, precision: Dtype) -> Bytes {
    let outside = |op: &OpId| segment.ops.binary_search(op).is_err();
    let crosses = |value: &&Value| value.ty.dtype.is_float() && value.consumers.iter().any(outside);
    segment
        .outputs
        .iter()
        .map(|id| model.value(*id))
        .filter(crosses)
        .map(|value| value.ty.bytes_in(batch, precision))
        .sum()
}

/// Prices of all operators of a model on one device, as prefix sums over the topological order: any contiguous stretch
/// is priced in constant time.
#[derive(Clone, Debug)]
pub struct OpPrices {
    forward: Vec<WorkTime>,
    backward: Vec<WorkTime>,
}

impl OpPrices {
    /// Prices every operator on a micro-batch of `batch` samples, alone on `device`.
    ///
    /// # Errors
    /// [`CostError`] when an operator has no price.
    pub fn new(
        cost: &dyn CostModel,
        model: &ModelGraph,
        batch: u64,
        precision: Dtype,
        device: &Device,
    ) -> Result<Self, CostError> {
        let prefix = |pass| -> Result<Vec<WorkTime>, CostError> {
            let mut sums = Vec::with_capacity(model.ops().len() + 1);
            let mut total = WorkTime::default();
            sums.push(total);
            for op in model.op_ids() {
                total = total + cost.op(model, op, pass, batch, precision, device)?;
                sums.push(total);
            }
            Ok(sums)
        };
        Ok(Self { forward: prefix(Pass::Forward)?, backward: prefix(Pass::Backward)? })
    }

    /// Forward and backward work of the operators `first..end`, without the fixed cost of a segment
    /// ([`CostModel::segment`]).
    pub fn interval(&self, first: usize, end: usize) -> (WorkTime, WorkTime) {
        (difference(&self.forward, first, end), difference(&self.backward, first, end))
    }
}

fn difference(sums: &[WorkTime], first: usize, end: usize) -> WorkTime {
    let (low, high) = (sums[first.min(end)], sums[end]);
    WorkTime { compute: high.compute - low.compute, memory: high.memory - low.memory }
}
