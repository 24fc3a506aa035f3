//! Dropout whose zeros depend on the sample and not on the plan.

use cutplane_graph::Dropout;

use super::call::Call;
use super::value::{Matrix, from_floats};
use crate::data::SplitMix;

/// Sets elements to zero with the operator's probability, and scales the others up; nothing in inference.
///
/// Whether an element is kept depends on the seed of the run, the operator, the number of the sample and the element's
/// place in it: the same under every plan and micro-batch size.
pub(super) fn dropout(call: &Call<'_>, kind: &Dropout, x: Matrix) -> Matrix {
    let Some(samples) = call.manner.samples.filter(|_| kind.probability > 0.0) else { return x };
    let count = call.samples(0, &x.shape) as u64;
    let dims = x.rows.dims();
    let elements = dims[0] * dims[1] / (count as usize).max(1);
    let kept = (1.0 / (1.0 - kind.probability)) as f32;
    let operator = call.op.output.index() as u64;
    let mut mask = Vec::with_capacity(dims[0] * dims[1]);
    for sample in samples.first..samples.first + count {
        let mut random = SplitMix::keyed(&[samples.seed, operator, sample]);
        mask.extend((0..elements).map(|_| if random.unit() < kind.probability { 0.0 } else { kept }));
    }
    let mask = from_floats(mask, dims, &call.backend.device());
    x.map(|rows| rows * call.backend.low(mask))
}
