//! The closed form of whole steps against the step engine, on thousands of random layouts.

use cutplane_sim::engine::step::simulate_step;
use cutplane_sim::estimate::{FoldedModel, GradientSync};
use cutplane_sim::estimate::{Layout, PipelineSchedule, Recompute, Zero, ZeroStage};

use crate::support::{Draw, decoder, with_estimator};

fn split(draw: &mut Draw, layers: u64, chunks: u64) -> Option<Vec<u64>> {
    if chunks < 2 || draw.below(3) > 0 {
        return None;
    }
    let mut split = vec![layers / chunks; chunks as usize];
    split[chunks as usize - 1] += layers % chunks;
    for _ in 0..draw.below(4) {
        let (from, to) = (draw.below(chunks) as usize, draw.below(chunks) as usize);
        if split[from] > 1 {
            split[from] -= 1;
            split[to] += 1;
        }
    }
    Some(split)
}

fn drawn(draw: &mut Draw, layers: u64) -> Layout {
    let two = |draw: &mut Draw, most: u64| 1 << draw.below(most);
    let pp = two(draw, 5);
    let schedules = [
        PipelineSchedule::OneForwardOneBackward,
        PipelineSchedule::Interleaved,
        PipelineSchedule::ZeroBubble,
        PipelineSchedule::FillDrain,
        PipelineSchedule::Interleaved,
        PipelineSchedule::Vanilla,
    ];
    let schedule = schedules[draw.below(6) as usize];
    let vpp = if schedule == PipelineSchedule::Interleaved { two(draw, 3) } else { 1 };
    let tp = two(draw, 4);
    let zeros = [ZeroStage::None, ZeroStage::One, ZeroStage::Two, ZeroStage::Three];
    let recomputes = [Recompute::None, Recompute::Selective, Recompute::Full, Recompute::Layers(1)];
    let overlaps = [None, Some(true), Some(true), Some(false)];
    Layout {
        dp: two(draw, 5),
        tp,
        pp,
        vpp,
        cp: two(draw, 2),
        ep: two(draw, 2),
        sequence_parallel: tp > 1 && draw.below(2) == 0,
        schedule,
        recompute: recomputes[draw.below(4) as usize],
        zero: Zero::stage(zeros[draw.below(4) as usize]),
        gradient_sync: GradientSync::AllReduce { overlapped: overlaps[draw.below(4) as usize] },
        stage_split: split(draw, layers, pp * vpp),
        micro_batch: two(draw, 3),
        global_batch: 32 * two(draw, 5),
        ..Layout::default()
    }
}

#[test]
fn steps_agree_within_one_per_cent() {
    let models: Vec<(u64, FoldedModel)> = vec![
        (32, decoder(32, 2048, None)),
        (64, decoder(64, 4096, None)),
        (30, decoder(30, 1024, None)),
        (32, decoder(32, 1024, Some(8))),
    ];
    let stacks = ["megatron-lm-2021", "megatron-core", "pytorch-fsdp", "megatron-deepspeed"];
    let mut draw = Draw::new(31);
    let (mut compared, mut folded, mut worst) = (0, 0, Vec::new());
    for (at, (layers, model)) in models.iter().enumerate() {
        with_estimator(model, stacks[at], |estimator| {
            for _ in 0..1500 {
                let layout = drawn(&mut draw, *layers);
                let (Ok(closed), Ok(program)) = (estimator.estimate(&layout), estimator.program(&layout)) else {
                    continue;
                };
                let timeline = simulate_step(&program).unwrap();
                folded += u64::from(timeline.kept_passes() < timeline.passes());
                let engine = timeline.makespan().as_f64() * 1e-9;
                compared += 1;
                worst.push(((closed.predicted.seconds / engine - 1.0).abs(), closed.predicted.seconds, engine, layout));
            }
        });
    }
    worst.sort_by(|a, b| b.0.total_cmp(&a.0));
    let over = worst.iter().filter(|case| case.0 > 0.01).count();
    assert!(compared > 2000 && folded > 100, "{compared} {folded}");
    assert!(over == 0, "{over} of {compared} above 1%: {:#?}", &worst[..4]);
}
