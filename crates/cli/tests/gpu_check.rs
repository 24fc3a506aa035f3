//! The check list of a card, rehearsed on cores: its logic is the same, its models are tiny.
#![cfg(feature = "runtime")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cutplane_record::{Source, read_measurements};

fn rehearse(out: &Path, arguments: &[&str]) -> Output {
    let profile = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cpu-core-x2.toml");
    Command::new(env!("CARGO_BIN_EXE_cutplane"))
        .args(["gpu-check", "--rehearse", "--out"])
        .arg(out)
        .arg("--profile")
        .arg(profile)
        .args(arguments)
        .output()
        .expect("the tool starts")
}

fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_whole_list_runs_and_leaves_its_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("results");
    let output = rehearse(&out, &["--only", "a,b,c", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let items = answer["items"].as_array().expect("a list");
    assert!(items.len() == 3 && items.iter().all(|item| item["passed"] == true), "{answer}");
    let cases = |item: usize| items[item]["cases"].as_array().expect("a list").len();
    assert_eq!(text(&out, "correctness.csv").lines().count(), 1 + cases(0));
    assert_eq!(text(&out, "rates.csv").lines().count(), cases(1), "one case is the profile");
    let records = read_measurements(&out.join("records.csv")).expect("readable records");
    // Two predictions and a measurement of each case.
    assert_eq!(records.len(), 3 * cases(2));
    assert_eq!(records.iter().filter(|row| row.source == Source::Measured && row.n > 0).count(), cases(2));
    for name in ["summary.txt", "summary.json", "machine.json", "profile.toml"] {
        assert!(!text(&out, name).is_empty(), "{name}");
    }
    // A second call finds everything done.
    let again = rehearse(&out, &["--only", "a,b,c"]);
    assert!(again.status.success());
    assert_eq!(read_measurements(&out.join("records.csv")).expect("readable").len(), records.len());
}

#[test]
fn a_list_without_time_says_what_it_skipped() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = rehearse(folder.path(), &["--only", "a", "--minutes", "0.001"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("0 done, 0 failed"), "{told}");
}

#[test]
fn a_failed_case_is_recorded_and_the_list_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    // A worker that died in its first case leaves this line behind.
    let line = r#"{"case":"gpt-nano single f32","state":"begun","seconds":0.0,"problem":null}"#;
    std::fs::write(folder.path().join("journal-a.jsonl"), format!("{line}\n")).expect("writable");
    let output = rehearse(folder.path(), &["--only", "a"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("7 done, 1 failed") && told.contains("the process ended during this case"), "{told}");
}
