//! The figures, one function each.

mod breakdown;
mod fidelity;
mod gantt;
mod loss;
mod memory;
mod profile;
mod scatter;

pub use breakdown::{BreakdownBars, breakdown, breakdown_size, mean_breakdown};
pub use fidelity::{FIDELITY_SIZE, Fidelity, FidelityPoint, fidelity};
pub use gantt::{gantt, gantt_size};
pub use loss::{LOSS_SIZE, LossCurve, loss_curves};
pub use memory::{memory, memory_size};
pub use profile::{PROFILE_SIZE, link_curves, matmul_curves};
pub use scatter::{SCATTER_SIZE, scatter};
