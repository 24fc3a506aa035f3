//! Training data: text to tokens to samples to the inputs of a micro-batch; or samples that are made up.
//!
//! [`TextData`] holds the tokens of a text; [`Batches`] deals them out. Which sample stands at which position of which
//! step's global batch depends on the seed alone, never on the plan: a plan only decides which rank works on a position.
//! So two plans of one model see the same samples, and their losses can be compared.

mod batches;
mod characters;
mod dense;
mod error;
mod random;
mod roles;
mod sample;
mod text;

pub use batches::Batches;
pub use error::DataError;
pub(crate) use random::SplitMix;
pub use text::TextData;
