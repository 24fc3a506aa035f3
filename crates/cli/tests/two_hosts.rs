//! Two hosts, emulated: network name spaces joined by a link of 200 Mb/s (`tools/two-hosts.sh`). The links are measured and
//! price the plans, plans run over both hosts, and train as one rank does.
#![cfg(feature = "mpi")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_cutplane");
const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cpu-core-x2.toml");
/// What the script ends with where it cannot emulate hosts.
const NOT_ALLOWED: i32 = 77;
/// Bytes that the link carries in a second, frames included.
const RATE: f64 = 25e6;

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools")
}

/// Runs the tool on both hosts; `None`, with a line that says why, where they cannot be emulated.
fn on_two_hosts(folder: &Path, arguments: &str) -> Option<Value> {
    let devices = tools().join("two-hosts.toml");
    let mut command = Command::new(tools().join("two-hosts.sh"));
    command.args(["200mbit", "0", TOOL]).args(arguments.split_whitespace()).args(["--devices", devices.to_str()?]);
    command.current_dir(folder).env("CUTPLANE_CACHE", folder.join("cache")).env("OMPI_MCA_mpi_yield_when_idle", "1");
    let Output { status, stdout, stderr } = command.output().ok()?;
    let said = String::from_utf8_lossy(&stderr).into_owned();
    if status.code() == Some(NOT_ALLOWED) {
        println!("skipped: {said}");
        return None;
    }
    assert!(status.success(), "{said}");
    Some(serde_json::from_slice(&stdout).expect("JSON, of one process alone"))
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().filter_map(Value::as_f64).collect()
}

#[test]
fn links_between_hosts_are_measured_and_plans_over_them_train_as_one_rank() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path();
    let measure = format!("profile --add-links {PROFILE} --out linked.toml --json");
    let Some(profile) = on_two_hosts(folder, &measure) else { return };
    let [links] = &profile["processes"].as_array().expect("links")[..] else { panic!("one class: {profile}") };
    assert_eq!(links["class"], "between-hosts");
    let times = |point: &Value, fields: &[&str]| fields.iter().filter_map(|field| point[*field].as_f64()).sum::<f64>();
    for (list, fields) in [("messages", &["send_ns", "latency_ns", "recv_ns"][..]), ("all_reduce", &["time_ns"][..])] {
        let points = links[list].as_array().expect("points");
        let largest = points.last().expect("one at least");
        let (bytes, time) = (largest["bytes"].as_f64().expect("a size"), times(largest, fields));
        println!("{list}: {bytes} bytes in {:.1} ms, {:.1} MB/s", time / 1e6, bytes * 1e3 / time);
        // The bucket of the emulated link holds 64 kB, so the largest ones cannot be faster than the link.
        assert!(points.len() >= 3 && bytes >= 1e5 && bytes / (time * 1e-9) < 1.3 * RATE, "{links}");
    }
    let plans = "compare gpt-nano --batch 8 --plans single,dp2,pp2-1f1b-m2 --steps 2 --warm-up 1 --out out --json";
    let Some(compared) = on_two_hosts(folder, &format!("{plans} --profile linked.toml")) else { return };
    let rows = compared["rows"].as_array().expect("rows");
    let losses: Vec<Vec<f64>> = compared["losses"].as_array().expect("losses").iter().map(numbers).collect();
    let named =
        |name: &str| rows.iter().position(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {rows:?}"));
    let alone = &losses[named("single")];
    for name in ["dp2", "pp2-1f1b-m2"] {
        let over_both = &losses[named(name)];
        let equal = alone.iter().zip(over_both).all(|(one, other)| (one - other).abs() < 1e-4 * one);
        assert!(equal && over_both.len() == 3, "{name}: {over_both:?}, one rank: {alone:?}");
    }
    let record = std::fs::read_to_string(folder.join("out/records.csv")).expect("written");
    assert!(record.contains("ranks in 2 processes, 1 of them on this host"), "{record}");
    // The gradients of a replica alone take longer than this on the link.
    let gradients = 4.0 * 208_000.0 / RATE;
    let step = |kind: &str| rows[named("dp2")][kind].as_f64().expect("a time") * 1e-9;
    println!(
        "dp2: predicted {:.1} ms, measured {:.1} ms",
        1e3 * step("predicted_step_ns"),
        1e3 * step("measured_step_ns")
    );
    assert!(step("predicted_step_ns") > gradients && step("measured_step_ns") > gradients);
}
