//! Inputs that were tampered with: an answer or an error for each, never a panic.

mod support;

use cutplane_graph::{DeviceGraph, ModelSource, Overrides};
use cutplane_zoo::{build, cluster, source_from_argument};
use support::{FAMILIES, Random, importers, rounds};

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

/// Sizes from hostile files may be large, so graphs are built where they are small: the reader checks all of them.
#[test]
fn hugging_face_configs() {
    let texts: Vec<String> = FAMILIES
        .iter()
        .map(|family| std::fs::read_to_string(importers().join(family).join("config.json")).expect("a config"))
        .collect();
    let mut random = Random::new(3);
    let mut built = 0;
    for round in 0..rounds(100_000) {
        let text = random.mutated_text(&texts[round % texts.len()], &HOSTILE);
        let Ok(config) = serde_json::from_str(&text) else { continue };
        let source = ModelSource::HuggingFace { config, overrides: Overrides::default(), sequence_length: 4 };
        let layers = text.matches("99999").count();
        built += usize::from(layers == 0 && build(&source).is_ok());
    }
    assert!(built > 0, "some mutations are harmless");
}

#[test]
fn clusters() {
    let folder = std::env::temp_dir().join(format!("cutplane-mutations-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("cluster.toml");
    let spec = cluster("cpu:2").expect("a cluster");
    let text = toml::to_string(&spec).expect("TOML");
    std::fs::write(&path, &text).expect("a file");
    let argument = path.display().to_string();
    assert!(cluster(&argument).is_ok(), "the unchanged file is a cluster");
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
        std::fs::write(&path, random.mutated_text(&text, &hostile)).expect("a file");
        read += usize::from(cluster(&argument).is_ok_and(|spec| DeviceGraph::build(spec).is_ok()));
    }
    assert!(read > 0, "some mutations are harmless");
    let _ = std::fs::remove_dir_all(&folder);
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
