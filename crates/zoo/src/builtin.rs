//! The models that need no file.

use cutplane_graph::ActivationKind;

use crate::transformer::{Head, Kind, Sizes, Transformer};

/// Model family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Decoder trained on the next token.
    Gpt,
    /// Encoder trained on masked tokens.
    Bert,
}

impl Family {
    /// Its name in tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Gpt => "GPT",
            Self::Bert => "BERT",
        }
    }
}

/// A model of the zoo.
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltInModel {
    /// The name to give on the command line.
    pub name: &'static str,
    /// Its family.
    pub family: Family,
    /// One line for people.
    pub description: &'static str,
    /// Tokens a sample when nothing else is asked.
    pub default_sequence_length: u64,
    /// Trainable parameters as published, where they are; tests hold the graph to it.
    pub published_parameters: Option<u64>,
    /// layers, hidden, heads, vocabulary, positions
    sizes: [u64; 5],
    head: Head,
}

const WORDPIECE: u64 = 30_522;
const GPT2_BPE: u64 = 50_257;
/// One token a byte; no text holds byte 0, so it can stand for a masked token.
const BYTES: u64 = 256;

const fn gpt(
    name: &'static str,
    description: &'static str,
    sizes: [u64; 5],
    published_parameters: Option<u64>,
) -> BuiltInModel {
    let default_sequence_length = sizes[4];
    let (family, head) = (Family::Gpt, Head::Pretraining);
    BuiltInModel { name, family, description, default_sequence_length, published_parameters, sizes, head }
}

const fn bert(
    name: &'static str,
    description: &'static str,
    sizes: [u64; 5],
    head: Head,
    published_parameters: Option<u64>,
) -> BuiltInModel {
    let default_sequence_length = if sizes[4] < 128 { sizes[4] } else { 128 };
    let family = Family::Bert;
    BuiltInModel { name, family, description, default_sequence_length, published_parameters, sizes, head }
}

static MODELS: [BuiltInModel; 12] = [
    gpt("gpt-nano", "0.2 M, bytes: for tests", [4, 64, 4, BYTES, 64], None),
    gpt("gpt-mini", "14 M, bytes: trains on this machine's cores", [8, 384, 6, BYTES, 256], None),
    gpt("gpt2", "GPT-2 small", [12, 768, 12, GPT2_BPE, 1024], Some(124_439_808)),
    gpt("gpt2-medium", "GPT-2 medium", [24, 1024, 16, GPT2_BPE, 1024], Some(354_823_168)),
    gpt("gpt2-large", "GPT-2 large", [36, 1280, 20, GPT2_BPE, 1024], Some(774_030_080)),
    gpt("gpt2-xl", "GPT-2 extra large", [48, 1600, 25, GPT2_BPE, 1024], Some(1_557_611_200)),
    bert("bert-nano", "0.2 M, bytes, masked LM: for tests", [4, 64, 4, BYTES, 64], Head::Pretraining, None),
    bert(
        "bert-mini",
        "11 M, bytes, masked LM: trains on this machine's cores",
        [6, 384, 6, BYTES, 256],
        Head::Pretraining,
        None,
    ),
    bert("bert-base", "BERT base with the masked-LM head", BASE, Head::Pretraining, Some(109_514_298)),
    bert("bert-large", "BERT large with the masked-LM head", LARGE, Head::Pretraining, Some(335_174_458)),
    bert("bert-base-encoder", "BERT base with the pooler, no loss", BASE, Head::Pooler, Some(109_482_240)),
    bert("bert-large-encoder", "BERT large with the pooler, no loss", LARGE, Head::Pooler, Some(335_141_888)),
];

const BASE: [u64; 5] = [12, 768, 12, WORDPIECE, 512];
const LARGE: [u64; 5] = [24, 1024, 16, WORDPIECE, 512];

/// All models that need no file.
pub fn built_in_models() -> &'static [BuiltInModel] {
    &MODELS
}

/// The built-in model of this name.
pub(crate) fn find(name: &str) -> Option<&'static BuiltInModel> {
    MODELS.iter().find(|model| model.name == name)
}

/// All names, for messages.
pub(crate) fn names() -> String {
    MODELS.iter().map(|model| model.name).collect::<Vec<_>>().join(", ")
}

impl BuiltInModel {
    pub(crate) fn transformer(&self) -> Transformer {
        let [layers, hidden, heads, vocab, positions] = self.sizes;
        let (kind, activation, norm_eps) = match self.family {
            Family::Gpt => (Kind::Gpt, ActivationKind::GeluTanh, 1e-5),
            Family::Bert => (Kind::Bert { token_types: 2, head: self.head }, ActivationKind::Gelu, 1e-12),
        };
        Transformer {
            name: self.name.to_owned(),
            kind,
            sizes: Sizes { layers, hidden, heads, inner: 4 * hidden, vocab, positions },
            activation,
            norm_eps,
            init_std: 0.02,
            tied: true,
        }
    }
}
