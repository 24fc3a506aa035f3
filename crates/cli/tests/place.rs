//! `cutplane place`: the answer as data and as text, the file, and refusals.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const CHAIN: &str = r#"{"maxSizePerFPGA": 10.0, "maxFPGAs": 2, "maxCPUs": 1, "nodes": [
  {"id": 10, "supportedOnFpga": true, "cpuLatency": 50, "fpgaLatency": 4, "size": 6},
  {"id": 20, "supportedOnFpga": true, "cpuLatency": 50, "fpgaLatency": 3, "size": 6},
  {"id": 30, "supportedOnFpga": true, "cpuLatency": 0, "fpgaLatency": 3, "size": 1}],
 "edges": [{"sourceId": 10, "destId": 20, "cost": 1}, {"sourceId": 20, "destId": 30, "cost": 1}]}"#;

fn place(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cutplane"))
        .arg("place")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the tool starts")
}

fn folder(workload: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("chain.json"), workload).expect("writable");
    folder
}

#[test]
fn json_has_all_that_was_promised() {
    let folder = folder(CHAIN);
    let arguments = ["chain.json", "--json", "--contiguous", "--out", "answer.json"];
    let output = place(folder.path(), &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    // 10 alone, sending: 4 + 1; 20 with both transfers and 30 on the CPU: 3 + 1 + 1.
    assert_eq!((&answer["objective"], &answer["bound"]), (&5.0.into(), &5.0.into()));
    assert_eq!((&answer["stop_reason"], &answer["objective_kind"]), (&"proven-optimal".into(), &"throughput".into()));
    assert_eq!((&answer["assignment"]["30"], answer["devices"].as_array().map(Vec::len)), (&2.into(), Some(3)));
    assert_eq!(answer["devices"][2]["kind"], "cpu");
    for key in ["gap", "seconds", "searcher", "contiguous", "latency", "max_load", "seed"] {
        assert!(!answer[key].is_null(), "no {key}");
    }
    let file = std::fs::read_to_string(folder.path().join("answer.json")).expect("written");
    assert_eq!(serde_json::from_str::<Value>(&file).expect("JSON")["assignment"], answer["assignment"]);
}

#[test]
fn latency_is_asked_for_or_told_by_the_name() {
    let folder = folder(CHAIN);
    let named = folder.path().join("latency-inputs");
    std::fs::create_dir(&named).expect("writable");
    std::fs::write(named.join("w.json"), CHAIN).expect("writable");
    for arguments in [&["chain.json", "--objective", "latency"][..], &["latency-inputs/w.json"]] {
        let output = place(folder.path(), arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // 4 + 1 to send, 1 + 3 + 1 for node 20, nothing on the CPU.
        assert!(text.contains("latency 10.000000") && text.lines().count() == 5, "{text}");
    }
}

#[test]
fn refusals_have_a_message_and_an_exit_code() {
    let tight = CHAIN.replace(r#""maxCPUs": 1"#, r#""maxCPUs": 0"#).replace(r#""maxFPGAs": 2"#, r#""maxFPGAs": 1"#);
    let folder = folder(&tight);
    let cases: [(&[&str], &str); 4] = [
        (&["chain.json"], "at least 2 accelerators"),
        (&["absent.json"], "cannot read"),
        (&["chain.json", "--gap", "2"], "--gap"),
        (&["chain.json", "--time-limit=-1"], "--time-limit"),
    ];
    for (arguments, word) in cases {
        let output = place(folder.path(), arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(word), "{arguments:?}: {message}");
        assert!(output.status.code() != Some(101), "{arguments:?} panicked");
    }
}

/// A problem that no solver closes soon: sixty nodes of unlike costs on six devices.
#[cfg(target_os = "linux")]
fn hard() -> String {
    let node = |id: u64| {
        let (time, cut) = (3 + id * 7919 % 97, 1 + id * 104_729 % 89);
        let node = format!(
            r#"{{"id": {id}, "supportedOnFpga": true, "cpuLatency": {}, "fpgaLatency": {time}, "size": 1}}"#,
            20 * time
        );
        let targets = [id + 1, id + 3, id + 7].into_iter().filter(|to| *to < 60);
        let edges: Vec<String> =
            targets.map(|to| format!(r#"{{"sourceId": {id}, "destId": {to}, "cost": {cut}}}"#)).collect();
        (node, edges)
    };
    let (nodes, edges): (Vec<String>, Vec<Vec<String>>) = (0..60).map(node).unzip();
    format!(
        r#"{{"maxSizePerFPGA": 100, "maxFPGAs": 6, "maxCPUs": 1, "nodes": [{}], "edges": [{}]}}"#,
        nodes.join(","),
        edges.concat().join(",")
    )
}

/// Whether the process listens for Ctrl-C yet.
#[cfg(target_os = "linux")]
fn listens(process: u32) -> bool {
    const INTERRUPT: u64 = 1 << 1;
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & INTERRUPT != 0)
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_returns_the_incumbent() {
    let folder = folder(&hard());
    let mut process = Command::new(env!("CARGO_BIN_EXE_cutplane"))
        .args(["place", "chain.json", "--gap", "0", "--time-limit", "3600", "--json"])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the tool starts");
    while !listens(process.id()) {
        assert!(process.try_wait().expect("a process").is_none(), "it ended before it could be interrupted");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let sent = Command::new("kill").args(["-INT", &process.id().to_string()]).status().expect("kill is installed");
    assert!(sent.success());
    let output = process.wait_with_output().expect("it ends by itself");
    assert!(output.status.success(), "{}", output.status);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["stop_reason"], "interrupted");
    assert!(
        answer["bound"].as_f64() <= answer["objective"].as_f64() && answer["assignment"]["59"].is_u64(),
        "{answer}"
    );
}
