//! Checkpoints: the state of a training run in files, from which any plan of the same model can go on.
//!
//! A folder holds the last few checkpoints. One of them is a manifest, `step-00000020.json`, and the files that it names,
//! `step-00000020-rank-1-3f9c02ab77d1e645.safetensors`: one for each rank that had something to write. Each number is
//! written once, by one of the ranks that hold it, whatever the plan repeats; [`Piece`] says which numbers of which
//! parameter, so that another plan puts them together and cuts them anew.
//!
//! Files are written under other names, synchronised and renamed, the manifest last: a checkpoint is there when its manifest
//! is, and nothing that it names is ever written again (names hold a part of the content's SHA-256). So whatever happens
//! while one is written, the one before stays whole. [`Checkpoint::open`] reads every file through and compares checksums
//! before anything is believed.
//!
//! What is saved is all that a step depends on: weights, the means of the optimizer, the counts of steps, the loss scale,
//! the seed, and how many samples have been dealt. Randomness needs no state of its own: every random number follows from
//! the seed, a name and the number of a sample. On processors a resumed run is therefore the same to the last bit.

mod error;
mod manifest;
mod piece;
mod read;
mod shard;
#[cfg(test)]
mod tests;
mod write;

pub use error::CheckpointError;
pub use manifest::{DataPosition, Manifest, SavedLossScale, ShardFile};
pub use piece::{Part, Piece};
pub use read::Checkpoint;
pub use write::{CheckpointWriter, Disk, Storage, StorageFile};
