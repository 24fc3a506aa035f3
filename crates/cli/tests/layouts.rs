//! Layouts through the command line: plan, pin, explain, compare, refuse.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn cutplane(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutplane"));
    command.current_dir(folder).args(arguments).output().expect("the tool starts")
}

fn text(folder: &Path, arguments: &[&str]) -> String {
    let output = cutplane(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&text(folder, &[arguments, &["--json"]].concat())).expect("JSON")
}

const GPT2_XL: [&str; 6] = ["plan", "gpt2-xl", "--cluster", "dgx-a100:4", "--batch", "64"];

#[test]
fn a_layout_is_planned_explained_and_compared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let free = json(folder.path(), &[&GPT2_XL[..], &["--gap", "0", "--out", "free.json"]].concat());
    assert_eq!(
        (&free["format"], &free["search"]["stop_reason"]),
        (&"cutplane-layout".into(), &"proven-optimal".into())
    );
    assert_eq!(free["search"]["gap"], 0.0);
    assert_eq!(free["search"]["runners_up"].as_array().map(Vec::len), Some(4));
    let pins = ["--pin", "pp=2,tp=1", "--pin", "schedule=1f1b", "--out", "pinned.json"];
    let pinned = json(folder.path(), &[&GPT2_XL[..], &pins].concat());
    assert_eq!((&pinned["layout"]["pp"], &pinned["layout"]["tp"]), (&2.into(), &1.into()));
    assert!(pinned["predicted"]["step_s"].as_f64() > free["predicted"]["step_s"].as_f64());

    let diff = json(folder.path(), &["diff", "free.json", "pinned.json"]);
    assert!(diff["step_ratio"].as_f64().is_some_and(|ratio| ratio > 1.0), "{diff}");
    let fields: Vec<&str> =
        diff["differences"].as_array().expect("a list").iter().filter_map(|row| row["field"].as_str()).collect();
    assert!(fields.contains(&"layout.pp") && fields.contains(&"question.pins.pp"), "{fields:?}");

    let explained = json(folder.path(), &["explain", "pinned.json"]);
    let alternatives = explained["alternatives"].as_array().expect("a list");
    assert!(alternatives.iter().any(|one| one["change"].as_str().is_some_and(|change| change.contains("bandwidth"))));
    let words = text(folder.path(), &["explain", "free.json"]);
    assert!(words.contains("proof    at most 0.000% from optimal") && words.contains("\nif       "), "{words}");
}

#[test]
fn a_report_says_whether_the_runtime_can_run_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let words = text(folder.path(), &[&GPT2_XL[..], &["--pin", "zero=1"]].concat());
    assert!(words.contains("runs     a prediction: the runtime executes data x pipeline plans"), "{words}");
    assert!(words.lines().take(6).all(|line| line.len() > 9), "{words}");
    let front = json(folder.path(), &[&GPT2_XL[..], &["--pareto", "--dollars-per-hour", "3.4"]].concat());
    assert!(front.as_array().is_some_and(|front| front.len() > 2 && front[0]["dollars"].is_f64()), "{front}");
}

#[test]
fn runnable_plans_are_explained_from_their_record() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan =
        ["plan", "gpt2", "--devices", "a100-80gb:4", "--batch", "16", "--planner", "chain-dp", "--out", "p.json"];
    assert_eq!(json(folder.path(), &plan)["plan"]["format"], "cutplane-plan");
    assert!(text(folder.path(), &["explain", "p.json"]).contains("found by chain-dp"));
    assert!(text(folder.path(), &["diff", "p.json", "p.json"]).contains("+0.00%"));
}

#[test]
fn a_seed_gives_the_same_runnable_plan_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = ["plan", "gpt2", "--devices", "a100-80gb:4", "--batch", "16", "--seed", "7"];
    let [one, again] = [(); 2].map(|()| json(folder.path(), &plan));
    assert_eq!((&one["plan"]["stages"], &one["objective_ns"]), (&again["plan"]["stages"], &again["objective_ns"]));
    assert!(one["plan"]["stages"].is_array(), "{one}");
}

#[test]
fn refusals_name_the_remedy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases: [(&[&str], &str); 9] = [
        (&["plan", "gpt2", "--devices", "dgx-a100:4", "--seed", "1"], "the search of layouts draws no random numbers"),
        (&["plan", "gpt2", "--devices", "cpu:2", "--planner", "chain-dp", "--seed", "1"], "--seed changes nothing"),
        (&["plan", "gpt2", "--devices", "dgx-a100:4", "--planner", "chain-dp"], "add --space runnable"),
        (&["plan", "gpt2", "--devices", "dgx-a100:4", "--pareto", "--out", "p.json"], "leave --out out"),
        (&["plan", "gpt2", "--devices", "cpu:2", "--space", "layouts"], "--space runnable"),
        (&["plan", "gpt2", "--devices", "cpu:2", "--space", "runnable", "--pin", "tp=2"], "--space layouts"),
        (&["plan", "gpt2", "--devices", "dgx-a100:4", "--pin", "tp=zero"], "write tp=8"),
        (&["plan", "gpt2", "--devices", "dgx-a100:4", "--stack", "none"], "megatron-core"),
        (&["plan", "gpt3-175b", "--devices", "a100-80gb:2", "--pin", "cp=1", "--batch", "16"], "devices would do"),
    ];
    for (arguments, word) in cases {
        let output = cutplane(folder.path(), arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(word), "{arguments:?}: {message}");
        assert!(output.status.code() != Some(101), "{arguments:?} panicked");
    }
}

const MIX: [&str; 6] = ["plan", "gpt2", "--cluster", "p3.8xlarge:1+p2.xlarge:2", "--batch", "24"];

#[test]
fn unlike_devices_are_planned_by_class_with_prices_of_the_catalogue() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let work = ["--space", "layouts", "--seq", "256", "--pin", "cp=1", "--gap", "0.01"];
    let fast = json(folder.path(), &[&MIX[..], &work, &["--out", "fast.json"]].concat());
    assert_eq!(fast["plan"]["format"], "cutplane-mixed");
    let gap = (fast["objective"].as_f64(), fast["bound"].as_f64());
    assert!(
        gap.0.zip(gap.1).is_some_and(|(objective, bound)| bound <= objective && objective <= 1.011 * bound),
        "{fast}"
    );
    assert!(fast["plan"]["predicted_dollars"].as_f64().is_some_and(|dollars| dollars > 0.0), "{fast}");
    let cheap = json(folder.path(), &[&MIX[..], &work, &["--objective", "dollars", "--out", "cheap.json"]].concat());
    let dollars = |plan: &Value| plan["plan"]["predicted_dollars"].as_f64();
    assert!(dollars(&cheap) <= dollars(&fast), "{cheap} {fast}");
    let words = text(folder.path(), &["explain", "fast.json", "--gap", "0.05"]);
    for part in
        ["\npredict  step", "V100-SXM2-16GB", "\nif       half the bandwidth between classes", "\nif       without "]
    {
        assert!(words.contains(part), "{part}: {words}");
    }
    let diff = json(folder.path(), &["diff", "fast.json", "cheap.json"]);
    assert!(diff["step_ratio"].as_f64().is_some_and(|ratio| ratio >= 1.0), "{diff}");
}

#[test]
fn plans_over_unlike_devices_have_runners_up_and_a_front() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let work = ["--space", "layouts", "--seq", "256", "--pin", "cp=1,tp=1", "--gap", "0.05"];
    let plan = json(folder.path(), &[&MIX[..], &work, &["--top-k", "3"]].concat());
    assert_eq!(plan["runners_up"].as_array().map(Vec::len), Some(2), "{plan}");
    assert_eq!(plan["question"]["cluster"], MIX[3]);
    let front = json(folder.path(), &[&MIX[..], &work, &["--pareto"]].concat());
    let points: Vec<&Value> = front.as_array().expect("a list").iter().collect();
    assert!(points.len() > 1 && points.iter().all(|point| point["plan"]["predicted_dollars"].is_f64()), "{front}");
    let words = text(folder.path(), &[&MIX[..], &work, &["--pareto"]].concat());
    assert_eq!(words.lines().count(), points.len(), "{words}");
}

#[test]
fn eight_bits_need_a_device_that_has_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let eight = ["--fp8", "--pin", "tp=1,pp=1"];
    let plan =
        json(folder.path(), &[&["plan", "gpt2-xl", "--cluster", "dgx-h100:1", "--batch", "64"], &eight[..]].concat());
    assert_eq!(plan["layout"]["precision"], "fp8");
    let output = cutplane(folder.path(), &[&GPT2_XL[..], &["--fp8"]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not compute in 8 bits: leave --fp8 out"));
}

#[test]
fn the_place_of_each_rank_is_said_where_links_differ() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mesh =
        ["plan", "gpt2-xl", "--cluster", "dgx-1v:1", "--batch", "32", "--pin", "tp=4,cp=1,pp=1", "--space", "layouts"];
    let words = text(folder.path(), &[&mesh[..], &["--heads", "20"]].concat());
    assert!(words.contains("\nplace    groups of 4: dgx-1v/gpu0 dgx-1v/gpu1 dgx-1v/gpu2 dgx-1v/gpu3"), "{words}");
}
