//! All tests of this crate in one program, which builds and links once: hardware, models, importers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod clusters;
mod hardware;
mod huggingface;
mod models;
mod mutations;
mod onnx;
mod onnx_hostile;
mod placement;
mod support;
mod text;
mod topologies;
mod weights;
