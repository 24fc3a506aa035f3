//! The main job at its smallest size, through the command line: plan, simulate, run, compare, and interruption.
//!
//! Prices come from `fixtures/cpu-core-x2.toml`, a profile measured once: what is tested here is that everything fits
//! together, not how well it predicts.
#![cfg(feature = "runtime")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cutplane_record::{Source, read_measurements, read_profile, write_profile};
use serde_json::Value;

const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cpu-core-x2.toml");

fn cutplane(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutplane"));
    command.args(arguments).current_dir(folder).env("CUTPLANE_CACHE", folder.join("cache"));
    command
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = cutplane(folder, arguments).arg("--json").output().expect("the tool starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON on standard output")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

#[test]
fn a_plan_is_made_simulated_and_run() {
    let dir = tempfile::tempdir().expect("a folder");
    for model in ["gpt-nano", "bert-nano"] {
        let plan = ["plan", model, "--devices", "cpu:2", "--batch", "8", "--profile", PROFILE, "--out", "plan.json"];
        let planned = json(dir.path(), &plan);
        assert!(planned["gap"].as_f64().expect("a proven gap") <= 1e-3, "{planned}");
        let simulate = ["simulate", "plan.json", "--profile", PROFILE, "--trace", "trace.json"];
        let simulated = json(dir.path(), &simulate);
        assert_eq!(simulated["predicted_step_ns"], planned["predicted_step_ns"]);
        let trace = std::fs::read_to_string(dir.path().join("trace.json")).expect("a trace");
        assert!(serde_json::from_str::<Value>(&trace).expect("JSON")["traceEvents"].is_array());
        let run = json(dir.path(), &["run", "plan.json", "--steps", "30", "--lr", "3e-3"]);
        let losses = numbers(&run["losses"]);
        let uniform = 256f64.ln();
        assert!((losses[0] - uniform).abs() < 0.2, "{model} starts at {}, a uniform guess has {uniform}", losses[0]);
        assert!(losses[29] < losses[0] - 1.0, "{model} does not learn: {losses:?}");
        assert!(run["measured_peak_memory_bytes"].as_u64().expect("bytes") > 1 << 20);
        // The seed decides everything: a second run gives the same numbers, bit for bit.
        let again = json(dir.path(), &["run", "plan.json", "--steps", "30", "--lr", "3e-3"]);
        assert_eq!(run["losses"], again["losses"]);
    }
}

/// One plan of each kind that a name can ask for, on two cores: predicted, run, and training as one device does. The profile
/// has no curve for the bias that stands after a row split; the sum of two values stands in for it.
#[test]
fn executions_are_compared_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let names = "single-m4,tp2,sp2-m2,cp2-recompute,dp2-zero1,dp2-zero2-bucket16,dp2-zero3-m2,dp2-ps,pp2-zb-m4,pp2-v2-m4,\
                 pp2-1f1b-m4-recompute.stages,dp2-recompute.attention";
    let arguments = ["compare", "gpt-nano", "--batch", "8", "--steps", "3", "--profile", PROFILE, "--out", "out"];
    let compared = json(dir.path(), &[&arguments[..], &["--plans", names]].concat());
    let rows = compared["rows"].as_array().expect("rows");
    let shown: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert!(names.split(',').all(|name| shown.contains(&name)), "{shown:?}");
    let losses: Vec<Vec<f64>> = compared["losses"].as_array().expect("losses").iter().map(numbers).collect();
    let same = |plan: &Vec<f64>| plan.iter().zip(&losses[0]).all(|(a, b)| (a - b).abs() <= 1e-5 * b);
    assert!(losses.iter().all(same), "every plan trains as the single device does: {losses:?}");
}

/// Plans that train otherwise than one device does are compared too, without a word on their losses.
#[test]
fn servers_that_take_gradients_as_they_come_and_frozen_layers_are_compared_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let names = "single,dp2-ps-async-m4,dp2-ps-stale1-m4,dp2-frozen2";
    let arguments = ["compare", "gpt-nano", "--batch", "8", "--steps", "3", "--profile", PROFILE, "--out", "out"];
    let compared = json(dir.path(), &[&arguments[..], &["--plans", names]].concat());
    let rows = compared["rows"].as_array().expect("rows");
    for name in names.split(',') {
        let row = rows.iter().find(|row| row["name"] == name).expect("every plan has a row");
        assert!(row["predicted_step_ns"].as_u64() > Some(0) && row["measured_step_ns"].as_u64() > Some(0), "{row}");
    }
}

#[test]
fn a_plan_made_by_name_is_simulated_and_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let name = "tp2xdp2-pp2-async-m2";
    let arguments =
        ["plan", "bert-nano", "--devices", "cpu:8", "--batch", "8", "--profile", PROFILE, "--out", "plan.json"];
    let planned = json(dir.path(), &[&arguments[..], &["--name", name]].concat());
    assert_eq!(
        (planned["plan"]["name"].as_str(), planned["plan"]["schedule"].as_str()),
        (Some(name), Some("async-1f1b"))
    );
    let simulated = json(dir.path(), &["simulate", "plan.json", "--profile", PROFILE, "--trace", "trace.json"]);
    assert_eq!(simulated["predicted_step_ns"], planned["predicted_step_ns"]);
    let losses = numbers(&json(dir.path(), &["run", "plan.json", "--steps", "20", "--lr", "3e-3"])["losses"]);
    assert!(losses[19] < losses[0] - 0.5, "it does not learn: {losses:?}");
    let refused = ["plan", "bert-nano", "--profile", PROFILE, "--name", "tp2-zero1"];
    let refused = cutplane(dir.path(), &refused).output().expect("the tool starts");
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && message.contains("replicas") && message.contains("--help"), "{message}");
}

#[test]
fn a_comparison_leaves_everything_it_promises() {
    let dir = tempfile::tempdir().expect("a folder");
    let arguments = ["compare", "gpt-nano", "--batch", "8", "--steps", "2", "--profile", PROFILE, "--out", "out"];
    let compared = json(dir.path(), &arguments);
    let rows = compared["rows"].as_array().expect("rows");
    assert!(rows.len() >= 8, "{} plans", rows.len());
    assert_eq!(rows.iter().filter(|row| row["chosen"] == true).count(), 1);
    let losses: Vec<Vec<f64>> = compared["losses"].as_array().expect("losses").iter().map(numbers).collect();
    let same = |plan: &Vec<f64>| plan.iter().zip(&losses[0]).all(|(a, b)| (a - b).abs() <= 1e-5 * b);
    assert!(losses.iter().all(same), "every plan trains as the single device does: {losses:?}");
    let out = dir.path().join("out");
    let records = read_measurements(&out.join("records.csv")).expect("readable records");
    assert_eq!(records.len(), 2 * rows.len());
    assert!(records.iter().all(|row| row.n >= 1 && row.median_ns > 0.0 && !row.date.is_empty()));
    for name in ["plan.json", "trace.json", "summary.json"] {
        let text = std::fs::read_to_string(out.join(name)).expect("written");
        serde_json::from_str::<Value>(&text).expect("JSON");
    }
    for figure in ["predicted-against-measured", "breakdown", "memory", "loss"] {
        let png = std::fs::read(out.join(format!("{figure}.png"))).expect("a figure");
        assert!(png.starts_with(b"\x89PNG") && out.join(format!("{figure}.svg")).exists());
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_comparison_keeps_what_it_recorded() {
    let dir = tempfile::tempdir().expect("a folder");
    let arguments = [
        "compare",
        "gpt-nano",
        "--batch",
        "8",
        "--steps",
        "100000",
        "--warm-up",
        "0",
        "--profile",
        PROFILE,
        "--out",
        "out",
    ];
    let mut child =
        cutplane(dir.path(), &arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.expect("text").starts_with("chosen")), "the tool ended early");
    // A step takes some tens of milliseconds; on a crowded machine not every plan may have had its turn by then.
    std::thread::sleep(Duration::from_secs(6));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(1));
    let records = read_measurements(&dir.path().join("out/records.csv")).expect("readable records");
    let measured: Vec<_> = records.iter().filter(|row| row.source == Source::Measured).collect();
    assert_eq!(2 * measured.len(), records.len());
    assert!(measured.iter().any(|row| row.n >= 1 && row.median_ns > 0.0));
    assert!(measured.iter().all(|row| (row.n == 0) == row.error.is_some() && row.n < 100_000));
}

#[test]
fn a_device_by_itself_is_planned_from_its_own_profile() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut profile = read_profile(Path::new(PROFILE)).expect("the fixture");
    (profile.messages, profile.all_reduce) = (Vec::new(), Vec::new());
    write_profile(&dir.path().join("alone.toml"), &profile).expect("written");
    let plan =
        ["plan", "gpt-nano", "--devices", "cpu:1", "--batch", "8", "--profile", "alone.toml", "--out", "plan.json"];
    let planned = json(dir.path(), &plan);
    assert!(planned["gap"].as_f64().expect("a proven gap") <= 1e-3, "{planned}");
    json(dir.path(), &["simulate", "plan.json", "--profile", "alone.toml"]);
}
