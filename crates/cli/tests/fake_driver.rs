//! Cards on a machine without any: a stand-in for NVIDIA's driver (`runtime/tests/nvrtc/driver.c`) shows one H100.
//!
//! Skipped, with a printed line, where there is no C compiler or the dynamic loader is not Linux's.
#![cfg(feature = "runtime")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds the stand-in as `libcuda.so.1` in `folder`.
fn build_driver(folder: &Path, extra: &[&str]) -> bool {
    let built = cfg!(target_os = "linux")
        && Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(folder.join("libcuda.so.1"))
            .arg(root().join("runtime/tests/nvrtc/driver.c"))
            .args(extra)
            .status()
            .is_ok_and(|status| status.success());
    if !built {
        println!("skipped: no C compiler, or not Linux");
    }
    built
}

/// Runs the tool where the loader finds the stand-in first, and no CUDA toolkit.
fn cutplane(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cutplane"))
        .args(arguments)
        .current_dir(folder)
        .env("LD_LIBRARY_PATH", folder)
        .env("CUDA_PATH", folder)
        .env("CUTPLANE_CACHE", folder.join("cache"))
        .output()
        .expect("the tool starts")
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = cutplane(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_card_is_found_and_described() {
    let folder = tempfile::tempdir().expect("a folder");
    if !build_driver(folder.path(), &[]) {
        return;
    }
    let answer = json(folder.path(), &["doctor", "--json"]);
    let card = &answer["probe"]["cards"][0];
    assert_eq!(answer["probe"]["driver"]["cuda"]["major"], 13);
    assert_eq!((&card["name"], &card["capability"]["major"]), (&"NVIDIA H100 80GB HBM3".into(), &9.into()));
    assert_eq!(card["memory_bytes"].as_u64(), Some(80 << 30));
    // What is missing beyond the card depends on the build; it is one line either way.
    let refused = cutplane(folder.path(), &["compare", "gpt-nano", "--devices", "cuda:0"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), message.lines().count()), (Some(1), 1), "{message}");
    let expected = if cfg!(feature = "cuda") { ["NVRTC", "headers"] } else { ["--features cuda", "--features cuda"] };
    assert!(expected.iter().any(|word| message.contains(word)), "{message}");
}

#[test]
fn plans_are_made_for_its_shares() {
    let folder = tempfile::tempdir().expect("a folder");
    if !build_driver(folder.path(), &[]) {
        return;
    }
    let plan = json(folder.path(), &["plan", "gpt2", "--devices", "cuda:0x2,cpu:1", "--batch", "8", "--json"]);
    let nodes = plan["plan"]["cluster"]["spec"]["nodes"].as_array().expect("a list");
    let devices: Vec<_> = nodes.iter().filter(|node| node["kind"] == "device").map(|node| &node["name"]).collect();
    assert_eq!(devices, ["cuda:0/0", "cuda:0/1", "cpu:0"]);
    let models = &plan["plan"]["cluster"]["spec"]["device_models"];
    assert_eq!(models["H100-SXM-80GB / 2"]["memory_gib"], 40.0);
    assert_eq!(models["H100-SXM-80GB / 2"]["memory_bandwidth_gb_per_s"], 3350.0);
    let refused = cutplane(folder.path(), &["plan", "gpt2", "--devices", "cuda:1", "--batch", "8"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("no card 1") && message.contains("has 1"), "{message}");
}

#[test]
fn an_old_driver_and_a_broken_one_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    if !build_driver(folder.path(), &["-DcuEventElapsedTime_v2=hidden", "-DFAKE_VERSION=12040"]) {
        return;
    }
    let line = |folder: &Path| {
        String::from_utf8_lossy(&cutplane(folder, &["doctor", "--backend", "cuda"]).stderr).into_owned()
    };
    let old = line(folder.path());
    assert!(old.contains("too old") && old.contains("12.4") && old.contains("12.8"), "{old}");
    assert!(build_driver(folder.path(), &["-DFAKE_INIT=34"]));
    let broken = line(folder.path());
    assert!(broken.contains("34") && broken.contains("stub"), "{broken}");
    assert!(build_driver(folder.path(), &["-DFAKE_INIT=100"]));
    let empty = line(folder.path());
    assert!(empty.contains("no NVIDIA card") && empty.contains("CUDA_VISIBLE_DEVICES"), "{empty}");
}

/// Every kernel of a training step goes through the real NVRTC. Minutes long, so only where the toolkit has been
/// fetched: run `tools/check-cuda-kernels.sh` once.
#[cfg(feature = "cuda")]
#[test]
fn kernels_compile() {
    let folder = root().join("target/cuda-kernels");
    if !folder.join("unpacked").exists() {
        println!("skipped: no NVRTC; tools/check-cuda-kernels.sh fetches it");
        return;
    }
    let status = Command::new(root().join("tools/check-cuda-kernels.sh"))
        .arg(&folder)
        .env("CUTPLANE", env!("CARGO_BIN_EXE_cutplane"))
        .env("CASES", "gpt-nano:f32")
        .status();
    assert!(status.expect("the script starts").success());
}
