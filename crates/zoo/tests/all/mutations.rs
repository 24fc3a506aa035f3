//! Inputs that were tampered with: an answer or an error for each, never a panic.

use std::path::Path;

use crate::support::{FAMILIES, Random, importers, rounds};
use cutplane_graph::{ModelSource, Overrides};
use cutplane_zoo::{build, cluster, cluster_from_text, source_from_argument};
use serde_json::Value;

const HOSTILE: [&str; 12] = [
    "-1,",
    "0,",
    "1e999,",
    "NaN,",
    "18446744073709551615,",
    "-9223372036854775808,",
    "null,",
    "\"x\",",
    "[],",
    "{},",
    "1.5,",
    "99999999999999999999999999,",
];

/// Fields get hostile values or those of other fields; or the text itself is changed.
#[test]
fn hugging_face_configs() {
    let texts: Vec<String> = FAMILIES
        .iter()
        .map(|family| std::fs::read_to_string(importers().join(family).join("config.json")).expect("a config"))
        .collect();
    let mut random = Random::new(3);
    let mut built = 0;
    for round in 0..rounds(100_000) {
        let text = &texts[round % texts.len()];
        let config = if round % 3 == 0 {
            serde_json::from_str(&random.mutated_text(text, &HOSTILE)).ok()
        } else {
            serde_json::from_str(text).ok().map(|config| with_hostile_fields(config, &mut random))
        };
        let Some(config) = config else { continue };
        let source = ModelSource::HuggingFace { config, overrides: Overrides::default(), sequence_length: 4 };
        built += usize::from(build(&source).is_ok());
    }
    assert!(built > 0, "some mutations are harmless");
}

fn with_hostile_fields(mut config: Value, random: &mut Random) -> Value {
    let Some(map) = config.as_object_mut() else { return config };
    let keys: Vec<String> = map.keys().cloned().collect();
    for _ in 0..=random.below(3) {
        let key = &keys[random.below(keys.len())];
        let other = map[&keys[random.below(keys.len())]].clone();
        let hostile = HOSTILE[random.below(HOSTILE.len())].trim_end_matches(',');
        let value = serde_json::from_str(hostile).unwrap_or(Value::Null);
        map.insert(key.clone(), if random.below(3) == 0 { other } else { value });
    }
    config
}

#[test]
fn clusters() {
    let text = toml::to_string(&cluster("cpu:2").expect("a cluster")).expect("TOML");
    let path = Path::new("cluster.toml");
    assert!(cluster_from_text(path, &text).is_ok(), "the unchanged file is a cluster");
    let hostile = [
        "-1\n",
        "0\n",
        "inf\n",
        "nan\n",
        "1e400\n",
        "\"\"\n",
        "[]\n",
        "[[node]]\n",
        "[[link]]\n",
        "9223372036854775807\n",
    ];
    let mut random = Random::new(4);
    let mut read = 0;
    for _ in 0..rounds(100_000) {
        read += usize::from(cluster_from_text(path, &random.mutated_text(&text, &hostile)).is_ok());
    }
    assert!(read > 0, "some mutations are harmless");
}

/// A configuration cannot ask for more than the field limits allow: the largest sizes of all fields at once are refused
/// before any graph is made.
#[test]
fn enormous_sizes_are_refused_at_once() {
    for (field, word) in
        [("n_embd", "n_embd"), ("n_layer", "n_layer"), ("n_head", "n_head"), ("vocab_size", "vocab_size")]
    {
        let text = std::fs::read_to_string(importers().join("gpt2/config.json")).expect("a config");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        config[field] = serde_json::json!(u64::MAX);
        let source = ModelSource::HuggingFace { config, overrides: Overrides::default(), sequence_length: 4 };
        let error = build(&source).expect_err("refused").to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(source_from_argument("./no-such.json", None, Overrides::default()).is_err());
}
