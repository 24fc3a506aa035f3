//! Devices of this machine through the command line: what is missing is said in one line, with an exit code, without
//! a panic and before anything is computed. On a machine with a usable card the refusals do not come; those tests
//! then say so and end.
#![cfg(feature = "runtime")]

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any refusal should take, on any machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn cutplane(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = Command::new(env!("CARGO_BIN_EXE_cutplane"))
        .args(arguments)
        .current_dir(folder.path())
        .env("CUTPLANE_CACHE", folder.path().join("cache"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let started = Instant::now();
    while child.try_wait().expect("waits").is_none() {
        if started.elapsed() > PATIENCE {
            child.kill().expect("ends");
            panic!("{arguments:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("readable");
    let left = std::fs::read_dir(folder.path()).expect("readable").count();
    assert_eq!(left, 0, "{arguments:?} left something behind");
    output
}

fn has_card() -> bool {
    let usable = cutplane(&["doctor", "--backend", "cuda"]).status.success();
    if usable {
        println!("skipped: this machine has a usable NVIDIA card");
    }
    usable
}

/// The one line on standard error of a refusal.
fn refusal(arguments: &[&str]) -> String {
    let output = cutplane(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    assert_eq!(message.lines().count(), 1, "{arguments:?}: {message}");
    assert!(message.starts_with("error: ") && !message.contains("panicked"), "{arguments:?}: {message}");
    message
}

#[test]
fn the_doctor_is_content_with_cores_and_says_what_it_found() {
    let output = cutplane(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for part in ["cpu    ready", "cuda", "mpi", "nccl", "highs"] {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
    assert!(cutplane(&["doctor", "--require", "cpu", "--backend", "cpu"]).status.success());
}

#[test]
fn the_doctor_answers_in_json() {
    let output = cutplane(&["doctor", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let parts = answer["findings"].as_array().expect("a list").iter().map(|finding| finding["part"].clone());
    assert_eq!(parts.collect::<Vec<_>>(), ["cpu", "cuda", "mpi", "nccl", "highs"]);
    assert!(answer["probe"]["cores"].as_u64().is_some_and(|cores| cores > 0));
    assert!(answer["probe"]["driver"]["state"].is_string());
}

#[test]
fn every_verb_that_computes_refuses_a_missing_card_in_one_line() {
    if has_card() {
        return;
    }
    let why = refusal(&["doctor", "--backend", "cuda"]);
    assert_eq!(refusal(&["doctor", "--require", "cuda", "--json"]), why);
    assert_eq!(refusal(&["compare", "gpt-nano", "--backend", "cuda"]), why);
    assert_eq!(refusal(&["profile", "--backend", "cuda"]), why);
    assert_eq!(refusal(&["gpu-check", "--out", "results"]), why);
    for list in ["cuda", "cuda:0", "cuda:0,cuda:0", "cuda:0x4", "cuda:0,cpu:2"] {
        let line = refusal(&["compare", "gpt-nano", "--devices", list]);
        assert!(line.contains("NVIDIA") || line.contains("cuda"), "{list}: {line}");
        assert_eq!(refusal(&["profile", "--devices", list]), line);
    }
}

#[test]
fn a_list_that_cannot_be_read_says_what_can() {
    for (list, word) in [("cuda:y", "'y'"), ("cuda:0x", "''"), ("cpu:2,abacus", "abacus"), ("cuda:0,,cpu:1", "''")] {
        let line = refusal(&["compare", "gpt-nano", "--devices", list]);
        assert!(line.contains(word) && line.contains("cuda:CARDxRANKS"), "{list}: {line}");
    }
}

#[test]
fn contradictions_are_refused() {
    let line = refusal(&["compare", "gpt-nano", "--backend", "cuda", "--devices", "cpu:2"]);
    assert!(line.contains("contradicts"), "{line}");
    let line = refusal(&["profile", "--backend", "cpu", "--devices", "cuda:0"]);
    assert!(line.contains("contradicts"), "{line}");
}

/// A plan for cards of a catalogue runs on cores when it is told to.
#[test]
fn a_plan_for_other_devices_runs_where_it_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_cutplane")).args(arguments).current_dir(folder.path()).output();
        output.expect("the tool starts")
    };
    let made = run(&["plan", "gpt-nano", "--devices", "a100-80gb:2", "--batch", "4", "--out", "plan.json"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let refused = run(&["run", "plan.json", "--steps", "1"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--backend cpu"), "{refused:?}");
    for place in [["--backend", "cpu"], ["--devices", "cpu:2"]] {
        let done = run(&[&["run", "plan.json", "--steps", "1", "--json"][..], &place].concat());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let answer: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        assert!(answer["losses"][0].as_f64().is_some_and(f64::is_finite));
    }
    let wrong = run(&["run", "plan.json", "--steps", "1", "--devices", "cpu:3"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("has 3"), "{wrong:?}");
}
