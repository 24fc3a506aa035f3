//! What must hold whatever the constants are.

use cutplane_sim::estimate::{GradientSync, Layout, PipelineSchedule, Recompute, Zero, ZeroStage, known_stacks};

use crate::support::{Draw, decoder, step, with_estimator};

const STACK: &str = "megatron-lm-2021";

#[test]
fn the_parts_add_up_to_the_step() {
    let model = decoder(16, 1024, None);
    let layouts = [
        Layout { global_batch: 4, micro_batch: 2, ..Layout::default() },
        Layout { dp: 4, tp: 2, pp: 4, global_batch: 64, recompute: Recompute::Full, ..Layout::default() },
        Layout {
            pp: 4,
            vpp: 2,
            schedule: PipelineSchedule::Interleaved,
            global_batch: 16,
            recompute: Recompute::Selective,
            ..Layout::default()
        },
        Layout { dp: 8, zero: Zero::stage(ZeroStage::Three), global_batch: 32, ..Layout::default() },
    ];
    for (layout, stack) in layouts.iter().flat_map(|layout| known_stacks().iter().map(move |stack| (layout, stack))) {
        let found = step(&model, layout, &stack.name);
        let (sum, whole) = (found.breakdown.total(), found.predicted.seconds);
        assert!((sum / whole - 1.0).abs() < 1e-6, "{}: {sum} of {whole} s, {layout:?}", stack.name);
        assert!(found.predicted.low < whole && whole < found.predicted.high);
    }
}

#[test]
fn full_recomputation_costs_another_forward_pass() {
    let model = decoder(24, 4096, None);
    let plain = Layout { tp: 8, global_batch: 32, micro_batch: 4, ..Layout::default() };
    let without = step(&model, &plain, STACK);
    let with = step(&model, &Layout { recompute: Recompute::Full, ..plain }, STACK);
    let more = with.predicted.seconds / without.predicted.seconds;
    assert!((1.25..1.4).contains(&more), "{more}");
    assert!(with.breakdown.recompute > 0.9 * with.breakdown.forward * 0.9);
}

#[test]
fn selective_recomputation_costs_far_less_than_full() {
    let model = decoder(24, 4096, None);
    let plain = Layout { tp: 8, global_batch: 32, micro_batch: 4, sequence_parallel: true, ..Layout::default() };
    let time = |recompute| step(&model, &Layout { recompute, ..plain.clone() }, STACK).predicted.seconds;
    let (none, selective, full) = (time(Recompute::None), time(Recompute::Selective), time(Recompute::Full));
    assert!(none < selective && selective - none < 0.35 * (full - none), "{none} {selective} {full}");
}

#[test]
fn interleaving_shortens_the_bubble() {
    // The head makes the last stage longer, which no number of chunks mends. PyTorch's stack does not wait for messages.
    let model = decoder(64, 2048, None);
    let plain = Layout { pp: 4, micro_batch: 4, global_batch: 32, ..Layout::default() };
    let bubble =
        |vpp: u64, schedule| step(&model, &Layout { vpp, schedule, ..plain.clone() }, "pytorch-fsdp").breakdown.bubble;
    let (one, four) = (bubble(1, PipelineSchedule::OneForwardOneBackward), bubble(4, PipelineSchedule::Interleaved));
    assert!(four < 0.6 * one, "{one} {four}");
}

#[test]
fn gradients_of_experts_meet_among_their_own_replicas_only() {
    let model = decoder(8, 1024, Some(64));
    let plain = Layout { dp: 16, global_batch: 64, ..Layout::default() };
    let sync = |ep| step(&model, &Layout { ep, ..plain.clone() }, "megatron-lm-2021").breakdown.gradient_sync;
    let (whole, spread) = (sync(1), sync(16));
    assert!(spread < 0.35 * whole, "{spread} of {whole} s: experts that one rank holds have nobody to meet");
}

#[test]
fn frozen_parameters_have_no_gradients() {
    let model = decoder(8, 2048, None);
    let plain = Layout { dp: 8, global_batch: 32, ..Layout::default() };
    let trained = step(&model, &plain, STACK);
    let frozen = step(&model, &Layout { frozen: true, ..plain }, STACK);
    assert!(frozen.breakdown.gradient_sync < 1e-9 && frozen.breakdown.optimizer < 1e-3);
    assert!(frozen.breakdown.backward < 0.7 * trained.breakdown.backward);
}

#[test]
fn the_optimizer_works_on_a_shard() {
    let model = decoder(8, 2048, None);
    let plain = Layout { dp: 8, global_batch: 8, ..Layout::default() };
    let time = |stage| step(&model, &Layout { zero: Zero::stage(stage), ..plain.clone() }, STACK).breakdown.optimizer;
    let (whole, shard) = (time(ZeroStage::None), time(ZeroStage::One));
    assert!((whole / shard - 8.0).abs() < 0.8, "{whole} {shard}");
}

/// A layout that a draw makes; its degrees need not fit together.
fn drawn(draw: &mut Draw) -> Layout {
    let two = |draw: &mut Draw, most: u64| 1 << draw.below(most);
    let pp = two(draw, 4);
    let vpp = if draw.below(3) == 0 { two(draw, 3) } else { 1 };
    Layout {
        dp: two(draw, 5),
        tp: two(draw, 4),
        pp,
        vpp,
        cp: two(draw, 2),
        ep: two(draw, 3),
        whole_experts: draw.below(2) == 0,
        sequence_parallel: draw.below(2) == 0,
        schedule: if vpp > 1 { PipelineSchedule::Interleaved } else { PipelineSchedule::OneForwardOneBackward },
        recompute: [Recompute::None, Recompute::Full, Recompute::Layers(1)][draw.below(3) as usize],
        micro_batch: two(draw, 3),
        global_batch: 64 * two(draw, 4),
        ..Layout::default()
    }
}

#[test]
fn any_layout_is_refused_or_has_a_positive_finite_time() {
    let (models, mut draw) = ([decoder(16, 1024, None), decoder(16, 1024, Some(8))], Draw::new(5));
    let (mut refused, mut estimated) = (0, 0);
    for _ in 0..2000 {
        let layout = drawn(&mut draw);
        if layout.validate().is_err() || layout.pp * layout.vpp > 16 {
            refused += 1;
            continue;
        }
        estimated += 1;
        let found = step(&models[draw.below(2) as usize], &layout, "megatron-core");
        assert!(found.predicted.seconds.is_finite() && found.predicted.seconds > 0.0, "{layout:?}");
        assert!(found.breakdown.bubble > -1e-9 && found.breakdown.host > -1e-9, "{layout:?}: {:?}", found.breakdown);
    }
    assert!(refused > 100 && estimated > 500, "{refused} {estimated}");
}

/// ZeRO-2 keeps the sum of its own shard of the gradients alone, so each micro-batch's are scattered.
#[test]
fn sharded_gradients_travel_once_a_micro_batch() {
    with_estimator(&decoder(24, 2048, None), "megatron-core", |estimator| {
        let seconds = |stage, overlapped, micro_batches: u64| {
            let layout = Layout {
                dp: 8,
                zero: Zero::stage(stage),
                gradient_sync: GradientSync::AllReduce { overlapped: Some(overlapped) },
                global_batch: 8 * micro_batches,
                ..Layout::default()
            };
            estimator.estimate(&layout).unwrap().predicted.seconds
        };
        let more = |overlapped, micro_batches| {
            seconds(ZeroStage::Two, overlapped, micro_batches) - seconds(ZeroStage::One, overlapped, micro_batches)
        };
        assert!(more(false, 1).abs() < 1e-12 && more(true, 1).abs() < 1e-12);
        let each = (more(false, 8) - more(false, 4)) / 4.0;
        assert!(each > 0.0 && (more(false, 4) - more(false, 2) - 2.0 * each).abs() < 1e-9, "{each}");
        assert!(more(true, 8) < more(false, 8));
    });
}
