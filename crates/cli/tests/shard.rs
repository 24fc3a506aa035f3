//! Sharding through the command line: words, numbers, refusals.

use std::process::{Command, Output};

use serde_json::Value;

fn cutplane(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cutplane")).args(arguments).output().expect("the tool starts")
}

fn text(arguments: &[&str]) -> String {
    let output = cutplane(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refusal(arguments: &[&str]) -> String {
    let output = cutplane(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const GPT2: [&str; 9] = ["shard", "gpt2", "--layers", "4", "--seq", "256", "--cluster", "a100-80gb:4", "--mesh"];

#[test]
fn a_sharding_is_told_in_words_and_as_data() {
    let asked = [&GPT2[..], &["4", "--batch", "32", "--micro-batches", "2"]].concat();
    let words = text(&asked);
    for part in ["block    h.0..3 x 4", "h.0.attn.c_attn", " batch ", "memory   ", "equal blocks alike", "2: "] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let data: Value = serde_json::from_str(&text(&[&asked[..], &["--json"]].concat())).expect("JSON");
    let number = |key: &str| data[key].as_f64().unwrap_or_else(|| panic!("{key}: {data}"));
    assert!(number("bound") <= number("objective") && number("gap") <= 1e-3);
    assert!(number("memory_bytes") <= number("memory_limit_bytes"));
    let block = &data["blocks"][1];
    assert_eq!((&block["name"], &block["copies"]), (&"h.0..3".into(), &4.into()), "{data}");
    assert_eq!(block["operators"][1]["strategy"]["splits"], serde_json::json!([null, "batch"]));
}

#[test]
fn without_a_number_of_micro_batches_divisors_are_tried() {
    let asked = [&GPT2[..], &["4", "--batch", "6", "--json"]].concat();
    let data: Value = serde_json::from_str(&text(&asked)).expect("JSON");
    let tried = data["tried"].as_array().expect("a list");
    let counts: Vec<_> = tried.iter().filter_map(|pair| pair[0].as_u64()).collect();
    assert_eq!(counts, [1, 2, 3, 6]);
    assert_eq!(data["mesh"], serde_json::json!([4]));
}

#[test]
fn refusals_say_what_to_write() {
    let with = |more: &[&str]| refusal(&[&GPT2[..], more].concat());
    assert!(with(&["3x2", "--batch", "32"]).contains("whose product is 4"));
    assert!(with(&["2xtwo", "--batch", "32"]).contains("'two' is no size"));
    assert!(with(&["4", "--batch", "32", "--micro-batches", "5"]).contains("it must divide the batch"));
    let short = with(&["4", "--batch", "32", "--memory-cap", "50 MiB"]);
    assert!(short.contains("no sharding fits: the limit is 50.0 MiB a device, and the least"), "{short}");
    assert!(refusal(&["shard", "gpt2", "--cluster", "cpu:2"]).contains("processor cores"));
}
