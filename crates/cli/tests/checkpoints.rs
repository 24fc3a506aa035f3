//! Stopping and going on through the command line: under the same plan, under another, and without a lost rank.
#![cfg(feature = "runtime")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cpu-core-x2.toml");

fn cutplane(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutplane"));
    let arguments = arguments.split_whitespace();
    command.args(arguments).arg("--json").current_dir(folder).env("CUTPLANE_CACHE", folder.join("cache"));
    command
}

fn json(folder: &Path, arguments: &str) -> Value {
    let output = cutplane(folder, arguments).output().expect("the tool starts");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON on standard output")
}

fn refusal(folder: &Path, arguments: &str) -> String {
    let output = cutplane(folder, arguments).output().expect("the tool starts");
    assert!(!output.status.success(), "{arguments} is refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn plan(folder: &Path, devices: &str, file: &str) {
    json(folder, &format!("plan gpt-nano --devices {devices} --batch 8 --profile {PROFILE} --out {file}"));
}

fn losses(value: &Value) -> Vec<f64> {
    value["losses"].as_array().expect("a list").iter().map(|loss| loss.as_f64().expect("a number")).collect()
}

#[test]
fn a_run_goes_on_from_its_checkpoint_under_any_plan() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path();
    plan(folder, "cpu:2", "two.json");
    plan(folder, "cpu:1", "one.json");
    let whole = losses(&json(folder, "run two.json --steps 6"));
    let first =
        losses(&json(folder, "run two.json --steps 4 --checkpoint c --checkpoint-every 2 --keep-checkpoints 5"));
    assert_eq!(first[..], whole[..4]);
    let again = json(folder, "run two.json --steps 6 --resume c");
    assert_eq!((&losses(&again)[..], &again["first_step"]), (&whole[4..], &Value::from(4)), "to the last bit");
    let older = losses(&json(folder, "run two.json --steps 6 --resume c/step-00000002.json --seed 99"));
    assert_eq!(older[..], whole[2..], "the seed is that of the checkpoint");
    let other = losses(&json(folder, "run one.json --steps 6 --resume c"));
    assert!(other.iter().zip(&whole[4..]).all(|(a, b)| (a - b).abs() < 1e-4 * b), "{other:?} {whole:?}");

    let done = refusal(folder, "run two.json --steps 4 --resume c");
    assert!(done.contains("has 4 steps already") && done.contains("--steps 5"), "{done}");
    json(folder, &format!("plan bert-nano --devices cpu:1 --batch 8 --profile {PROFILE} --out bert.json"));
    let model = refusal(folder, "run bert.json --steps 6 --resume c");
    assert!(model.contains("of the model gpt-nano"), "{model}");
    let nothing = refusal(folder, "run two.json --resume .");
    assert!(nothing.contains("holds no checkpoint"), "{nothing}");
}

#[test]
fn a_lost_rank_is_replaced_by_a_plan_without_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path();
    plan(folder, "cpu:2", "two.json");
    let whole = losses(&json(folder, "run two.json --steps 7"));
    let elastic = "run two.json --steps 7 --checkpoint c --checkpoint-every 3 --timeout 2 --elastic --rehearse";
    for (how, word) in [("panic:1@5", "panicked"), ("hang:1@5", "does not answer")] {
        let run = json(folder, &format!("{elastic} {how}"));
        let changes = run["elastic"].as_array().expect("a list");
        assert_eq!(changes.len(), 1, "{run}");
        let change = &changes[0];
        assert_eq!((&change["failed_step"], &change["resumed_step"]), (&Value::from(5), &Value::from(3)));
        assert_eq!(change["lost_device"], "cpu:1");
        assert!(change["error"].as_str().expect("text").contains(word), "{change}");
        let all = losses(&run);
        assert_eq!(all.len(), 7);
        assert!(all.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-4 * b), "{all:?} {whole:?}");
        std::fs::remove_dir_all(folder.join("c")).expect("written");
    }
    let rigid = refusal(folder, "run two.json --steps 7 --timeout 2 --rehearse panic:1@2");
    assert!(rigid.contains("rank 1: instruction i") && rigid.contains("panicked"), "{rigid}");
    let where_from = refusal(folder, "run two.json --elastic");
    assert!(where_from.contains("--checkpoint FOLDER"), "{where_from}");
    plan(folder, "cpu:1", "one.json");
    let alone = refusal(folder, "run one.json --steps 3 --timeout 2 --rehearse hang:0@1");
    assert!(alone.contains("rank 0: does not answer; it is in instruction i"), "{alone}");
    json(folder, "run two.json --steps 3 --checkpoint c");
    let joined = json(folder, "run two.json --steps 5 --resume c --checkpoint d --elastic --devices cpu:1");
    assert!(losses(&joined).iter().zip(&whole[3..]).all(|(a, b)| (a - b).abs() < 1e-4 * b), "{joined}");
}
