//! A checkpoint of `transformers` and the ONNX file of the same model: planned, run on two cores from their weights, with
//! one loss.
#![cfg(feature = "runtime")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cpu-core-x2.toml");

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../zoo/tests/data/importers/gpt2")
}

fn run(folder: &Path, arguments: &[&str]) -> Result<Value, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutplane"));
    command.args(arguments).arg("--json").current_dir(folder).env("CUTPLANE_CACHE", folder.join("cache"));
    let output = command.output().expect("the tool starts");
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).expect("JSON on standard output"));
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The first loss of a model that is planned on two cores, from the given weights.
fn first_loss(folder: &Path, model: &str, weights: Option<&str>) -> Result<f64, String> {
    let plan = ["plan", model, "--seq", "8", "--devices", "cpu:2", "--batch", "4", "--profile", PROFILE];
    run(folder, &[&plan[..], &["--out", "plan.json"]].concat())?;
    let arguments = ["run", "plan.json", "--steps", "1", "--data", "digits.txt"];
    let weights: Vec<&str> = weights.into_iter().flat_map(|path| ["--weights", path]).collect();
    let report = run(folder, &[&arguments[..], &weights].concat())?;
    Ok(report["losses"][0].as_f64().expect("a loss"))
}

#[test]
fn a_checkpoint_and_its_onnx_file_start_from_one_loss() {
    let dir = tempfile::tempdir().expect("a folder");
    // Tokens are bytes, and the model knows the first 61.
    let digits: String = (0..4000u32).map(|i| char::from(b'0' + (i * i * 7 % 97 % 10) as u8)).collect();
    std::fs::write(dir.path().join("digits.txt"), digits).expect("a text");
    let folder = golden().display().to_string();
    let onnx = golden().join("dynamo-18-eager.onnx").display().to_string();
    let loaded = first_loss(dir.path(), &folder, Some(&folder)).expect("a loss");
    let exported = first_loss(dir.path(), &onnx, Some(&onnx)).expect("a loss");
    assert!((loaded - exported).abs() < 1e-5, "{loaded} from the checkpoint, {exported} from the ONNX file");
    let random = first_loss(dir.path(), &folder, None).expect("a loss");
    assert!((loaded - random).abs() > 1e-2, "{loaded} from the checkpoint, {random} from random weights");
    let refused = first_loss(dir.path(), "gpt-nano", Some(&folder)).expect_err("another model's weights");
    assert!(refused.contains("has the shape") || refused.contains("no tensor"), "{refused}");
}

#[test]
fn an_onnx_file_is_inspected() {
    let dir = tempfile::tempdir().expect("a folder");
    let onnx = golden().join("dynamo-18-eager.onnx").display().to_string();
    let facts = run(dir.path(), &["inspect", &onnx, "--dim", "sequence=5"]).expect("facts");
    assert_eq!((facts["parameters"].as_u64(), facts["layers"].as_u64()), (Some(7824), Some(2)));
    assert_eq!(facts["tokens_per_sample"], 5);
    let open = run(dir.path(), &["inspect", &onnx]).expect_err("no length");
    assert!(open.contains("sequence"), "{open}");
}
