//! Numbers of PyTorch: every operator, and a small model of each family, gives what `torch` and `transformers` give.
//! `tools/make_goldens.py` makes the files, each of which holds the versions that it was made with.

mod file;
mod models;
mod operators;
mod zoo;

/// Largest difference that is allowed, relative to the largest number of the tensor.
const TOLERANCE: f32 = 1e-4;
