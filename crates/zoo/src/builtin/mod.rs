//! The models that need no file.

mod bidirectional;
mod decoders;
mod gpt;
mod images;
mod llama;
mod recurrent;

use std::sync::LazyLock;

use crate::recipe::Recipe;
use crate::recurrent::{Elmo, Gnmt, Network};
use crate::transformer::{Decoder, Encoder, EncoderDecoder, TransformerXl};
use crate::vision;

/// Model family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Decoder trained on the next token, with learned positions or ALiBi.
    Gpt,
    /// Decoder with rotary positions.
    Llama,
    /// Encoder trained on masked tokens.
    Bert,
    /// Encoder-decoder transformer.
    T5,
    /// Recurrent network.
    Recurrent,
    /// Convolutional network.
    Convolutional,
    /// Vision transformer.
    Vision,
}

impl Family {
    /// Its name in tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Gpt => "GPT",
            Self::Llama => "Llama",
            Self::Bert => "BERT",
            Self::T5 => "T5",
            Self::Recurrent => "recurrent",
            Self::Convolutional => "convolutional",
            Self::Vision => "vision transformer",
        }
    }
}

/// Where the sizes of a model come from.
#[derive(Clone, Copy, Debug)]
enum Blueprint {
    Decoder(fn() -> Decoder),
    Encoder(fn() -> Encoder),
    EncoderDecoder(fn() -> EncoderDecoder),
    TransformerXl(fn() -> TransformerXl),
    Network(fn() -> Network),
    Gnmt(fn() -> Gnmt),
    Elmo(fn() -> Elmo),
    Image(vision::ImageModel),
}

/// A model of the zoo.
#[derive(Clone, Debug)]
pub struct BuiltInModel {
    /// The name to give on the command line.
    pub name: &'static str,
    /// Its family.
    pub family: Family,
    /// One line for people.
    pub description: &'static str,
    /// Tokens a sample when nothing else is asked; 1 for images.
    pub default_sequence_length: u64,
    /// Trainable parameters as published, where they are; tests hold the graph to it.
    pub published_parameters: Option<u64>,
    blueprint: Blueprint,
}

impl BuiltInModel {
    const fn new(
        name: &'static str,
        description: &'static str,
        (family, blueprint): (Family, Blueprint),
        default_sequence_length: u64,
        published: u64,
    ) -> Self {
        let published_parameters = if published == 0 { None } else { Some(published) };
        Self { name, family, description, default_sequence_length, published_parameters, blueprint }
    }

    /// Everything that decides its graph, under its own name.
    pub(crate) fn recipe(&self) -> Box<dyn Recipe> {
        let name = self.name.to_owned();
        match self.blueprint {
            Blueprint::Decoder(make) => Box::new(Decoder { name, ..make() }),
            Blueprint::Encoder(make) => Box::new(Encoder { name, ..make() }),
            Blueprint::EncoderDecoder(make) => Box::new(EncoderDecoder { name, ..make() }),
            Blueprint::TransformerXl(make) => Box::new(TransformerXl { name, ..make() }),
            Blueprint::Network(make) => Box::new(Network { name, ..make() }),
            Blueprint::Gnmt(make) => Box::new(Gnmt { name, ..make() }),
            Blueprint::Elmo(make) => Box::new(Elmo { name, ..make() }),
            Blueprint::Image(model) => Box::new(model),
        }
    }
}

const fn gpt(make: fn() -> Decoder) -> (Family, Blueprint) {
    (Family::Gpt, Blueprint::Decoder(make))
}

const fn llama(make: fn() -> Decoder) -> (Family, Blueprint) {
    (Family::Llama, Blueprint::Decoder(make))
}

static MODELS: LazyLock<Vec<BuiltInModel>> = LazyLock::new(|| {
    let lists = [
        gpt::models(),
        decoders::models(),
        llama::models(),
        bidirectional::models(),
        recurrent::models(),
        images::models(),
    ];
    lists.into_iter().flatten().collect()
});

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
