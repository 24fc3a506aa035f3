//! Hugging Face `config.json`: the fields that decide a graph, with the defaults of `transformers`.
//!
//! Unknown fields are ignored, known ones are checked, and a value that would make another model than the one that can be
//! built is refused. A config gets the head that its family is pre-trained with, because that is what can be trained; an
//! encoder whose architecture is the bare model gets its pooler.

mod decoders;
mod encoders;
mod fields;
mod llama;

use serde_json::Value;

use crate::error::ZooError;
use crate::limits::field_error;
use crate::recipe::Recipe;
use fields::{Fields, shortened, type_name};

type Reader = fn(&Fields<'_>) -> Result<Box<dyn Recipe>, ZooError>;

/// `model_type`s that can be read.
static KNOWN: [(&str, Reader); 15] = [
    ("gpt2", decoders::gpt2),
    ("gpt_neox", decoders::gpt_neox),
    ("opt", decoders::opt),
    ("mpt", decoders::mpt),
    ("falcon", decoders::falcon),
    ("phi", decoders::phi),
    ("llama", llama::llama),
    ("mistral", llama::mistral),
    ("mixtral", llama::mixtral),
    ("qwen2", llama::qwen2),
    ("qwen3", llama::qwen3),
    ("gemma", llama::gemma),
    ("bert", encoders::bert),
    ("roberta", encoders::roberta),
    ("t5", encoders::t5),
];

/// The `model_type`s of `config.json` that can be read.
pub fn hugging_face_types() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

/// Reads a parsed `config.json`; `origin` names it in messages.
pub(crate) fn recipe(origin: &str, config: &Value) -> Result<Box<dyn Recipe>, ZooError> {
    let Some(map) = config.as_object() else {
        let problem = format!("is {}, not an object", type_name(config));
        return Err(field_error(origin, "(whole file)", problem, "give a Hugging Face config.json"));
    };
    let fields = Fields { origin, map };
    let known = || hugging_face_types().collect::<Vec<_>>().join(", ");
    let Some(given) = fields.text("model_type")? else {
        return Err(fields.refuse("model_type", "is missing".to_owned(), &format!("add one of {}", known())));
    };
    if let Some((_, read)) = KNOWN.iter().find(|(name, _)| *name == given) {
        return read(&fields);
    }
    Err(fields.refuse("model_type", format!("is '{}'", shortened(given)), &format!("known are {}", known())))
}
