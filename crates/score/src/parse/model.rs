//! Models.

use serde::{Deserialize, Serialize};

use super::shapes::{Published, TransformerKind, canonical, published};
use super::words::{leading_number, number_after, says};
use crate::prediction::{Origin, Skip, TraceEntry};
use crate::row::Row;

/// How a transformer knows the order of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// A learned table.
    Learned,
    /// Rotation of queries and keys.
    Rotary,
    /// A bias of the scores (ALiBi).
    Alibi,
    /// A learned bias of the scores (T5).
    Relative,
}

/// A mixture of experts in place of the feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct MixtureOfExperts {
    /// Experts of a layer.
    pub experts: u64,
    /// Experts that see a token.
    pub top_k: u64,
    /// Width of an expert.
    pub ffn_hidden: u64,
}

/// A transformer's sizes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transformer {
    /// Name as the row gives it.
    pub name: String,
    /// Which kind.
    pub kind: TransformerKind,
    /// Repeated layers; of an encoder-decoder, those of each half.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Width of the feed-forward layer.
    pub ffn_hidden: u64,
    /// Vocabulary.
    pub vocab: u64,
    /// Whether the feed-forward layer is gated: three matrices instead of two.
    pub gated: bool,
    /// How it knows the order of its tokens.
    pub positions: Positions,
    /// Whether the head shares the word embedding.
    pub tied: bool,
    /// Experts, where there are any.
    pub experts: Option<MixtureOfExperts>,
    /// Where the sizes come from.
    pub trace: Vec<TraceEntry>,
}

/// What a row's model is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
pub enum RowModel {
    /// A transformer by its sizes.
    Transformer(Transformer),
    /// Another network by its usual name, in one spelling: `resnet-50`, `vgg-16`, `gnmt`.
    Named {
        /// The name.
        name: String,
    },
}

/// What a row's model is: its own columns first, then the published shape of its name.
///
/// # Errors
/// [`Skip`] `unknown-model` when neither tells the sizes, `unknown-experts` for a mixture of experts whose sizes are not
/// known.
pub fn model(row: &Row) -> Result<RowModel, Skip> {
    if let Some(name) = other_network(&row.model) {
        return Ok(RowModel::Named { name });
    }
    transformer(row).map(RowModel::Transformer)
}

/// Stacks whose layers the columns cannot tell, by words of their names.
const OTHER_STACKS: [(&[&str], &str, &str); 3] = [
    (
        &[
            "mamba",
            "nemotron3_",
            "nemotron3-",
            "nemotron-3-",
            "nemotron_3_",
            "nemotron-h",
            "nemotronh",
            "jamba",
            "zamba",
            "rwkv",
            "hybrid",
        ],
        "hybrid-layers",
        "the mix of its layers",
    ),
    (&["_mla", "deepseek-v", "deepseek_v", "deepseekv", "kimi"], "latent-attention", "the ranks of its attention"),
    // Tests of Megatron-Core that do not name the `multi-latent-attention` of their configurations.
    (
        &["ep4_etp1_memory_speed", "ep4_etp1_selective_recompute_experimental"],
        "latent-attention",
        "the ranks of its attention",
    ),
];

/// The transformer of a row.
///
/// # Errors
/// As [`model`], and `hybrid-layers` or `latent-attention` for stacks of other layers.
pub fn transformer(row: &Row) -> Result<Transformer, Skip> {
    let lower = row.model.to_ascii_lowercase();
    if let Some((_, reason, what)) = OTHER_STACKS.iter().find(|(words, _, _)| says(&lower, words)) {
        return Err(Skip::new(reason, format!("no column tells {what}: '{}'", row.model)));
    }
    let plain = plain_bert(row);
    let known = published(plain.unwrap_or(&row.model)).filter(|known| agrees(known, row));
    let missing = |column: &str| {
        Skip::new(
            "unknown-model",
            format!("column '{column}' is empty and '{}' is no published transformer", row.model),
        )
    };
    let size = |stated: Option<u64>, of: fn(&Published) -> u64, column: &str| {
        stated.or(known.map(of)).ok_or_else(|| missing(column))
    };
    let stated_layers = size(row.layers, |known| known.layers, "layers")?;
    let hidden = size(row.hidden, |known| known.hidden, "hidden")?;
    let heads = size(row.heads, |known| known.heads, "heads")?;
    let layers = of_each_half(&row.model, hidden, stated_layers);
    let kind = known.map_or_else(|| kind_of(&row.model), |known| known.kind);
    let mut trace = vec![origin_of_sizes(row, known)];
    if let Some(name) = plain {
        trace.push(TraceEntry { name: "size of the model".into(), value: name.to_owned(), origin: Origin::Assumed });
    }
    let experts = experts(row, known, &lower)?;
    let vocab = row.vocab.or(known.map(|known| known.vocab)).unwrap_or_else(|| {
        let usual = if kind == TransformerKind::Encoder { 30_522 } else { 51_200 };
        trace.push(assumed("vocabulary", usual));
        usual
    });
    let gated = known.map_or_else(|| is_gated(row, hidden, layers), Published::is_gated);
    let ffn_hidden = row.ffn_hidden.or(known.map(|known| known.ffn_hidden)).unwrap_or_else(|| {
        trace.push(assumed("feed-forward width", 4 * hidden));
        4 * hidden
    });
    let llama = says(&lower, GATED_FAMILIES);
    Ok(Transformer {
        name: row.model.clone(),
        kind,
        layers,
        hidden,
        heads,
        kv_heads: row.kv_heads.or(known.map(|known| known.kv_heads)).unwrap_or(heads),
        head_dim: known.and_then(|known| known.head_dim).unwrap_or(hidden / heads.max(1)).max(1),
        ffn_hidden,
        vocab,
        gated,
        positions: known.map_or_else(|| positions(&lower), |known| known.positions),
        tied: known.map_or(!llama, Published::is_tied),
        experts,
        trace,
    })
}

/// Layers of each half of an encoder-decoder. Descriptions of BART count both halves together: 12 of the base model, 24 of
/// the large one (Lewis et al. 2020, section 2.1).
fn of_each_half(model: &str, hidden: u64, stated: u64) -> u64 {
    let both = says(&model.to_ascii_lowercase(), &["bart"]) && [(768, 12), (1024, 24)].contains(&(hidden, stated));
    if both { stated / 2 } else { stated }
}

/// A row that says BERT and no size means the base model, as benchmarks of inference engines do.
fn plain_bert(row: &Row) -> Option<&'static str> {
    let name = row.model.split([' ', '(']).next().unwrap_or_default();
    (name.eq_ignore_ascii_case("bert") && row.layers.is_none()).then_some("bert-base")
}

/// A published shape stands in only where the row's own columns do not contradict it.
fn agrees(known: &Published, row: &Row) -> bool {
    let same = |stated: Option<u64>, published: u64| stated.is_none_or(|stated| stated == published);
    same(row.layers, known.layers) && same(row.hidden, known.hidden) && same(row.heads, known.heads)
}

fn origin_of_sizes(row: &Row, known: Option<&Published>) -> TraceEntry {
    let stated = row.layers.is_some() && row.hidden.is_some() && row.heads.is_some();
    let (value, origin) = match known {
        Some(known) if !stated => (known.source.clone(), Origin::Datasheet),
        _ => ("columns of the row".to_owned(), Origin::Stated),
    };
    TraceEntry { name: "sizes of the model".into(), value, origin }
}

fn assumed(name: &'static str, value: u64) -> TraceEntry {
    TraceEntry { name: name.into(), value: value.to_string(), origin: Origin::Assumed }
}

fn kind_of(model: &str) -> TransformerKind {
    let lower = model.to_ascii_lowercase();
    match () {
        () if says(&lower, &["t5", "bart", "pegasus", "nllb", "ul2", "encoder-decoder"]) => {
            TransformerKind::EncoderDecoder
        }
        () if says(&lower, &["bert", "electra", "vit-", "deit", "clip"]) => TransformerKind::Encoder,
        () => TransformerKind::Decoder,
    }
}

/// Families whose feed-forward layers are gated.
const GATED_FAMILIES: &[&str] = &[
    "llama", "mistral", "mixtral", "qwen", "gemma", "internlm", "deepseek", "baichuan", "vicuna", "yi-", "palm",
    "chatglm",
];

/// By the family; of other names by the parameters, where the row states them and the feed-forward width is not the four
/// times the hidden one of plain layers: three matrices of that width instead of two.
fn is_gated(row: &Row, hidden: u64, layers: u64) -> bool {
    if says(&row.model.to_ascii_lowercase(), GATED_FAMILIES) {
        return true;
    }
    let (Some(params), Some(ffn)) = (row.params, row.ffn_hidden) else { return false };
    if ffn == 4 * hidden {
        return false;
    }
    let embedding = row.vocab.unwrap_or(50_000) * hidden;
    let with = |matrices: u64| (layers * hidden * (4 * hidden + matrices * ffn) + embedding) as f64;
    (with(3) / params - 1.0).abs() < 0.5 * (with(2) / params - 1.0).abs()
}

fn positions(lower: &str) -> Positions {
    match () {
        () if says(lower, &["mpt", "bloom", "alibi"]) => Positions::Alibi,
        () if says(lower, GATED_FAMILIES) || says(lower, &["rope", "neox", "falcon"]) => Positions::Rotary,
        () if says(lower, &["t5"]) => Positions::Relative,
        () => Positions::Learned,
    }
}

fn experts(row: &Row, known: Option<&Published>, lower: &str) -> Result<Option<MixtureOfExperts>, Skip> {
    if let Some(stated) = stated_experts(row) {
        return Ok(Some(stated));
    }
    if let Some(known) = known {
        let all = known.experts.zip(known.top_k).zip(known.expert_ffn);
        return Ok(all.map(|((experts, top_k), ffn_hidden)| MixtureOfExperts { experts, top_k, ffn_hidden }));
    }
    let mixture =
        row.ep.is_some_and(|ep| ep > 1) || says(lower, &["moe", "mixtral", "experts", "switch", "_a3b", "-a3b"]);
    if mixture {
        return Err(Skip::new("unknown-experts", format!("'{}' is a mixture of experts of unknown sizes", row.model)));
    }
    Ok(None)
}

/// Experts as notes say them: `MoE experts=8 topk=2 moe_ffn=None`; without a width of their own, the row's.
fn stated_experts(row: &Row) -> Option<MixtureOfExperts> {
    let notes = row.notes.to_ascii_lowercase();
    let (_, rest) = notes.split_once("experts=")?;
    let clause = rest.split(';').next().unwrap_or_default();
    let experts = leading_number(clause)?;
    let top_k = number_after(clause, &["topk=", "top_k=", "topk ", "top-k "])?;
    let own = number_after(clause, &["moe_ffn=", "moe_ffn_hidden=", "expert_ffn="]);
    let ffn_hidden = own.or(row.ffn_hidden).or(row.hidden.map(|hidden| hidden.saturating_mul(4)))?;
    (experts > 0 && top_k > 0 && ffn_hidden > 0).then_some(MixtureOfExperts { experts, top_k, ffn_hidden })
}

/// Networks that are no plain stack of transformer layers, in one spelling.
fn other_network(model: &str) -> Option<String> {
    const NETWORKS: [&str; 52] = [
        "transformerxlbase",
        "transformerxllarge",
        "transformerxl",
        "transgan",
        "resnext101",
        "seresnext101",
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnet200",
        "vgg11",
        "vgg16",
        "vgg19",
        "alexnet",
        "inceptionv1",
        "inceptionv3",
        "inceptionv4",
        "googlenet",
        "densenet121",
        "densenet161",
        "mobilenetv2",
        "efficientnet",
        "amoebanet",
        "unet",
        "ssd",
        "maskrcnn",
        "gnmt",
        "ncf",
        "tacotron2",
        "waveglow",
        "fastpitch",
        "resnext50",
        "wideresnet",
        "inceptionresnet",
        "vgg13",
        "squeezenet",
        "mobilenet",
        "densenet",
        "mnist",
        "vitb16",
        "vitb32",
        "vitl16",
        "convnext",
        "yolo",
        "retinanet",
        "fasterrcnn",
        "deeplab",
        "dlrm",
        "stablediffusion",
        "deepspeech",
    ];
    let name = canonical(model).replace("vitbasepatch", "vitb").replace("vitlargepatch", "vitl");
    let found = NETWORKS.into_iter().filter(|network| name.contains(network)).max_by_key(|network| network.len())?;
    Some(spelled(found))
}

/// `resnet50` as `resnet-50`, `inceptionv3` as `inception-v3`.
fn spelled(name: &str) -> String {
    let digits = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let word = name.strip_suffix(digits).unwrap_or(name);
    match (word, digits) {
        ("transformerxl", _) => "transformer-xl".to_owned(),
        ("transformerxlbase", _) => "transformer-xl-base".to_owned(),
        ("transformerxllarge", _) => "transformer-xl-large".to_owned(),
        (word, "") => word.to_owned(),
        (word, digits) => match word.strip_suffix('v') {
            Some(word) => format!("{word}-v{digits}"),
            None => format!("{word}-{digits}"),
        },
    }
}
