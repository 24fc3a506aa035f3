//! Bad input: each case is refused with a message that names file, field and remedy, a non-zero exit code, and nothing
//! half-written.

use std::path::Path;
use std::process::{Command, Output};

fn cutplane(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cutplane"))
        .args(arguments)
        .current_dir(folder)
        .env("CUTPLANE_CACHE", folder.join("cache"))
        .output()
        .expect("the tool starts")
}

/// Runs the tool, expects a refusal that says all of `words` and leaves `folder` as it was.
fn refuses(folder: &Path, arguments: &[&str], words: &[&str]) {
    let before = listing(folder);
    let output = cutplane(folder, arguments);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} was accepted: {}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.code().is_some_and(|code| code != 101), "{arguments:?} panicked: {message}");
    for word in words {
        assert!(message.contains(word), "{arguments:?}: no '{word}' in: {message}");
    }
    assert!(message.matches("(os error").count() <= 1, "{arguments:?} tells a cause twice: {message}");
    assert_eq!(listing(folder), before, "{arguments:?} left something behind");
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("writable");
}

#[test]
fn a_wrong_path_names_the_file_and_the_known_models() {
    let dir = folder();
    refuses(dir.path(), &["plan", "no/such/config.json", "--devices", "a100-80gb:2"], &["no/such/config.json"]);
    refuses(dir.path(), &["models", "gpt-17"], &["gpt-17", "gpt2"]);
    refuses(dir.path(), &["simulate", "absent.json"], &["absent.json", "cannot read"]);
}

#[test]
fn a_truncated_or_alien_config_names_file_and_field() {
    let dir = folder();
    write(dir.path(), "config.json", r#"{"model_type": "gpt2", "n_embd": 76"#);
    refuses(dir.path(), &["models", "config.json"], &["config.json"]);
    write(dir.path(), "config.json", r#"{"model_type": "toaster"}"#);
    refuses(dir.path(), &["models", "config.json"], &["config.json", "model_type", "toaster", "gpt2", "bert"]);
    write(dir.path(), "config.json", r#"{"model_type": "gpt2", "n_layer": "twelve"}"#);
    refuses(dir.path(), &["models", "config.json"], &["config.json", "n_layer"]);
}

#[test]
fn an_impossible_batch_cluster_or_model_says_what_would_do() {
    let dir = folder();
    let plan = |devices, batch| ["plan", "gpt2", "--devices", devices, "--batch", batch];
    refuses(dir.path(), &plan("a100-80gb:0", "8"), &["0"]);
    refuses(dir.path(), &plan("cpu:0", "8"), &["0"]);
    refuses(dir.path(), &plan("abacus:2", "8"), &["abacus", "cpu:"]);
    refuses(dir.path(), &plan("a100-80gb:2", "0"), &["batch"]);
    refuses(
        dir.path(),
        &["plan", "gpt2-xl", "--layers", "400", "--devices", "t4:2", "--batch", "2"],
        &["GiB", "memory", "devices like"],
    );
}

#[test]
fn a_plan_of_another_version_or_a_damaged_one_is_refused() {
    let dir = folder();
    let made =
        cutplane(dir.path(), &["plan", "gpt2", "--devices", "a100-80gb:2", "--batch", "8", "--out", "plan.json"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = std::fs::read_to_string(dir.path().join("plan.json")).expect("written");
    write(dir.path(), "v9.json", &text.replacen("\"version\": 2", "\"version\": 9", 1));
    refuses(dir.path(), &["simulate", "v9.json"], &["v9.json", "version", "9"]);
    write(dir.path(), "half.json", &text[..text.len() / 2]);
    refuses(dir.path(), &["simulate", "half.json"], &["half.json"]);
    write(dir.path(), "alien.json", "{\"hello\": 1}");
    refuses(dir.path(), &["simulate", "alien.json"], &["alien.json", "format"]);
    write(dir.path(), "batch.json", &text.replacen("\"global_batch\": 8", "\"global_batch\": 7", 1));
    refuses(dir.path(), &["simulate", "batch.json"], &["global_batch", "divide"]);
}

#[test]
fn an_unwritable_folder_is_noticed_before_the_work() {
    let dir = folder();
    write(dir.path(), "file", "not a folder");
    refuses(
        dir.path(),
        &["plan", "gpt2", "--devices", "a100-80gb:2", "--batch", "8", "--out", "file/plan.json"],
        &["file", "cannot write"],
    );
}

#[cfg(feature = "runtime")]
#[test]
fn running_refuses_what_cannot_run_here() {
    let dir = folder();
    let compare = |extra: &[&'static str]| [&["compare", "gpt-nano", "--steps", "1"], extra].concat();
    refuses(dir.path(), &compare(&["--devices", "a100-80gb:2"]), &["A100", "cpu:"]);
    refuses(dir.path(), &compare(&["--devices", "cpu:2", "--data", "absent.txt"]), &["absent.txt"]);
    refuses(dir.path(), &compare(&["--devices", "cpu:2", "--plans", "dp2", "--batch", "3"]), &["3", "dp2"]);
    refuses(dir.path(), &compare(&["--devices", "cpu:2", "--plans", "nonsense"]), &["nonsense", "1f1b"]);
    write(dir.path(), "file", "not a folder");
    refuses(dir.path(), &compare(&["--devices", "cpu:2", "--out", "file/out"]), &["cannot write"]);
    refuses(dir.path(), &["profile", "--out", "file/p.toml"], &["cannot write"]);
    refuses(dir.path(), &["run", "file", "--steps", "1"], &["file"]);
}

#[test]
#[cfg(unix)]
fn a_reader_that_has_gone_is_no_reason_to_panic() {
    let (folder, (reader, writer)) = (folder(), std::io::pipe().unwrap());
    drop(reader);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_cutplane"));
    child.current_dir(folder.path()).args(["models", "--json"]).env_remove("OMPI_COMM_WORLD_SIZE");
    let done = child.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && told.is_empty(), "{told}");
}
