//! Programs of the step engine with round numbers.

use cutplane_sim::engine::step::{ChunkWork, DeviceWork, Gradients, Pass, PipelineSchedule, StepProgram};
use cutplane_units::Nanos;

/// Forward, backward and weight-gradient time of each device, ns.
pub(crate) type Stages = Vec<[u64; 3]>;

/// One chunk a device.
pub(crate) fn program(schedule: PipelineSchedule, stages: &Stages, micro_batches: u64) -> StepProgram {
    let pass = |time: u64| Pass::whole(Nanos::new(time));
    let kind = |[forward, backward, weight]: &[u64; 3]| ChunkWork {
        forward: pass(*forward),
        backward: pass(*backward),
        weight_gradient: pass(*weight),
    };
    let device = |at| DeviceWork { chunks: vec![at], gradients: vec![Gradients::default()], ..DeviceWork::default() };
    StepProgram {
        micro_batches,
        kinds: stages.iter().map(kind).collect(),
        devices: (0..stages.len()).map(device).collect(),
        ..StepProgram::of(schedule)
    }
}

/// `p` equal devices of `v` equal chunks.
pub(crate) fn equal(schedule: PipelineSchedule, p: usize, v: usize, m: u64, times: [u64; 3]) -> StepProgram {
    let mut program = program(schedule, &vec![times; p], m);
    program.chunks = v;
    for device in &mut program.devices {
        device.chunks = vec![0; v];
        device.gradients = vec![Gradients::default(); v];
    }
    program
}
