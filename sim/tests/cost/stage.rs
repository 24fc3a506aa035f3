use cutplane_graph::{DeviceKind, Dtype, OpId, Pass};
use cutplane_plan::Segment;
use cutplane_sim::cost::stage::{OpPrices, StageCost};
use cutplane_sim::cost::{CostModel, Roofline, WorkTime};
use cutplane_units::Bytes;

use crate::models::{device, perceptron, transformer};

#[test]
fn intervals_are_sums_of_operators() {
    let (model, device, cost) = (transformer(2), device(DeviceKind::Gpu), Roofline::new());
    let prices = OpPrices::new(&cost, &model, 3, Dtype::F32, &device).unwrap();
    let sum = |first, end, pass| -> WorkTime {
        (first..end).map(|op| cost.op(&model, OpId::new(op), pass, 3, Dtype::F32, &device).unwrap()).sum()
    };
    for first in 0..=model.ops().len() {
        for end in first..=model.ops().len() {
            let expected = (sum(first, end, Pass::Forward), sum(first, end, Pass::Backward));
            assert_eq!(prices.interval(first, end), expected);
        }
    }
}

#[test]
fn a_segment_pays_for_its_boundary() {
    let (model, device, cost) = (perceptron(), device(DeviceKind::Gpu), Roofline::new());
    let prices = OpPrices::new(&cost, &model, 2, Dtype::F32, &device).unwrap();
    let value = |op: usize| model.op(OpId::new(op)).output;
    let segment = |first: usize, end: usize, outputs| Segment {
        stage: 0,
        ops: (first..end).map(OpId::new).collect(),
        inputs: Vec::new(),
        outputs,
        params: Vec::new(),
    };
    // The relu's output: 2 samples of 8 floats.
    let first = StageCost::new(&cost, &model, &segment(0, 2, vec![value(1)]), 2, Dtype::F32, &device).unwrap();
    assert_eq!(first.boundary, Bytes::new(64));
    assert_eq!(first.forward, prices.interval(0, 2).0);
    let seed = cost.segment(Pass::Backward, Bytes::new(64), &device).unwrap();
    assert_eq!(first.backward, prices.interval(0, 2).1 + seed);
    // The loss is an output that nobody reads: no gradient comes back for it.
    let last = StageCost::new(&cost, &model, &segment(2, 4, vec![value(3)]), 2, Dtype::F32, &device).unwrap();
    assert_eq!((last.boundary, last.backward), (Bytes::ZERO, prices.interval(2, 4).1));
}
