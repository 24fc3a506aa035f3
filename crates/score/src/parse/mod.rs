//! From the texts of a row to types: what each says, or a named reason why it is not understood. Empty texts are unknown
//! (`None`), which a predictor may fill with a stated assumption.

mod degrees;
mod fabric;
mod flags;
mod hardware;
mod interconnect;
mod model;
mod precision;
mod recompute;
mod shapes;
mod sharding;
mod software;
pub(crate) mod words;

pub use degrees::{Degrees, degrees};
pub use fabric::{RowFabric, fabric};
pub use flags::{AttentionChoice, SequenceParallel, attention, sequence_parallel};
pub use hardware::device;
pub use interconnect::{Between, BetweenKind, Inside, InsideKind, Interconnect, NetworkBandwidth, interconnect};
pub use model::{MixtureOfExperts, Positions, RowModel, Transformer, model, transformer};
pub use precision::{Precision, Products, precision};
pub use recompute::{Recompute, recompute};
pub use shapes::TransformerKind;
pub use sharding::{Server, Sharding, sharding};
pub use software::{Software, SoftwareFamily, software};
