use cutplane_graph::{DeviceKind, Dtype, OpId, Pass};
use cutplane_plan::Segment;
use cutplane_sim::cost::stage::{OpPrices, StageCost, cut_bytes};
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

#[test]
fn cuts_count_every_value_that_crosses() {
    // Two samples: x is an input and costs nothing; up and relu give 8 floats, down 4, the loss is read by nobody.
    let sizes = [0, 64, 64, 32, 0].map(Bytes::new).to_vec();
    assert_eq!(cut_bytes(&perceptron(), 2), sizes);
    // Inside a block the residual stream (6 x 8 floats) crosses beside the branch.
    let sizes = cut_bytes(&transformer(1), 1);
    let (stream, qkv) = (6 * 8 * 4, 6 * 24 * 4);
    assert_eq!(sizes[2..5], [stream, 2 * stream, stream + qkv].map(Bytes::new));
}
