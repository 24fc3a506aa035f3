//! Exact parameter counts, names and shapes of the built-in models.

use cutplane_graph::{Dtype, Init, InputRole, ModelGraph, ModelSource, OpKind, Overrides, WeightLayout};
use cutplane_zoo::{ZooError, build, built_in_models, source_from_argument};

fn model(name: &str, sequence_length: u64) -> ModelGraph {
    build(&source_from_argument(name, Some(sequence_length), Overrides::default()).unwrap()).unwrap()
}

#[test]
fn every_published_count_is_met_exactly() {
    let mut wrong = Vec::new();
    for known in built_in_models() {
        let count = model(known.name, known.default_sequence_length).parameter_count();
        if known.published_parameters.is_some_and(|published| published != count) {
            wrong.push((known.name, count, known.published_parameters));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_counts_are_the_ones_in_the_papers() {
    let count = |name| model(name, 64).parameter_count();
    assert_eq!(count("gpt2"), 124_439_808);
    assert_eq!(count("gpt2-medium"), 354_823_168);
    assert_eq!(count("gpt2-large"), 774_030_080);
    assert_eq!(count("gpt2-xl"), 1_557_611_200);
    assert_eq!(count("bert-base-encoder"), 109_482_240);
    assert_eq!(count("bert-large-encoder"), 335_141_888);
    assert_eq!(count("bert-base"), 109_514_298);
    // V H + ctx H + L (12 H^2 + 13 H) + 2 H
    assert_eq!(count("gpt-mini"), 256 * 384 + 256 * 384 + 8 * (12 * 384 * 384 + 13 * 384) + 2 * 384);
    assert!((10_000_000..20_000_000).contains(&count("gpt-mini")));
    assert!((10_000_000..20_000_000).contains(&count("bert-mini")));
    assert!(count("gpt-nano") < 1_000_000 && count("bert-nano") < 1_000_000);
}

#[test]
fn gpt2_has_the_names_and_layouts_of_its_checkpoint() {
    let graph = model("gpt2", 16);
    let shape_of = |name: &str| {
        graph.params().iter().find(|param| param.name == name).unwrap_or_else(|| panic!("no {name}")).shape.clone()
    };
    assert_eq!(shape_of("wte.weight"), [50_257, 768]);
    assert_eq!(shape_of("wpe.weight"), [1024, 768]);
    assert_eq!(shape_of("h.0.ln_1.weight"), [768]);
    assert_eq!(shape_of("h.0.attn.c_attn.weight"), [768, 2304]);
    assert_eq!(shape_of("h.0.attn.c_attn.bias"), [2304]);
    assert_eq!(shape_of("h.0.attn.c_proj.weight"), [768, 768]);
    assert_eq!(shape_of("h.11.ln_2.bias"), [768]);
    assert_eq!(shape_of("h.11.mlp.c_fc.weight"), [768, 3072]);
    assert_eq!(shape_of("h.11.mlp.c_proj.weight"), [3072, 768]);
    assert_eq!(shape_of("ln_f.bias"), [768]);
    // wte, wpe, ln_f (2) and 12 blocks of 12: the 148 tensors of the checkpoint.
    assert_eq!(graph.params().len(), 148);
    assert_eq!(graph.ops().len(), 2 + 12 * 10 + 3);
    assert_eq!(graph.layer_count(), 12);
}

#[test]
fn gpt2s_head_shares_the_word_embedding() {
    let graph = model("gpt2", 16);
    let wte = graph.params().iter().find(|param| param.name == "wte.weight").unwrap();
    let users: Vec<&str> = wte.users.iter().map(|op| graph.op(*op).name.as_str()).collect();
    assert_eq!(users, ["wte", "lm_head"]);
    let head = graph.op(wte.users[1]);
    let OpKind::Linear { inputs: 768, outputs: 50_257, bias: false, layout: WeightLayout::OutIn, .. } = head.kind
    else {
        panic!("{:?}", head.kind)
    };
    assert_eq!(graph.value(head.output).ty.to_string(), "f32[b, 16, 50257]");
}

#[test]
fn projections_into_the_residual_stream_start_smaller() {
    let graph = model("gpt2", 16);
    let init = |name: &str| graph.params().iter().find(|param| param.name == name).unwrap().init;
    assert_eq!(init("h.3.attn.c_attn.weight"), Init::Normal { std: 0.02 });
    for name in ["h.3.attn.c_proj.weight", "h.3.mlp.c_proj.weight"] {
        assert_eq!(init(name), Init::Normal { std: 0.02 / 24f64.sqrt() });
    }
    assert_eq!(init("h.3.ln_1.weight"), Init::Ones);
    assert_eq!(init("h.3.mlp.c_fc.bias"), Init::Zeros);
}

#[test]
fn bert_has_the_names_and_layouts_of_its_checkpoint() {
    let graph = model("bert-base", 128);
    let shape_of = |name: &str| {
        graph.params().iter().find(|param| param.name == name).unwrap_or_else(|| panic!("no {name}")).shape.clone()
    };
    assert_eq!(shape_of("bert.embeddings.word_embeddings.weight"), [30_522, 768]);
    assert_eq!(shape_of("bert.embeddings.position_embeddings.weight"), [512, 768]);
    assert_eq!(shape_of("bert.embeddings.token_type_embeddings.weight"), [2, 768]);
    assert_eq!(shape_of("bert.embeddings.LayerNorm.weight"), [768]);
    assert_eq!(shape_of("bert.encoder.layer.0.attention.self.query.weight"), [768, 768]);
    assert_eq!(shape_of("bert.encoder.layer.0.attention.output.LayerNorm.bias"), [768]);
    assert_eq!(shape_of("bert.encoder.layer.11.intermediate.dense.weight"), [3072, 768]);
    assert_eq!(shape_of("bert.encoder.layer.11.output.dense.weight"), [768, 3072]);
    assert_eq!(shape_of("cls.predictions.transform.dense.weight"), [768, 768]);
    assert_eq!(shape_of("cls.predictions.bias"), [30_522]);
    // Embeddings 5, 16 a layer, head 5; the decoder's weight is the word embedding.
    assert_eq!(graph.params().len(), 5 + 12 * 16 + 5);
}

#[test]
fn bert_counts_fifteen_percent_of_the_tokens_and_at_least_one() {
    let counted = |s| {
        let graph = model("bert-nano", s);
        let OpKind::CrossEntropy { counted, .. } = graph.ops().last().unwrap().kind else { panic!("no loss") };
        counted
    };
    assert_eq!((counted(64), counted(20), counted(1)), (9, 3, 1));
}

#[test]
fn inputs_carry_their_roles() {
    use InputRole::{MaskedTokens, NextTokens, TokenTypes, Tokens};

    let roles = |name| {
        let graph = model(name, 8);
        graph.inputs().map(|id| (graph.value(id).role.unwrap(), graph.value(id).ty.dtype)).collect::<Vec<_>>()
    };
    assert_eq!(roles("gpt-nano"), [(Tokens, Dtype::I32), (NextTokens, Dtype::I32)]);
    assert_eq!(roles("bert-nano"), [(Tokens, Dtype::I32), (TokenTypes, Dtype::I32), (MaskedTokens, Dtype::I32)]);
    assert_eq!(roles("bert-base-encoder"), [(Tokens, Dtype::I32), (TokenTypes, Dtype::I32)]);
}

#[test]
fn an_encoder_with_pooler_has_no_loss() {
    let graph = model("bert-base-encoder", 8);
    assert_eq!(graph.loss(), None);
    let shapes: Vec<String> = graph.outputs().iter().map(|id| graph.value(*id).ty.to_string()).collect();
    assert_eq!(shapes, ["f32[b, 8, 768]", "f32[b, 768]"]);
}

#[test]
fn overrides_apply_to_both_families() {
    let overrides =
        Overrides { layers: Some(2), hidden: Some(96), heads: Some(3), vocab: Some(300), ..Overrides::default() };
    let source = |name| source_from_argument(name, Some(16), overrides.clone()).unwrap();
    let gpt = build(&source("gpt2")).unwrap();
    assert_eq!(gpt.parameter_count(), 300 * 96 + 1024 * 96 + 2 * (12 * 96 * 96 + 13 * 96) + 2 * 96);
    let bert = build(&source("bert-base")).unwrap();
    let embeddings = (300 + 512 + 2 + 2) * 96;
    let head = 96 * 96 + 96 + 2 * 96 + 300;
    assert_eq!(bert.parameter_count(), embeddings + 2 * (12 * 96 * 96 + 13 * 96) + head);
    assert_eq!((gpt.layer_count(), bert.layer_count()), (2, 2));
}

#[test]
fn a_source_rebuilds_the_same_graph_after_a_round_trip() {
    let overrides = Overrides { layers: Some(1), ..Overrides::default() };
    let source = source_from_argument("gpt-nano", None, overrides).unwrap();
    assert_eq!(source.sequence_length(), 64);
    let again: ModelSource = serde_json::from_str(&serde_json::to_string(&source).unwrap()).unwrap();
    assert_eq!(build(&again).unwrap().digest(), build(&source).unwrap().digest());
}

fn refusal(name: &str, sequence_length: u64, overrides: Overrides) -> String {
    source_from_argument(name, Some(sequence_length), overrides).unwrap_err().to_string()
}

#[test]
fn impossible_sizes_name_field_and_remedy() {
    assert_eq!(
        refusal("gpt2", 2048, Overrides::default()),
        "gpt2: field 'sequence_length' is 2048, but 'n_positions' is 1024: choose 1 to 1024 tokens"
    );
    assert_eq!(
        refusal("bert-base", 0, Overrides::default()),
        "bert-base: field 'sequence_length' is 0, but 'max_position_embeddings' is 512: choose 1 to 512 tokens"
    );
    assert_eq!(
        refusal("gpt2", 64, Overrides { hidden: Some(770), ..Overrides::default() }),
        "gpt2: field 'n_embd' is 770, which 'n_head' = 12 does not divide: choose a hidden size that is a multiple of the number of heads"
    );
    assert_eq!(
        refusal("gpt2", 64, Overrides { layers: Some(0), ..Overrides::default() }),
        "gpt2: field 'overrides.layers' is 0: choose 1 to 10000"
    );
    assert_eq!(
        refusal("gpt2", 64, Overrides { vocab: Some(u64::MAX), ..Overrides::default() }),
        format!("gpt2: field 'overrides.vocab' is {}: choose 1 to 134217728", u64::MAX)
    );
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let error = source_from_argument("gpt5", None, Overrides::default()).unwrap_err();
    assert!(matches!(error, ZooError::UnknownModel { .. }));
    let text = error.to_string();
    assert!(text.contains("'gpt5'") && text.contains("gpt2-xl") && text.contains("bert-base-encoder"), "{text}");
    let source = ModelSource::BuiltIn { name: "gpt5".into(), overrides: Overrides::default(), sequence_length: 8 };
    let text = build(&source).unwrap_err().to_string();
    assert!(text.contains("model.source.name") && text.contains("gpt2-xl"), "{text}");
}

#[test]
fn plans_of_the_first_release_still_find_their_models() {
    let digest = |name| build(&source_from_argument(name, None, Overrides::default()).unwrap()).unwrap().digest();
    assert_eq!(digest("gpt-nano"), "f8a443542e19477c");
    assert_eq!(digest("gpt-mini"), "62572657a2640416");
    assert_eq!(digest("gpt2"), "4bf3a6a69f9538c7");
    assert_eq!(digest("bert-nano"), "45ad9b6662c39a1a");
    assert_eq!(digest("bert-base"), "688c9b3afbe5f284");
    assert_eq!(digest("bert-base-encoder"), "39b53544a5330b10");
}
