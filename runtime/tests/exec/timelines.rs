//! Measured timelines are whole, and join with any other of the program.

use std::collections::BTreeSet;

use cutplane_plan::{Action, Optimizer, Schedule, state_bytes};
use cutplane_record::{Comparison, Source, Timeline};
use cutplane_runtime::exec::Run;
use cutplane_units::{Bytes, Nanos};

use crate::plans::{Cut, cut, options, program, subject};

#[test]
fn every_instruction_has_one_span_and_spans_of_a_rank_follow_each_other() {
    let subject = subject("gpt-nano");
    let cut = cut("dp2-pp2-1f1b-m2", 2, 2, 2, Schedule::OneFOneB);
    let program = program(&subject, cut, Optimizer::AdamW);
    let options = options(Optimizer::AdamW);
    let mut run =
        Run::start(subject.model.clone(), program.clone(), subject.batches.clone(), &options).expect("starts");
    for step in 0..2 {
        let report = run.step().expect("a step");
        let timeline = &report.timeline;
        assert_eq!((report.step, report.step_time), (step, timeline.makespan()));
        let ids: BTreeSet<_> = timeline.spans.iter().map(|span| span.instruction).collect();
        assert_eq!((ids.len(), timeline.spans.len()), (program.instruction_count(), program.instruction_count()));
        for rank in &program.ranks {
            let spans: Vec<_> = timeline.rank_spans(rank.rank).collect();
            let order: Vec<_> = rank.instructions.iter().map(|instruction| instruction.id).collect();
            assert_eq!(spans.iter().map(|span| span.instruction).collect::<Vec<_>>(), order, "program order");
            assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
            for (span, instruction) in spans.iter().zip(&rank.instructions) {
                let waits = matches!(instruction.action, Action::Recv { .. } | Action::AllReduce { .. });
                assert!(span.start <= span.end && span.waited <= span.duration());
                assert!(waits || span.waited == Nanos::ZERO, "only messages wait: {instruction:?}");
            }
        }
        let predicted = Timeline { source: Source::Predicted, ..timeline.clone() };
        let joined = Comparison::join(&program, &predicted, timeline).expect("joins");
        assert_eq!(joined.instructions.len(), program.instruction_count());
    }
}

#[test]
fn a_message_is_received_after_it_was_sent() {
    let subject = subject("gpt-nano");
    let cut = cut("pp3-1f1b-m4", 3, 1, 4, Schedule::OneFOneB);
    let program = program(&subject, cut, Optimizer::Sgd);
    let options = options(Optimizer::Sgd);
    let mut run =
        Run::start(subject.model.clone(), program.clone(), subject.batches.clone(), &options).expect("starts");
    let timeline = run.step().expect("a step").timeline;
    let span_of = |wanted: Action| {
        let all = program.ranks.iter().flat_map(|rank| &rank.instructions);
        let id = all.filter(|instruction| instruction.action == wanted).map(|instruction| instruction.id).next();
        *timeline.spans.iter().find(|span| Some(span.instruction) == id).expect("every instruction has a span")
    };
    for index in 0..program.messages.len() {
        let message = cutplane_plan::MessageId(index as u32);
        let (sent, received) = (span_of(Action::Send { message }), span_of(Action::Recv { message }));
        assert!(received.end > sent.start, "{message}: the clock of all ranks is one");
    }
}

#[test]
fn several_runs_take_turns() {
    let subject = subject("gpt-nano");
    let cuts = [cut("dp2", 1, 2, 1, Schedule::FillDrain), cut("pp2", 2, 1, 2, Schedule::OneFOneB)];
    let options = options(Optimizer::Sgd);
    let start = |cut| {
        let program = program(&subject, cut, Optimizer::Sgd);
        Run::start(subject.model.clone(), program, subject.batches.clone(), &options).expect("starts")
    };
    let mut runs = cuts.map(start);
    for _ in 0..3 {
        let [first, second] = &mut runs;
        let (a, b) = (first.step().expect("a step").loss, second.step().expect("a step").loss);
        assert!((a - b).abs() <= 1e-5 * b, "{a} and {b}");
    }
}

/// Peak memory of every rank in each of four steps.
fn peaks(cut: Cut) -> Vec<Vec<Bytes>> {
    let subject = subject("gpt-nano");
    let program = program(&subject, cut, Optimizer::AdamW);
    let options = options(Optimizer::AdamW);
    let mut run =
        Run::start(subject.model.clone(), program.clone(), subject.batches.clone(), &options).expect("starts");
    let steps: Vec<Vec<Bytes>> = (0..4).map(|_| run.step().expect("a step").timeline.peak_memory).collect();
    for (rank, peak) in program.ranks.iter().zip(&steps[3]) {
        let params = program.segments[rank.stage].params.iter().copied();
        let state = state_bytes(&subject.model, params, Optimizer::AdamW);
        // Buffers under 1 KiB, such as biases, are not counted.
        assert!(peak.as_f64() > 0.9 * state.as_f64(), "{peak} against a state of {state}");
    }
    steps
}

#[test]
fn peak_memory_is_that_of_the_rank_and_messages_do_not_leak_into_it() {
    let single = peaks(cut("single", 1, 1, 1, Schedule::FillDrain));
    let pipeline = peaks(cut("pp2-1f1b-m4", 2, 1, 4, Schedule::OneFOneB));
    for rank in 0..2 {
        assert!(pipeline[3][rank] < single[3][0], "half the model on each: {pipeline:?}, {single:?}");
        // What a rank sends it frees; what it receives it frees later: both accounts end where they began.
        let (second, last) = (pipeline[1][rank].as_f64(), pipeline[3][rank].as_f64());
        assert!((last / second - 1.0).abs() < 0.02, "rank {rank}: {pipeline:?}");
    }
}
