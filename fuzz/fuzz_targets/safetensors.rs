//! The first bytes of a safetensors file give a table of tensors or an error.
#![no_main]

use std::path::Path;

use cutplane_zoo::weights::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Checkpoint::of_table(Path::new("fuzz.safetensors"), bytes, bytes.len() as u64);
});
