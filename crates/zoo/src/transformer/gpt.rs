//! GPT-2 (Radford et al. 2019): pre-norm decoder with learned positions and a tied head, parameters named and laid out
//! as in Hugging Face's `gpt2` checkpoints.

use cutplane_graph::{
    AttentionInput, Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder, OpKind, TensorType, ValueId,
    WeightLayout,
};

use super::Transformer;

/// The graph for samples of `s` tokens: `tokens [s]` and `targets [s]` (the next tokens) to the mean cross-entropy.
pub(super) fn graph(model: &Transformer, s: u64) -> Result<ModelGraph, ModelError> {
    let sizes = model.sizes;
    let (dim, init_std) = (sizes.hidden, model.init_std);
    let mut b = ModelGraphBuilder::new(model.name.clone());
    let tokens = b.input("tokens", InputRole::Tokens, TensorType::batched(&[s], Dtype::I32))?;
    let targets = b.input("targets", InputRole::NextTokens, TensorType::batched(&[s], Dtype::I32))?;
    let words = b.op("wte", OpKind::Embedding { vocab: sizes.vocab, dim, init_std }, &[tokens])?;
    let mut x = b.op("wpe", OpKind::PositionEmbedding { positions: sizes.positions, dim, init_std }, &[words])?;
    for layer in 0..sizes.layers {
        b.layer(Some(layer as u32));
        x = block(&mut b, model, &format!("h.{layer}"), x)?;
    }
    b.layer(None);
    let normed = b.op("ln_f", norm(model), &[x])?;
    let head = OpKind::Linear { inputs: dim, outputs: sizes.vocab, bias: false, layout: WeightLayout::OutIn, init_std };
    let weight = if model.tied { "wte.weight" } else { "lm_head.weight" };
    let logits = b.op_with_params("lm_head", head, &[normed], &[weight])?;
    let loss = b.op("loss", OpKind::CrossEntropy { classes: sizes.vocab, counted: s }, &[logits, targets])?;
    b.loss(loss).build()
}

fn norm(model: &Transformer) -> OpKind {
    OpKind::LayerNorm { dim: model.sizes.hidden, eps: model.norm_eps }
}

/// One block. Projections into the residual stream start at `std / sqrt(2 layers)`, as the paper says in section 2.3.
fn block(b: &mut ModelGraphBuilder, model: &Transformer, at: &str, x: ValueId) -> Result<ValueId, ModelError> {
    let (hidden, inner) = (model.sizes.hidden, model.sizes.inner);
    let conv1d = |inputs, outputs, init_std| OpKind::Linear {
        inputs,
        outputs,
        bias: true,
        layout: WeightLayout::InOut,
        init_std,
    };
    let std = model.init_std;
    let residual_std = std / (2.0 * model.sizes.layers as f64).sqrt();
    let attention = OpKind::Attention {
        heads: model.sizes.heads,
        head_dim: model.head_dim(),
        causal: true,
        input: AttentionInput::Packed,
    };
    let normed = b.op(&format!("{at}.ln_1"), norm(model), &[x])?;
    let packed = b.op(&format!("{at}.attn.c_attn"), conv1d(hidden, 3 * hidden, std), &[normed])?;
    let mixed = b.op(&format!("{at}.attn"), attention, &[packed])?;
    let projected = b.op(&format!("{at}.attn.c_proj"), conv1d(hidden, hidden, residual_std), &[mixed])?;
    let x = b.op(&format!("{at}.attn.residual"), OpKind::Add, &[projected, x])?;
    let normed = b.op(&format!("{at}.ln_2"), norm(model), &[x])?;
    let wide = b.op(&format!("{at}.mlp.c_fc"), conv1d(hidden, inner, std), &[normed])?;
    let active = b.op(&format!("{at}.mlp.act"), OpKind::Activation { function: model.activation }, &[wide])?;
    let narrow = b.op(&format!("{at}.mlp.c_proj"), conv1d(inner, hidden, residual_std), &[active])?;
    b.op(&format!("{at}.mlp.residual"), OpKind::Add, &[narrow, x])
}
