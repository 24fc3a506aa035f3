//! Schedules of the step engine against the numbers of their papers, on equal stages without messages.

use cutplane_sim::engine::step::PipelineSchedule::{
    FillDrain, Interleaved, OneForwardOneBackward, Vanilla, ZeroBubble,
};
use cutplane_sim::engine::step::{Detail, StepTimeline, simulate_step};
use cutplane_units::Nanos;

use crate::step_support::{Stages, equal};

/// Idle time of the first device over its work.
fn bubble_over_ideal(timeline: &StepTimeline<'_>) -> f64 {
    timeline.makespan().as_f64() / timeline.busy(0).as_f64() - 1.0
}

/// Idle time of the first device over the step.
fn bubble(timeline: &StepTimeline<'_>) -> f64 {
    1.0 - timeline.busy(0).as_f64() / timeline.makespan().as_f64()
}

#[test]
fn vanilla_uses_one_device_at_a_time() {
    for p in 1..=6 {
        let program = equal(Vanilla, p, 1, 5, [100, 200, 0]);
        let timeline = simulate_step(&program).unwrap();
        assert!((bubble(&timeline) - (1.0 - 1.0 / p as f64)).abs() < 1e-12, "{p} devices");
        assert_eq!(timeline.most_in_flight(0), 1);
    }
}

#[test]
fn the_bubble_of_gpipe_is_that_of_its_figure() {
    for (m, expected) in [(3, 2.0 / 5.0), (6, 2.0 / 8.0), (30, 2.0 / 32.0)] {
        for schedule in [FillDrain, OneForwardOneBackward] {
            let program = equal(schedule, 3, 1, m, [100, 100, 0]);
            let timeline = simulate_step(&program).unwrap();
            assert!((bubble(&timeline) - expected).abs() < 1e-12, "{schedule:?} {m}");
        }
    }
}

#[test]
fn fill_drain_and_1f1b_take_m_plus_p_less_one_slots() {
    for (p, m) in [(1, 1), (2, 7), (5, 3), (8, 64), (16, 16)] {
        for schedule in [FillDrain, OneForwardOneBackward] {
            let program = equal(schedule, p, 1, m, [70, 130, 0]);
            let makespan = simulate_step(&program).unwrap().makespan();
            assert_eq!(makespan, Nanos::new((m + p as u64 - 1) * 200), "{schedule:?} {p} {m}");
        }
    }
}

#[test]
fn interleaving_divides_the_bubble_by_the_chunks() {
    // (p - 1) / (v m) of the ideal time: Narayanan et al. 2021, section 2.2.2.
    for (p, m, v, expected) in [(4, 8, 1, 0.375), (4, 8, 2, 0.1875), (8, 32, 1, 0.218_75), (8, 32, 4, 0.054_687_5)] {
        let program = equal(Interleaved, p, v, m, [60, 120, 0]);
        let found = bubble_over_ideal(&simulate_step(&program).unwrap());
        assert!((found - expected).abs() < 1e-12, "{p} devices of {v} chunks, {m}: {found}");
    }
}

#[test]
fn zero_bubble_leaves_what_weight_gradients_cannot_fill() {
    // Qi et al. 2023, table 1: (p - 1) (t_f + t_b - t_w).
    for (p, m, [f, b, w]) in
        [(2, 4, [100, 100, 100]), (4, 8, [100, 100, 100]), (4, 12, [100, 120, 80]), (8, 24, [50, 60, 40])]
    {
        let program = equal(ZeroBubble, p, 1, m, [f, b, w]);
        let makespan = simulate_step(&program).unwrap().makespan();
        let expected = m * (f + b + w) + (p as u64 - 1) * (f + b - w);
        assert_eq!(makespan, Nanos::new(expected), "{p} {m} {f} {b} {w}");
    }
}

#[test]
fn devices_hold_what_their_schedule_lets_them() {
    let (p, m) = (4_u64, 12);
    for device in 0..p {
        let held = |schedule, v| {
            let program = equal(schedule, p as usize, v, m, [100, 150, 50]);
            simulate_step(&program).unwrap().most_in_flight(device as usize)
        };
        assert_eq!(held(FillDrain, 1), m);
        assert_eq!(held(OneForwardOneBackward, 1), p - device, "1F1B, device {device}");
        assert_eq!(held(Interleaved, 3), p * 2 + 2 * (p - device) - 1, "interleaved, device {device}");
        assert!(held(ZeroBubble, 1) <= p + 1, "zero-bubble, device {device}: {}", held(ZeroBubble, 1));
    }
}

#[test]
fn the_steady_rate_is_that_of_the_slowest_stage() {
    // PipeDream (Narayanan et al. 2019, section 3.1): one micro-batch for each time of the slowest stage.
    let stages: Stages = vec![[30, 60, 0], [50, 90, 0], [40, 70, 0], [20, 30, 0]];
    let makespan = |m| {
        let program = crate::step_support::program(OneForwardOneBackward, &stages, m);
        simulate_step(&program).unwrap().makespan().get()
    };
    assert_eq!(makespan(41) - makespan(40), 140);
    assert_eq!(makespan(400) - makespan(40), 360 * 140);
}

#[test]
fn folded_steps_have_all_their_spans() {
    for (schedule, p, v, m) in [
        (OneForwardOneBackward, 4, 1, 200),
        (FillDrain, 4, 1, 200),
        (Interleaved, 4, 2, 200),
        (ZeroBubble, 4, 1, 200),
        (Vanilla, 3, 1, 50),
    ] {
        let program = equal(schedule, p, v, m, [60, 110, 40]);
        let timeline = simulate_step(&program).unwrap();
        assert!(timeline.kept_passes() < timeline.passes() / 2, "{schedule:?}");
        let kinds = if schedule == ZeroBubble { 3 } else { 2 };
        assert_eq!(timeline.passes(), kinds * m * (p * v) as u64, "{schedule:?}");
        for device in 0..p {
            let mut passes: Vec<_> = timeline.spans(device, Detail::Passes);
            passes.retain(|span| span.micro_batch.is_some() && span.end > span.start);
            assert!(passes.windows(2).all(|pair| pair[0].end <= pair[1].start), "{schedule:?}");
            let mut named: Vec<_> =
                passes.iter().map(|span| (format!("{:?}", span.activity), span.chunk, span.micro_batch)).collect();
            named.sort();
            named.dedup();
            assert_eq!(named.len() as u64, kinds * m * v as u64, "{schedule:?}: every pass once");
        }
    }
}

#[test]
fn malformed_programs_are_refused_by_field() {
    let good = equal(OneForwardOneBackward, 2, 1, 2, [10, 20, 0]);
    let refused = |change: fn(&mut cutplane_sim::engine::step::StepProgram)| {
        let mut program = good.clone();
        change(&mut program);
        simulate_step(&program).unwrap_err().field
    };
    assert_eq!(refused(|program| program.devices.clear()), "devices");
    assert_eq!(refused(|program| program.micro_batches = 0), "micro_batches");
    assert_eq!(refused(|program| program.chunks = 2), "chunks, schedule");
    assert_eq!(refused(|program| program.devices[1].chunks[0] = 9), "devices");
    assert_eq!(refused(|program| program.overlap_slowdown = 0.5), "overlap_slowdown");
    assert_eq!(
        refused(|program| {
            program.schedule = Interleaved;
            program.chunks = 2;
            program.micro_batches = 3;
        }),
        "micro_batches, devices"
    );
}
