//! Holds the arrows between rooms: who may depend on whom, and which third-party crate lives in which room.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Allowed dependencies on our own crates, tests included.
const ARROWS: &[(&str, &[&str])] = &[
    ("cutplane-units", &[]),
    ("cutplane-graph", &["units"]),
    ("cutplane-zoo", &["units", "graph"]),
    ("cutplane-plan", &["units", "graph"]),
    ("cutplane-record", &["units", "graph", "plan"]),
    ("cutplane-report", &["units", "graph", "plan", "record"]),
    ("cutplane-sim", &["units", "graph", "zoo", "plan", "record"]),
    ("cutplane-runtime", &["units", "graph", "zoo", "plan", "record"]),
    ("cutplane-score", &["units", "graph", "zoo", "plan", "record", "sim"]),
    ("cutplane-experiments", &["units", "graph", "zoo", "plan", "record", "report", "score", "sim"]),
    ("cutplane-cli", &["units", "graph", "zoo", "plan", "record", "report", "score", "experiments", "sim", "runtime"]),
    ("cutplane-benches", &["units", "graph", "zoo", "plan", "record", "sim", "runtime"]),
];

/// Third-party crates that one room alone may use (and the benches, which measure it).
const ROOMS: &[(&str, &[&str])] = &[
    ("burn", &["cutplane-runtime", "cutplane-benches"]),
    ("good_lp", &["cutplane-sim"]),
    ("highs", &["cutplane-sim"]),
    ("plotters", &["cutplane-report"]),
    ("criterion", &["cutplane-benches"]),
];

fn metadata(no_deps: bool) -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--offline"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if no_deps {
        command.arg("--no-deps");
    } else {
        // Only what is built here: other platforms' packages need not be downloaded.
        command.args(["--filter-platform", &host_triple()]);
    }
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn host_triple() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(output.stdout).expect("rustc speaks UTF-8");
    version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host line").to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

#[test]
fn every_arrow_between_rooms_is_allowed() {
    let metadata = metadata(true);
    let packages = list(&metadata["packages"]);
    assert_eq!(packages.len(), ARROWS.len(), "a room was added or removed: update ARROWS and ARCHITECTURE.md");
    for package in packages {
        let name = text(&package["name"]);
        let allowed = ARROWS.iter().find(|(room, _)| *room == name).expect("a known room").1;
        for dependency in list(&package["dependencies"]) {
            let target = text(&dependency["name"]);
            if let Some(room) = target.strip_prefix("cutplane-") {
                assert!(allowed.contains(&room), "{name} must not depend on {target}");
                let in_tests = dependency["kind"] == "dev";
                let engine = matches!(name, "cutplane-sim" | "cutplane-runtime");
                assert!(!(engine && room == "zoo") || in_tests, "{name} may use the zoo in tests only");
            }
            if let Some((_, owners)) = ROOMS.iter().find(|(third_party, _)| *third_party == target) {
                assert!(owners.contains(&name), "{target} must not be used in {name}");
            }
        }
    }
}

#[test]
fn planning_never_compiles_burn() {
    let metadata = metadata(false);
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), node)).collect();
    let sim = nodes.keys().find(|id| id.contains("#cutplane-sim@")).copied();
    let mut queue = vec![sim.expect("the simulator is in the graph")];
    let mut seen = BTreeSet::new();
    while let Some(id) = queue.pop() {
        if seen.insert(id) {
            queue.extend(list(&nodes[id]["deps"]).iter().map(|dependency| text(&dependency["pkg"])));
        }
    }
    assert!(seen.len() > 20, "the walk found almost nothing: {seen:?}");
    let burn: Vec<_> = seen.iter().filter(|id| id.contains("#burn") || id.contains("#cubecl")).collect();
    assert!(burn.is_empty(), "the simulator would compile {burn:?}");
}
