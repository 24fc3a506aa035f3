//! Pipelines with equal stages and free communication: `p` stages, `m` micro-batches, forward `f`, backward `b`.

use cutplane_graph::{DeviceKind, Pass};
use cutplane_plan::{Rank, Schedule};
use cutplane_units::Nanos;
use proptest::prelude::*;

use crate::fake::{Fake, cluster, run};

fn equal(forward: u64, backward: u64) -> Fake {
    let op = move |_, pass, _: &str| if pass == Pass::Forward { forward } else { backward };
    Fake { op: Box::new(op), ..Fake::default() }
}

/// Share of the step in which the first rank idles.
fn bubble(p: usize, m: u64, schedule: Schedule) -> f64 {
    let (program, timeline) = run(&cluster(DeviceKind::Cpu, &[p]), p, m, schedule, &Fake::default());
    1.0 - timeline.compute_share(&program, Rank(0))
}

#[test]
fn the_bubble_shrinks_with_micro_batches() {
    for schedule in [Schedule::FillDrain, Schedule::OneFOneB] {
        for (m, expected) in [(3, 2.0 / 5.0), (6, 2.0 / 8.0), (30, 2.0 / 32.0)] {
            assert!((bubble(3, m, schedule) - expected).abs() < 1e-12, "m = {m}");
        }
    }
}

#[test]
fn without_micro_batches_one_device_works_at_a_time() {
    for p in 1..=6 {
        assert!((1.0 - bubble(p, 1, Schedule::FillDrain) - 1.0 / p as f64).abs() < 1e-12, "p = {p}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn makespan_and_bubble(p in 1usize..7, m in 1u64..13, f in 1u64..1000, b in 1u64..1000, gpu: bool) {
        let kind = if gpu { DeviceKind::Gpu } else { DeviceKind::Cpu };
        for schedule in [Schedule::FillDrain, Schedule::OneFOneB] {
            let (program, timeline) = run(&cluster(kind, &[p]), p, m, schedule, &equal(f, b));
            let slots = m + p as u64 - 1;
            prop_assert_eq!(timeline.makespan(), Nanos::new(slots * (f + b)));
            for rank in 0..p {
                let share = timeline.compute_share(&program, Rank(rank as u32));
                prop_assert!((share - m as f64 / slots as f64).abs() < 1e-12);
            }
        }
    }
}
