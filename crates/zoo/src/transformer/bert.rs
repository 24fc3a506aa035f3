//! BERT (Devlin et al. 2019): post-norm encoder, parameters named and laid out as in Hugging Face's `bert` checkpoints,
//! with the masked-language-model head or with the pooler.

use cutplane_graph::{
    ActivationKind, AttentionInput, Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder, OpKind, TensorType,
    ValueId, WeightLayout,
};

use super::{Head, Transformer};

/// Share of the tokens that are masked, percent (Devlin et al. 2019, section 3.1).
const MASKED_PERCENT: u64 = 15;

/// The graph for samples of `s` tokens: `tokens [s]` and `token_types [s]`, and with the masked-LM head `targets [s]`.
pub(super) fn graph(model: &Transformer, token_types: u64, head: Head, s: u64) -> Result<ModelGraph, ModelError> {
    let mut b = ModelGraphBuilder::new(model.name.clone());
    let mut x = embeddings(&mut b, model, token_types, s)?;
    for layer in 0..model.sizes.layers {
        b.layer(Some(layer as u32));
        let at = format!("bert.encoder.layer.{layer}");
        x = attention(&mut b, model, &at, x)?;
        x = feed_forward(&mut b, model, &at, x)?;
    }
    b.layer(None);
    match head {
        Head::Pretraining => masked_lm(&mut b, model, s, x),
        Head::Pooler => pooler(&mut b, model, x),
    }
}

fn norm(model: &Transformer) -> OpKind {
    OpKind::LayerNorm { dim: model.sizes.hidden, eps: model.norm_eps }
}

fn linear(model: &Transformer, inputs: u64, outputs: u64) -> OpKind {
    OpKind::Linear { inputs, outputs, bias: true, layout: WeightLayout::OutIn, init_std: model.init_std }
}

fn embeddings(b: &mut ModelGraphBuilder, model: &Transformer, token_types: u64, s: u64) -> Result<ValueId, ModelError> {
    let (dim, init_std) = (model.sizes.hidden, model.init_std);
    let ids = TensorType::batched(&[s], Dtype::I32);
    let tokens = b.input("tokens", InputRole::Tokens, ids.clone())?;
    let types = b.input("token_types", InputRole::TokenTypes, ids)?;
    let words = OpKind::Embedding { vocab: model.sizes.vocab, dim, init_std };
    let words = b.op("bert.embeddings.word_embeddings", words, &[tokens])?;
    let types_table = OpKind::Embedding { vocab: token_types, dim, init_std };
    let types = b.op("bert.embeddings.token_type_embeddings", types_table, &[types])?;
    let sum = b.op("bert.embeddings.sum", OpKind::Add, &[words, types])?;
    let positions = OpKind::PositionEmbedding { positions: model.sizes.positions, dim, init_std };
    let x = b.op("bert.embeddings.position_embeddings", positions, &[sum])?;
    b.op("bert.embeddings.LayerNorm", norm(model), &[x])
}

fn attention(b: &mut ModelGraphBuilder, model: &Transformer, at: &str, x: ValueId) -> Result<ValueId, ModelError> {
    let hidden = model.sizes.hidden;
    let mut project = |part| b.op(&format!("{at}.attention.self.{part}"), linear(model, hidden, hidden), &[x]);
    let (query, key, value) = (project("query")?, project("key")?, project("value")?);
    let attention = OpKind::Attention {
        heads: model.sizes.heads,
        head_dim: model.head_dim(),
        causal: false,
        input: AttentionInput::Separate,
    };
    let mixed = b.op(&format!("{at}.attention.self"), attention, &[query, key, value])?;
    let projected = b.op(&format!("{at}.attention.output.dense"), linear(model, hidden, hidden), &[mixed])?;
    let x = b.op(&format!("{at}.attention.output.residual"), OpKind::Add, &[projected, x])?;
    b.op(&format!("{at}.attention.output.LayerNorm"), norm(model), &[x])
}

fn feed_forward(b: &mut ModelGraphBuilder, model: &Transformer, at: &str, x: ValueId) -> Result<ValueId, ModelError> {
    let (hidden, inner) = (model.sizes.hidden, model.sizes.inner);
    let function = OpKind::Activation { function: model.activation };
    let wide = b.op(&format!("{at}.intermediate.dense"), linear(model, hidden, inner), &[x])?;
    let active = b.op(&format!("{at}.intermediate.act"), function, &[wide])?;
    let narrow = b.op(&format!("{at}.output.dense"), linear(model, inner, hidden), &[active])?;
    let x = b.op(&format!("{at}.output.residual"), OpKind::Add, &[narrow, x])?;
    b.op(&format!("{at}.output.LayerNorm"), norm(model), &[x])
}

fn masked_lm(b: &mut ModelGraphBuilder, model: &Transformer, s: u64, x: ValueId) -> Result<ModelGraph, ModelError> {
    let (hidden, vocab) = (model.sizes.hidden, model.sizes.vocab);
    let targets = b.input("targets", InputRole::MaskedTokens, TensorType::batched(&[s], Dtype::I32))?;
    let x = b.op("cls.predictions.transform.dense", linear(model, hidden, hidden), &[x])?;
    let x = b.op("cls.predictions.transform.act", OpKind::Activation { function: model.activation }, &[x])?;
    let x = b.op("cls.predictions.transform.LayerNorm", norm(model), &[x])?;
    let weight = if model.tied { "bert.embeddings.word_embeddings.weight" } else { "cls.predictions.decoder.weight" };
    let params = [weight, "cls.predictions.bias"];
    let logits = b.op_with_params("cls.predictions.decoder", linear(model, hidden, vocab), &[x], &params)?;
    let counted = (s * MASKED_PERCENT / 100).max(1);
    let loss = b.op("loss", OpKind::CrossEntropy { classes: vocab, counted }, &[logits, targets])?;
    b.loss(loss).build()
}

fn pooler(b: &mut ModelGraphBuilder, model: &Transformer, x: ValueId) -> Result<ModelGraph, ModelError> {
    let hidden = model.sizes.hidden;
    let first = b.op("bert.pooler.first_token", OpKind::SelectToken { index: 0 }, &[x])?;
    let dense = b.op("bert.pooler.dense", linear(model, hidden, hidden), &[first])?;
    let pooled = b.op("bert.pooler.act", OpKind::Activation { function: ActivationKind::Tanh }, &[dense])?;
    b.output(x).output(pooled).build()
}
