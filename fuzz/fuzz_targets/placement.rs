//! The text of a placement workload gives a problem or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = cutplane_zoo::placement_from_str("fuzz.json", text);
});
