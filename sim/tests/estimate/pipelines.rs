//! Pipelines of the closed form against the step engine.

use cutplane_sim::engine::step::{ChunkWork, DeviceWork, Gradients, HopTime, Pass, StepProgram, simulate_step};
use cutplane_sim::estimate::PipelineSchedule::{FillDrain, Interleaved, OneForwardOneBackward, Vanilla, ZeroBubble};
use cutplane_sim::estimate::pipeline::{Devices, Hop, Pipeline, StageTime};
use cutplane_units::Nanos;

use crate::support::Draw;

/// Share by which the closed form leaves the engine, over the first run of devices; times in ms.
fn apart(pipeline: &Pipeline<'_>) -> f64 {
    let closed = pipeline.end(0);
    let engine = engine(pipeline);
    (closed / engine - 1.0).abs()
}

fn engine(pipeline: &Pipeline<'_>) -> f64 {
    let time = |ms: f64| Nanos::from_nanos_f64(ms * 1e6);
    let splits = pipeline.schedule == ZeroBubble;
    let work = |chunk: &StageTime| ChunkWork {
        forward: Pass::whole(time(chunk.forward)),
        backward: Pass::whole(time(chunk.backward - if splits { chunk.weight_gradient } else { 0.0 })),
        weight_gradient: Pass::whole(time(if splits { chunk.weight_gradient } else { 0.0 })),
    };
    let mut program = StepProgram {
        micro_batches: pipeline.micro_batches,
        chunks: pipeline.devices[0].chunks.len(),
        hop: HopTime { transfer: time(pipeline.hop.transfer), latency: time(pipeline.hop.latency) },
        ..StepProgram::of(pipeline.schedule)
    };
    for run in pipeline.devices {
        let first = program.kinds.len();
        program.kinds.extend(run.chunks.iter().map(work));
        let chunks: Vec<usize> = (first..program.kinds.len()).collect();
        let gradients = vec![Gradients::default(); chunks.len()];
        let device = DeviceWork { chunks, gradients, ..DeviceWork::default() };
        program.devices.extend(std::iter::repeat_n(device, run.count as usize));
    }
    let timeline = simulate_step(&program).unwrap();
    let ends = (0..pipeline.devices[0].count).map(|device| timeline.computed(device as usize));
    ends.max().unwrap().as_f64() * 1e-6
}

/// Forward 1 to 2 ms, backward 1 to 4 times as long, a third to a half of it weight gradients.
fn stage(draw: &mut Draw) -> StageTime {
    let forward = draw.factor();
    let backward = forward * (draw.factor() * 2.0 - 1.0 + draw.below(2) as f64);
    StageTime { forward, backward, weight_gradient: backward * draw.factor() / 4.0 + backward / 12.0 }
}

fn hop(draw: &mut Draw, most: f64) -> Hop {
    let seconds = if draw.below(3) == 0 { 0.0 } else { draw.below(1000) as f64 / 1000.0 * most };
    Hop { transfer: seconds * 0.8, latency: seconds * 0.2 }
}

/// Runs of devices: all alike, ends of their own, or all of their own.
fn devices(draw: &mut Draw, p: u64) -> Vec<Devices> {
    let one = |draw: &mut Draw, count| Devices::of(stage(draw), count);
    match draw.below(4) {
        0 => vec![one(draw, p)],
        1 if p > 2 => vec![one(draw, 1), one(draw, p - 2), one(draw, 1)],
        2 if p > 3 => {
            let first = 1 + draw.below(p - 2);
            vec![one(draw, first), one(draw, p - first)]
        }
        _ => (0..p).map(|_| one(draw, 1)).collect(),
    }
}

fn agree(schedule: cutplane_sim::estimate::PipelineSchedule, seed: u64, cases: u64, most_hop: f64) {
    let mut draw = Draw::new(seed);
    let mut worst = (0.0, String::new());
    let mut over = 0;
    for _ in 0..cases {
        let p = 2 + draw.below(15);
        let devices = devices(&mut draw, p);
        let micro_batches = 1 + draw.below(100);
        let pipeline = Pipeline {
            schedule,
            devices: &devices,
            hop: hop(&mut draw, most_hop),
            micro_batches,
            overlap_slowdown: 1.0,
        };
        let apart = apart(&pipeline);
        over += u64::from(apart > 0.01);
        if apart > worst.0 {
            worst = (
                apart,
                format!(
                    "{} on {p} devices: closed {} engine {} {pipeline:?}",
                    apart,
                    pipeline.end(0),
                    engine(&pipeline)
                ),
            );
        }
    }
    assert!(worst.0 < 0.01, "{over} of {cases} above 1%, worst {}", worst.1);
}

#[test]
fn vanilla_agrees_within_one_per_cent() {
    agree(Vanilla, 20, 300, 0.5);
}

#[test]
fn fill_drain_agrees_within_one_per_cent() {
    agree(FillDrain, 21, 1000, 0.5);
}

#[test]
fn one_forward_one_backward_agrees_within_one_per_cent() {
    agree(OneForwardOneBackward, 22, 3000, 0.3);
}

#[test]
fn zero_bubble_agrees_within_one_per_cent() {
    agree(ZeroBubble, 23, 3000, 0.3);
}

/// Chunks that are alike but for the first and the last of the model.
fn regular(draw: &mut Draw, p: u64, v: usize) -> Vec<Devices> {
    let inner = stage(draw);
    let near = |draw: &mut Draw| {
        let factor = 0.5 + draw.factor() / 2.0 * (1 + draw.below(2)) as f64;
        StageTime {
            forward: inner.forward * factor,
            backward: inner.backward * factor,
            weight_gradient: inner.weight_gradient * factor,
        }
    };
    let (first, last) = (near(draw), near(draw));
    let run = |chunks: Vec<StageTime>, count| Devices { chunks, count, ..Devices::default() };
    let mut ends = [vec![inner; v], vec![inner; v]];
    ends[0][0] = first;
    ends[1][v - 1] = last;
    let [front, back] = ends;
    let mut runs = vec![run(front, 1), run(vec![inner; v], p - 2), run(back, 1)];
    runs.retain(|run| run.count > 0);
    runs
}

#[test]
fn interleaved_agrees_within_one_per_cent() {
    let mut draw = Draw::new(24);
    let mut worst = (0.0, String::new());
    let mut over = 0;
    for case in 0..2000 {
        let p = 2 + draw.below(11);
        let v = 2 + draw.below(4) as usize;
        let chunk = |draw: &mut Draw| (0..v).map(|_| stage(draw)).collect::<Vec<_>>();
        let devices: Vec<Devices> = match case % 4 {
            0 => (0..p).map(|_| Devices { chunks: chunk(&mut draw), count: 1, ..Devices::default() }).collect(),
            1 => vec![Devices { chunks: vec![stage(&mut draw); v], count: p, ..Devices::default() }],
            _ => regular(&mut draw, p, v),
        };
        let micro_batches = p * (1 + draw.below(8));
        let hop = hop(&mut draw, 0.4);
        let pipeline = Pipeline { schedule: Interleaved, devices: &devices, hop, micro_batches, overlap_slowdown: 1.0 };
        let apart = apart(&pipeline);
        over += u64::from(apart > 0.01);
        if apart > worst.0 {
            worst = (
                apart,
                format!(
                    "{} on {p} devices: closed {} engine {} {pipeline:?}",
                    apart,
                    pipeline.end(0),
                    engine(&pipeline)
                ),
            );
        }
    }
    assert!(worst.0 < 0.01, "{over} above 1%, worst {}", worst.1);
}
