use std::sync::Arc;

use cutplane_graph::{DeviceKind, Dtype, OpId};
use cutplane_plan::{Optimizer, state_bytes};
use cutplane_sim::cost::Profiled;
use cutplane_sim::cost::memory::{IntervalMemory, MemoryModel, StageMemory, StageUse};
use cutplane_units::Bytes;

use crate::models::{device, perceptron, transformer};
use crate::profiled::{curve, profile};

const USE: StageUse = StageUse { batch: 2, precision: Dtype::F32, optimizer: Optimizer::AdamW, in_flight: 3 };

fn ops(first: usize, end: usize) -> Vec<OpId> {
    (first..end).map(OpId::new).collect()
}

fn framework(first: usize, end: usize, stage: StageUse) -> StageMemory {
    let device = device(DeviceKind::Cpu);
    StageMemory::new(&perceptron(), &ops(first, end), stage, MemoryModel::Framework, &device).unwrap()
}

#[test]
fn a_whole_model_by_hand() {
    // x 32 and up 64 and relu 64 are kept; the loss keeps its softmax, 32; targets 8; the loss itself 4.
    // The relu needs the gradients of its input and its output.
    let expected = StageMemory {
        parameters: Bytes::new(304),
        gradients: Bytes::new(304),
        optimizer: Bytes::new(608),
        activations_per_micro_batch: Bytes::new(32 + 64 + 64 + 32 + 8 + 4),
        workspace: Bytes::new(128),
        in_flight: 3,
        total: Bytes::new(1216 + 3 * 204 + 128),
    };
    assert_eq!(framework(0, 4, USE), expected);
}

#[test]
fn a_cut_keeps_both_its_sides() {
    // The first stage holds its output for the vector-Jacobian product, the second its input for the layer.
    let (first, second) = (framework(0, 2, USE), framework(2, 4, USE));
    assert_eq!(first.activations_per_micro_batch, Bytes::new(32 + 64 + 64));
    assert_eq!(second.activations_per_micro_batch, Bytes::new(64 + 32 + 8 + 4));
    assert_eq!((first.parameters, second.parameters), (Bytes::new(160), Bytes::new(144)));
}

#[test]
fn half_precision_halves_floats_and_leaves_ids_and_state() {
    let half = framework(0, 4, StageUse { precision: Dtype::Bf16, ..USE });
    assert_eq!(half.activations_per_micro_batch, Bytes::new(98 + 8));
    assert_eq!((half.workspace, half.parameters), (Bytes::new(64), Bytes::new(304)));
}

#[test]
fn adamw_keeps_16_bytes_a_parameter() {
    let model = transformer(2);
    let device = device(DeviceKind::Cpu);
    for (optimizer, bytes) in [(Optimizer::AdamW, 16), (Optimizer::Sgd, 8)] {
        let stage = StageUse { optimizer, ..USE };
        let whole = StageMemory::new(&model, &ops(0, 25), stage, MemoryModel::Framework, &device).unwrap();
        let state = whole.parameters + whole.gradients + whole.optimizer;
        assert_eq!(state, Bytes::new(bytes * model.parameter_count()));
        let params = (0..model.params().len()).map(cutplane_graph::ParamId::new);
        assert_eq!(state, state_bytes(&model, params, optimizer));
    }
}

#[test]
fn intervals_equal_stages_in_both_models() {
    let model = transformer(3);
    let device = device(DeviceKind::Cpu);
    let mut measured = profile();
    let names = [
        ("embedding", 3),
        ("position_embedding", 2),
        ("layer_norm", 2),
        ("linear", 3),
        ("linear.transposed", 3),
        ("attention.causal.packed", 3),
        ("add", 1),
        ("activation.gelu-tanh", 1),
        ("cross_entropy", 2),
    ];
    measured.operators = names.iter().map(|(name, axes)| curve(name, &[(&vec![4; *axes], 10.0, 20.0)])).collect();
    let profiled = Profiled::new([Arc::new(measured)]);
    for memory in [MemoryModel::Framework, MemoryModel::Profiled(&profiled)] {
        let intervals = IntervalMemory::new(&model, USE.batch, USE.precision, memory, &device).unwrap();
        for first in 0..model.ops().len() {
            for end in first + 1..=model.ops().len() {
                let stage = StageMemory::new(&model, &ops(first, end), USE, memory, &device).unwrap();
                let interval = intervals.interval(first, end, USE.optimizer, USE.in_flight);
                assert_eq!(interval, stage, "{first}..{end}");
            }
        }
    }
}

#[test]
fn a_profile_says_what_is_kept() {
    // Curves hold 3 bytes kept and 5 bytes of workspace per work; the work of a linear layer is 2 rows in out.
    let model = perceptron();
    let mut measured = profile();
    measured.operators = vec![curve("linear", &[(&[2, 4, 8], 10.0, 20.0)])];
    let profiled = Profiled::new([Arc::new(measured)]);
    let memory = MemoryModel::Profiled(&profiled);
    let device = device(DeviceKind::Cpu);
    let stage = StageMemory::new(&model, &ops(0, 1), USE, memory, &device).unwrap();
    let work = 2 * 2 * 4 * 8;
    assert_eq!(stage.activations_per_micro_batch, Bytes::new(32 + 64 + 3 * work));
    // 40 parameters need 160 bytes of gradients, less than the activations that have gone by then.
    assert_eq!(stage.workspace, Bytes::new(5 * work));
    let error = StageMemory::new(&model, &ops(0, 2), USE, memory, &device).unwrap_err();
    assert!(error.to_string().contains("'relu' needs the curve 'activation.relu'"), "{error}");
}

#[test]
fn the_runtime_keeps_the_logits_and_gathers_gradients() {
    let mut measured = profile();
    let none = |name: &str, axes: usize| {
        let mut curve = curve(name, &[(&vec![4; axes], 1.0, 1.0)]);
        (curve.points[0].kept_bytes, curve.points[0].workspace_bytes) = (0.0, 0.0);
        curve
    };
    measured.operators = vec![none("linear", 3), none("activation.relu", 1), none("cross_entropy", 2)];
    let profiled = Profiled::new([Arc::new(measured)]);
    let stage = |batch, first| {
        let stage = StageUse { batch, ..USE };
        let device = device(DeviceKind::Cpu);
        StageMemory::new(&perceptron(), &ops(first, 4), stage, MemoryModel::Profiled(&profiled), &device).unwrap()
    };
    // Two samples of relu, logits and targets, and the loss; 36 parameters have 144 bytes of gradients, 36 more than
    // the activations.
    let (relu, logits, targets, loss) = (64, 32, 8, 4);
    let last = stage(2, 2);
    assert_eq!(last.activations_per_micro_batch, Bytes::new(relu + logits + targets + loss));
    assert_eq!(last.workspace, Bytes::new(144 - 108));
    assert_eq!(last.total, Bytes::new(16 * 36 + 3 * 108 + 36));
    assert_eq!(stage(20, 2).workspace, Bytes::ZERO);
}
