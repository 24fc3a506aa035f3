//! Hugging Face `config.json` files: as people have them, and broken in every way.

use std::path::PathBuf;

use cutplane_graph::{ActivationKind, ModelGraph, ModelSource, OpKind, Overrides};
use cutplane_zoo::{ZooError, build, source_from_argument};
use proptest::prelude::*;
use serde_json::json;

/// The file that the hub has for `gpt2`.
const GPT2: &str = r#"{
  "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
  "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
  "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12,
  "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": null, "summary_first_dropout": 0.1,
  "summary_proj_to_labels": true, "summary_type": "cls_index", "summary_use_proj": true,
  "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}, "vocab_size": 50257
}"#;

/// The file that the hub has for `bert-base-uncased`.
const BERT: &str = r#"{
  "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": false,
  "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
  "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
  "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": "absolute",
  "transformers_version": "4.6.0.dev0", "type_vocab_size": 2, "use_cache": true, "vocab_size": 30522
}"#;

fn source(config: serde_json::Value, sequence_length: u64) -> ModelSource {
    ModelSource::HuggingFace { config, overrides: Overrides::default(), sequence_length }
}

fn graph(config: serde_json::Value) -> ModelGraph {
    build(&source(config, 8)).unwrap()
}

fn refusal(config: serde_json::Value) -> String {
    build(&source(config, 8)).unwrap_err().to_string()
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, config: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cutplane-hf-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("config.json"), config).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_hubs_files_give_the_published_counts() {
    assert_eq!(graph(serde_json::from_str(GPT2).unwrap()).parameter_count(), 124_439_808);
    assert_eq!(graph(serde_json::from_str(BERT).unwrap()).parameter_count(), 109_514_298);
    let encoder = BERT.replace("BertForMaskedLM", "BertModel");
    assert_eq!(graph(serde_json::from_str(&encoder).unwrap()).parameter_count(), 109_482_240);
}

#[test]
fn a_file_and_a_built_in_name_give_the_same_operators() {
    for (text, name) in [(GPT2, "gpt2"), (BERT, "bert-base")] {
        let file = graph(serde_json::from_str(text).unwrap());
        let built_in = build(&source_from_argument(name, Some(8), Overrides::default()).unwrap()).unwrap();
        assert_eq!(file.ops(), built_in.ops(), "{name}");
        assert_eq!(file.params(), built_in.params(), "{name}");
    }
}

#[test]
fn an_empty_config_has_the_defaults_of_transformers() {
    assert_eq!(graph(json!({"model_type": "gpt2"})).parameter_count(), 124_439_808);
    assert_eq!(graph(json!({"model_type": "bert"})).parameter_count(), 109_514_298);
}

#[test]
fn a_file_or_its_folder_can_be_named() {
    let folder = Folder::new("both", GPT2);
    let by_folder = source_from_argument(folder.0.to_str().unwrap(), None, Overrides::default()).unwrap();
    let file = folder.0.join("config.json");
    let by_file = source_from_argument(file.to_str().unwrap(), Some(128), Overrides::default()).unwrap();
    assert_eq!((by_folder.sequence_length(), by_file.sequence_length()), (1024, 128));
    assert_eq!(build(&by_file).unwrap().parameter_count(), 124_439_808);
}

#[test]
fn both_vocabularies_of_names_are_read() {
    let a = graph(
        json!({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32, "n_inner": null}),
    );
    let b = graph(json!({"model_type": "gpt2", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 32, "n_inner": 256}));
    assert_eq!(a.digest(), b.digest());
    let old = graph(json!({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_ctx": 32}));
    assert_eq!(a.digest(), old.digest());
}

#[test]
fn activation_epsilon_and_tying_are_honoured() {
    let config = json!({"model_type": "gpt2", "n_embd": 64, "n_layer": 1, "n_head": 4, "vocab_size": 100,
        "activation_function": "relu", "layer_norm_epsilon": 1e-6, "tie_word_embeddings": false});
    let graph = graph(config);
    let has = |kind: OpKind| graph.ops().iter().any(|op| op.kind == kind);
    assert!(has(OpKind::Activation { function: ActivationKind::Relu }));
    assert!(has(OpKind::layer_norm(64, 1e-6)));
    let head = graph.params().iter().find(|param| param.name == "lm_head.weight").unwrap();
    assert_eq!(head.shape, [100, 64]);
}

#[test]
fn a_wide_feed_forward_keeps_its_ratio_under_overrides() {
    let config = json!({"model_type": "bert", "hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4});
    let overrides = Overrides { hidden: Some(128), layers: Some(1), ..Overrides::default() };
    let source = ModelSource::HuggingFace { config, overrides, sequence_length: 8 };
    let graph = build(&source).unwrap();
    let wide = graph.params().iter().find(|p| p.name == "bert.encoder.layer.0.intermediate.dense.weight").unwrap();
    assert_eq!(wide.shape, [384, 128]);
}

#[test]
fn every_wrong_field_is_named_with_its_remedy() {
    let gpt2 = |field: &str, value: serde_json::Value| {
        let mut config = json!({"model_type": "gpt2"});
        config[field] = value;
        refusal(config)
    };
    let known = cutplane_zoo::hugging_face_types().collect::<Vec<_>>().join(", ");
    assert_eq!(refusal(json!({})), format!("config.json: field 'model_type' is missing: add one of {known}"));
    assert_eq!(
        refusal(json!({"model_type": "mamba"})),
        format!("config.json: field 'model_type' is 'mamba': known are {known}")
    );
    assert_eq!(refusal(json!({"model_type": 3})), "config.json: field 'model_type' is 3: give a text");
    assert_eq!(
        refusal(json!([1, 2])),
        "config.json: field '(whole file)' is a list, not an object: give a Hugging Face config.json"
    );
    assert_eq!(gpt2("n_layer", json!(0)), "config.json: field 'n_layer' is 0: choose 1 to 10000");
    assert_eq!(gpt2("n_layer", json!(20_000)), "config.json: field 'n_layer' is 20000: choose 1 to 10000");
    assert_eq!(
        gpt2("n_embd", json!(-768)),
        "config.json: field 'n_embd' is -768: give a whole number from 1 to 1048576"
    );
    assert_eq!(
        gpt2("vocab_size", json!("50257")),
        "config.json: field 'vocab_size' is the text '50257': give a whole number from 1 to 134217728"
    );
    assert_eq!(
        gpt2("n_head", json!([12])),
        "config.json: field 'n_head' is a list: give a whole number from 1 to 65536"
    );
    assert!(gpt2("n_head", json!(5)).contains("'n_embd' is 768, which 'n_head' = 5 does not divide"));
    assert!(gpt2("n_positions", json!(4)).contains("'sequence_length' is 8, but 'n_positions' is 4"));
    assert!(gpt2("layer_norm_epsilon", json!(-1.0)).contains("'layer_norm_epsilon' is -1.0: give a number above 0"));
    assert!(gpt2("activation_function", json!("mish")).contains("'activation_function' is 'mish': known are gelu, "));
    assert!(
        gpt2("tie_word_embeddings", json!("yes")).contains("'tie_word_embeddings' is the text 'yes': give true or")
    );
    assert!(gpt2("scale_attn_weights", json!(false)).contains("only models with true can be built"));
    let relative = json!({"model_type": "bert", "position_embedding_type": "relative_key"});
    assert!(refusal(relative).contains("'position_embedding_type' is 'relative_key': only 'absolute'"));
    assert!(refusal(json!({"model_type": "bert", "is_decoder": true})).contains("'is_decoder' is true"));
}

#[test]
fn sizes_that_are_only_impossible_together_are_refused() {
    let config = json!({"model_type": "gpt2", "n_embd": 1_048_576, "n_head": 65_536, "n_positions": 16_777_216});
    let error = build(&source(config, 16_777_216)).unwrap_err().to_string();
    assert!(error.contains("attention scores") && error.contains("choose a shorter sequence"), "{error}");
    let config = json!({"model_type": "gpt2", "n_embd": 1_048_576, "n_head": 1, "n_positions": 16_777_216});
    let error = build(&source(config, 1_048_576)).unwrap_err();
    assert!(matches!(error, ZooError::Model { .. }), "{error}");
}

#[test]
fn broken_files_name_themselves() {
    let read = |folder: &Folder| {
        source_from_argument(folder.0.to_str().unwrap(), None, Overrides::default()).unwrap_err().to_string()
    };
    let cut = Folder::new("cut", &GPT2[..200]);
    assert!(read(&cut).contains("config.json: not JSON: EOF while parsing"), "{}", read(&cut));
    let text = Folder::new("text", "to be, or not to be");
    assert!(read(&text).contains("config.json: not JSON"), "{}", read(&text));
    let alien = Folder::new("alien", r#"{"name": "left-pad", "version": "1.3.0"}"#);
    assert!(read(&alien).contains("config.json: field 'model_type' is missing"), "{}", read(&alien));
    let huge = Folder::new("huge", &" ".repeat(5 << 20));
    assert!(read(&huge).contains("has 5242880 bytes"), "{}", read(&huge));
    for path in ["/no/such/config.json", "no-such-folder/x", "nothing.json"] {
        let error = source_from_argument(path, None, Overrides::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{path}: cannot read")), "{error}");
    }
}

/// Small and whole, so that a mutation that keeps the sizes builds at once.
const SMALL: [&str; 2] = [
    r#"{"model_type":"gpt2","n_embd":48,"n_layer":2,"n_head":4,"n_positions":16,"n_inner":null,"vocab_size":99,"activation_function":"gelu_new","layer_norm_epsilon":1e-5,"tie_word_embeddings":true}"#,
    r#"{"model_type":"bert","hidden_size":48,"num_hidden_layers":2,"num_attention_heads":4,"max_position_embeddings":16,"intermediate_size":96,"vocab_size":99,"type_vocab_size":2,"hidden_act":"gelu","layer_norm_eps":1e-12,"architectures":["BertModel"]}"#,
];

fn mutated(base: &str, edits: &[(usize, u8)], keep: usize) -> Vec<u8> {
    let mut bytes = base.as_bytes().to_vec();
    for (at, byte) in edits {
        let at = at % bytes.len();
        bytes[at] = *byte;
    }
    bytes.truncate(keep);
    bytes
}

/// Bytes that matter to JSON and to numbers come often.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![proptest::sample::select(b"0123456789-+.eE\"{}[],:nulltrue ".to_vec()), any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_configs_never_panic(
        which in 0usize..2,
        edits in prop::collection::vec((any::<usize>(), byte()), 0..4),
        keep in prop_oneof![4 => Just(usize::MAX), 1 => 0usize..240],
        sequence_length in 1u64..20,
    ) {
        let bytes = mutated(SMALL[which], &edits, keep);
        if let Ok(config) = serde_json::from_slice::<serde_json::Value>(&bytes) {
            match build(&source(config, sequence_length)) {
                Ok(graph) => prop_assert!(graph.parameter_count() > 0),
                Err(error) => prop_assert!(error.to_string().contains("config.json")),
            }
        }
    }

    #[test]
    fn any_value_in_any_field_never_panics(
        which in 0usize..2,
        field in 0usize..16,
        value in prop_oneof![
            any::<u64>().prop_map(|n| json!(n)),
            any::<i64>().prop_map(|n| json!(n)),
            (0u32..64).prop_map(|shift| json!(1u64 << shift)),
            any::<f64>().prop_map(|x| json!(x)),
            any::<bool>().prop_map(|x| json!(x)),
            Just(json!(null)), Just(json!([])), Just(json!({})), Just(json!("gelu")),
        ],
    ) {
        let mut config: serde_json::Value = serde_json::from_str(SMALL[which]).unwrap();
        let map = config.as_object_mut().unwrap();
        let name = map.keys().nth(field % map.len()).unwrap().clone();
        // Ten thousand layers build, but not thousands of times in a test.
        let few_layers = !name.contains("layer") || value.as_u64().is_none_or(|n| !(64..=10_000).contains(&n));
        prop_assume!(few_layers);
        map.insert(name, value);
        let _ = build(&source(config, 8));
    }
}
