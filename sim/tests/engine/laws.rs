//! What holds for every timeline.

use cutplane_graph::{DeviceKind, Pass};
use cutplane_plan::{Action, Program, Rank, Schedule};
use cutplane_record::Timeline;
use cutplane_units::Nanos;
use proptest::prelude::*;

use crate::fake::{Fake, cluster, run_batch};

#[derive(Clone, Debug)]
struct Case {
    gpu: bool,
    /// Devices by host; all hosts alike.
    hosts: usize,
    replicas: usize,
    stages: usize,
    micro_batches: u64,
    batch: u64,
    schedule: Schedule,
    /// Forward time by operator.
    forward: Vec<u64>,
    fixed: [u64; 5],
    contention: f64,
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (any::<bool>(), 1usize..3, 1usize..3, 1usize..5, 1u64..6, 1u64..20, any::<bool>());
    let times = (prop::collection::vec(0u64..500, 4), prop::array::uniform5(0u64..50), 0u8..4);
    (shape, times).prop_map(|((gpu, hosts, replicas, stages, micro_batches, batch, flush), (forward, fixed, slow))| {
        Case {
            gpu,
            hosts,
            replicas,
            stages,
            micro_batches,
            batch,
            schedule: if flush { Schedule::OneFOneB } else { Schedule::FillDrain },
            forward,
            fixed,
            contention: f64::from(slow) * 0.3,
        }
    })
}

fn simulate(case: &Case) -> (Program, Timeline) {
    let kind = if case.gpu { DeviceKind::Gpu } else { DeviceKind::Cpu };
    let total = case.stages * case.replicas;
    let hosts: Vec<usize> =
        (0..case.hosts).map(|host| total * (host + 1) / case.hosts - total * host / case.hosts).collect();
    let forward = case.forward.clone();
    let op = move |op: usize, pass, _: &str| forward[op] * if pass == Pass::Forward { 1 } else { 2 };
    let [send, recv, latency, all_reduce, optimizer] = case.fixed;
    let cost = Fake {
        op: Box::new(op),
        send,
        recv,
        latency,
        wire: true,
        all_reduce,
        optimizer,
        contention: case.contention,
        ..Fake::default()
    };
    run_batch(&cluster(kind, &hosts), case.stages, case.micro_batches, case.batch, case.schedule, &cost)
}

/// One micro-batch through all stages and back, alone, without the wires.
fn critical_path(case: &Case) -> u64 {
    let [send, recv, latency, ..] = case.fixed;
    let work: u64 = case.forward[..case.stages].iter().map(|forward| 3 * forward).sum();
    work + 2 * (case.stages as u64 - 1) * (send + recv + latency)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_timeline_is_lawful(case in cases()) {
        let (program, timeline) = simulate(&case);
        prop_assert_eq!(&simulate(&case).1, &timeline, "equal inputs give equal timelines");
        prop_assert_eq!(timeline.spans.len(), program.instruction_count());
        prop_assert!(timeline.makespan() >= Nanos::new(critical_path(&case)));
        for rank in &program.ranks {
            let spans: Vec<_> = timeline.rank_spans(rank.rank).collect();
            prop_assert!(spans.iter().all(|span| span.waited <= span.duration()));
            let parts = timeline.breakdown(&program, rank.rank);
            if !case.gpu {
                prop_assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
                let total: Nanos = parts.parts().iter().map(|(_, time)| *time).sum();
                prop_assert_eq!(total, timeline.makespan());
            }
            // Contention stretches work, never shortens it.
            let alone = case.forward[rank.stage] * case.micro_batches;
            prop_assert!(parts.forward >= Nanos::new(alone) && parts.backward >= Nanos::new(2 * alone));
            prop_assert!(parts.forward + parts.backward <= timeline.makespan());
        }
        check_order(&program, &timeline)?;
    }
}

/// Dependencies end before their dependents do their work, and no message is taken before it was handed over.
fn check_order(program: &Program, timeline: &Timeline) -> Result<(), TestCaseError> {
    let span_of = |rank: Rank, id| timeline.rank_spans(rank).find(|span| span.instruction == id).unwrap();
    let mut sent = vec![Nanos::ZERO; program.messages.len()];
    let mut taken = vec![Nanos::ZERO; program.messages.len()];
    for rank in &program.ranks {
        for instruction in &rank.instructions {
            let span = span_of(rank.rank, instruction.id);
            for need in &instruction.depends_on {
                prop_assert!(span_of(rank.rank, *need).end <= span.start);
            }
            match instruction.action {
                Action::Send { message } => sent[message.index()] = span.end,
                Action::Recv { message } => taken[message.index()] = span.start + span.waited,
                _ => {}
            }
        }
    }
    prop_assert!(sent.iter().zip(&taken).all(|(sent, taken)| sent <= taken));
    Ok(())
}
