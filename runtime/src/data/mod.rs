//! Training data: text, tokens and pictures to samples to the inputs of a micro-batch; or samples that are made up.
//!
//! [`TextData`] holds the tokens of a text, [`TokenFile`] those of a file that may be larger than memory, [`Pictures`]
//! pictures with their classes; [`Batches`] deals them out, and each rank has a thread that makes the inputs of its next
//! micro-batches while the rank computes. Which sample stands at which position of which
//! step's global batch depends on the seed alone, never on the plan: a plan only decides which rank works on a position.
//! So two plans of one model see the same samples, and their losses can be compared.

mod batches;
mod characters;
mod dense;
mod error;
mod pictures;
mod prefetch;
mod random;
mod read;
mod roles;
mod sample;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod tokens;

pub use batches::{Batches, Inputs};
pub use error::DataError;
pub use pictures::Pictures;
pub(crate) use prefetch::{Portion, Prefetch};
pub(crate) use random::SplitMix;
pub use text::TextData;
pub use tokens::{TokenFile, TokenFormat};
