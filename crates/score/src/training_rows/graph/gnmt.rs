//! GNMT as NVIDIA's examples and MLPerf train it: four layers of each half, the first encoder layer in both directions, and
//! an attention that sees the first decoder layer's output alone, so that all steps of a layer are one call.

use cutplane_graph::{
    AdditiveAttention, Cell, Concat, Dropout, Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder, OpKind,
    Recurrent, TensorType, ValueId, WeightLayout,
};

/// Width.
const UNITS: u64 = 1024;
/// Word pieces, padded to a multiple of 8.
const VOCABULARY: u64 = 32_320;
/// Layers of each half.
const LAYERS: u64 = 4;
/// Steps of source and target in a batch: sentences of WMT 2016 English-German have 27 word pieces on average (sentences
/// beyond 50 are dropped), and batches of like sentences are padded to their longest. Assumed.
const STEPS: u64 = 32;
/// Tokens that a sample counts in a throughput: source and target without padding. Assumed.
pub(super) const TOKENS_PER_SAMPLE: f64 = 54.0;
/// Deviation of the steps in a replica's batch over their mean: buckets are 10 steps wide, and lengths spread evenly over
/// one deviate by 10 / sqrt(12) steps. Assumed.
pub(super) const LENGTH_DEVIATION: f64 = 2.9 / 32.0;
/// Share that dropout removes before each layer.
const DROPOUT: f64 = 0.2;
/// One table serves both halves and the classifier.
const EMBEDDING: &str = "embedding.weight";
/// Standard deviation of initial weights; costs do not depend on it.
const INIT_STD: f64 = 0.1;

/// The graph for samples of [`STEPS`] steps.
pub(super) fn graph() -> Result<ModelGraph, ModelError> {
    let mut b = ModelGraphBuilder::new("gnmt-v2");
    let ids = TensorType::batched(&[STEPS], Dtype::I32);
    let source = b.input("tokens", InputRole::Tokens, ids.clone())?;
    let target = b.input("decoder_tokens", InputRole::DecoderTokens, ids.clone())?;
    let labels = b.input("targets", InputRole::NextTokens, ids)?;
    let memory = encoder(&mut b, source)?;
    let x = decoder(&mut b, target, memory)?;
    let parameters = [EMBEDDING, "decoder.classifier.bias"];
    let logits = b.op_with_params("decoder.classifier", linear(UNITS, VOCABULARY), &[x], &parameters)?;
    let loss = b.op("loss", OpKind::CrossEntropy { classes: VOCABULARY, counted: STEPS }, &[logits, labels])?;
    b.loss(loss).build()
}

fn linear(inputs: u64, outputs: u64) -> OpKind {
    OpKind::Linear { inputs, outputs, bias: true, layout: WeightLayout::OutIn, init_std: INIT_STD }
}

fn embed(b: &mut ModelGraphBuilder, half: &str, ids: ValueId) -> Result<ValueId, ModelError> {
    let table = OpKind::Embedding { vocab: VOCABULARY, dim: UNITS, init_std: INIT_STD };
    let x = b.op_with_params(&format!("{half}.embedding"), table, &[ids], &[EMBEDDING])?;
    dropout(b, &format!("{half}.embedding.dropout"), x)
}

fn dropout(b: &mut ModelGraphBuilder, name: &str, x: ValueId) -> Result<ValueId, ModelError> {
    b.op(name, OpKind::Dropout(Dropout { probability: DROPOUT }), &[x])
}

fn lstm(b: &mut ModelGraphBuilder, name: &str, x: ValueId, reverse: bool) -> Result<ValueId, ModelError> {
    let inputs = b.type_of(x).last();
    let kind = Recurrent { reverse, ..Recurrent::new(Cell::Lstm, inputs, UNITS) };
    b.op(name, OpKind::Recurrent(kind), &[x])
}

fn side_by_side(b: &mut ModelGraphBuilder, name: &str, values: &[ValueId]) -> Result<ValueId, ModelError> {
    b.op(name, OpKind::Concat(Concat { axis: 1, values: values.len() }), values)
}

fn encoder(b: &mut ModelGraphBuilder, ids: ValueId) -> Result<ValueId, ModelError> {
    let x = embed(b, "encoder", ids)?;
    b.layer(Some(0));
    let both = [lstm(b, "encoder.0", x, false)?, lstm(b, "encoder.0.reverse", x, true)?];
    let mut x = side_by_side(b, "encoder.0.concat", &both)?;
    for layer in 1..LAYERS {
        b.layer(Some(layer as u32));
        let at = format!("encoder.{layer}");
        let y = dropout(b, &format!("{at}.dropout"), x)?;
        let y = lstm(b, &at, y, false)?;
        x = if layer > 1 { b.op(&format!("{at}.residual"), OpKind::Add, &[y, x])? } else { y };
    }
    b.layer(None);
    Ok(x)
}

fn decoder(b: &mut ModelGraphBuilder, ids: ValueId, memory: ValueId) -> Result<ValueId, ModelError> {
    let x = embed(b, "decoder", ids)?;
    b.layer(Some(LAYERS as u32));
    let first = lstm(b, "decoder.0", x, false)?;
    let query = b.op("decoder.attention.query", linear(UNITS, UNITS), &[first])?;
    let keys = b.op("decoder.attention.keys", linear(UNITS, UNITS), &[memory])?;
    let kind = AdditiveAttention { units: UNITS, normed: true, bias: true };
    let context = b.op("decoder.attention", OpKind::AdditiveAttention(kind), &[query, keys, memory])?;
    let mut x = first;
    for layer in 1..LAYERS {
        b.layer(Some((LAYERS + layer) as u32));
        let at = format!("decoder.{layer}");
        let y = side_by_side(b, &format!("{at}.concat"), &[x, context])?;
        let y = dropout(b, &format!("{at}.dropout"), y)?;
        let y = lstm(b, &at, y, false)?;
        x = if layer > 1 { b.op(&format!("{at}.residual"), OpKind::Add, &[y, x])? } else { y };
    }
    b.layer(None);
    Ok(x)
}
