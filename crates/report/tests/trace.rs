//! The trace file, read back.

#![allow(clippy::unwrap_used)]

#[path = "fixture/mod.rs"]
mod fixture;

use std::collections::BTreeMap;

use cutplane_plan::Program;
use cutplane_report::{trace_json, write_trace};
use serde_json::Value;

/// Writes and reads the trace of two timelines.
fn events(program: &Program, devices: usize) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let (predicted, measured) = fixture::pair(program);
    write_trace(&path, program, &fixture::devices(devices), &[&predicted, &measured]).unwrap();
    let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(trace["displayTimeUnit"], "ms");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    trace["traceEvents"].as_array().unwrap().clone()
}

fn of<'e>(events: &'e [Value], phase: &'e str) -> impl Iterator<Item = &'e Value> {
    events.iter().filter(move |event| event["ph"] == phase)
}

#[test]
fn every_instruction_is_one_event_in_each_process() {
    let program = fixture::one_f_one_b();
    let events = events(&program, 2);
    for pid in [1, 2] {
        let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
        for event in of(&events, "X").filter(|event| event["pid"] == pid) {
            if let Some(id) = event["args"]["instruction"].as_u64() {
                *seen.entry(id).or_default() += 1;
            }
        }
        let expected: BTreeMap<u64, usize> = (0..program.instruction_count() as u64).map(|id| (id, 1)).collect();
        assert_eq!(seen, expected, "process {pid}");
    }
}

#[test]
fn times_are_microseconds_and_arguments_tell_the_rest() {
    let program = fixture::one_f_one_b();
    let (predicted, _) = fixture::pair(&program);
    let events = events(&program, 2);
    let span = predicted.spans.iter().find(|span| !span.waited.is_zero()).unwrap();
    let event =
        of(&events, "X").find(|event| event["pid"] == 1 && event["args"]["instruction"] == span.instruction.0).unwrap();
    assert_eq!(event["name"], "recv 0");
    assert_eq!(event["ts"], span.start.as_f64() / 1e3);
    assert_eq!(event["dur"], span.duration().as_f64() / 1e3);
    assert_eq!(event["args"]["waited_us"], span.waited.as_f64() / 1e3);
    assert_eq!(event["args"]["micro_batch"], 0);
    // One sample of 4 positions of width 8 in f32.
    assert_eq!(event["args"]["bytes"], 4 * 8 * 4);
}

#[test]
fn tracks_match_and_are_named() {
    let events = events(&fixture::one_f_one_b(), 2);
    let names = |pid: u64| -> Vec<(u64, String)> {
        let named = of(&events, "M").filter(|e| e["name"] == "thread_name" && e["pid"] == pid);
        named.map(|e| (e["tid"].as_u64().unwrap(), e["args"]["name"].as_str().unwrap().to_owned())).collect()
    };
    assert_eq!(names(1), names(2));
    let labels: Vec<String> = names(1).into_iter().map(|(_, name)| name).collect();
    assert_eq!(labels, ["rank 0 cpu:0 stage 0", "rank 1 cpu:1 stage 1"]);
    let processes: Vec<_> =
        of(&events, "M").filter(|e| e["name"] == "process_name").map(|e| e["args"]["name"].clone()).collect();
    assert_eq!(processes, ["predicted", "measured"]);
}

#[test]
fn an_arrow_leads_from_each_send_to_its_receive() {
    let program = fixture::one_f_one_b();
    let events = events(&program, 2);
    let ends = |phase: &str| -> BTreeMap<String, f64> {
        of(&events, phase).map(|e| (e["id"].as_str().unwrap().to_owned(), e["ts"].as_f64().unwrap())).collect()
    };
    let (starts, finishes) = (ends("s"), ends("f"));
    assert_eq!(starts.len(), 2 * program.messages.len());
    assert_eq!(starts.keys().collect::<Vec<_>>(), finishes.keys().collect::<Vec<_>>());
    assert!(starts.iter().all(|(id, start)| *start <= finishes[id]));
}

#[test]
fn slices_of_a_track_nest() {
    for (program, devices) in
        [(fixture::one_f_one_b(), 2), (fixture::program("grid", 2, 2, 4, cutplane_plan::Schedule::FillDrain), 4)]
    {
        let events = events(&program, devices);
        let mut tracks: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
        for event in of(&events, "X") {
            let key = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
            let start = event["ts"].as_f64().unwrap();
            tracks.entry(key).or_default().push((start, start + event["dur"].as_f64().unwrap()));
        }
        assert_eq!(tracks.len(), 2 * devices);
        for slices in tracks.values() {
            for (a, b) in slices.iter().flat_map(|a| slices.iter().map(move |b| (a, b))) {
                let inside = b.0 >= a.0 - 1e-6 && b.1 <= a.1 + 1e-6;
                let around = a.0 >= b.0 - 1e-6 && a.1 <= b.1 + 1e-6;
                assert!(inside || around || a.1 <= b.0 + 1e-6 || b.1 <= a.0 + 1e-6, "{a:?} cuts {b:?}");
            }
        }
    }
}

#[test]
fn a_prediction_alone_is_a_trace() {
    let program = fixture::one_f_one_b();
    let (predicted, _) = fixture::pair(&program);
    let trace = trace_json(&program, &fixture::devices(2), &[&predicted]).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(events.iter().all(|event| event["pid"] == 1));
}

#[test]
fn streams_that_overlap_get_tracks_in_both_processes() {
    let program = fixture::one_f_one_b();
    let (mut predicted, measured) = fixture::pair(&program);
    let send = program.ranks[0].instructions.iter().find(|i| i.action.label() == "send").unwrap().id;
    predicted.spans.iter_mut().find(|span| span.instruction == send).unwrap().end =
        cutplane_units::Nanos::new(30_000_000);
    let trace = trace_json(&program, &fixture::devices(2), &[&predicted, &measured]).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    for pid in [1, 2] {
        let named = of(events, "M").filter(|e| e["name"] == "thread_name" && e["pid"] == pid);
        let names: Vec<_> = named.map(|e| e["args"]["name"].as_str().unwrap()).collect();
        assert_eq!(names[..3], ["rank 0 cpu:0 stage 0", "rank 0 cpu:0 stage 0 send", "rank 0 cpu:0 stage 0 receive"]);
        assert_eq!(names.len(), 5);
        let sends = of(events, "X").filter(|e| e["pid"] == pid && e["cat"] == "send/recv" && e["tid"] == 2);
        assert_eq!(sends.count(), 4);
    }
}
