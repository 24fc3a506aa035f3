//! The text of a cluster file gives a cluster or an error.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = cutplane_zoo::cluster_from_text(Path::new("fuzz.toml"), text);
});
