//! The bytes of an ONNX file give a graph or an error.
#![no_main]

use cutplane_zoo::{OnnxOptions, onnx_from_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let options = OnnxOptions { sequence_length: Some(8), ..OnnxOptions::default() };
    let _ = onnx_from_bytes("fuzz.onnx", bytes, &options);
});
