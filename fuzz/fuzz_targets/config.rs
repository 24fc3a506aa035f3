//! A Hugging Face `config.json` of any content gives a graph or an error.
#![no_main]

use cutplane_graph::{ModelSource, Overrides};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = serde_json::from_str(text) {
        let source = ModelSource::HuggingFace { config, overrides: Overrides::default(), sequence_length: 4 };
        let _ = cutplane_zoo::build(&source);
    }
});
