//! The figures, one function each.

mod breakdown;
mod curves;
mod device_map;
mod fidelity;
mod gantt;
mod groups;
mod heat_map;
mod loss;
mod memory;
mod profile;
mod scatter;
mod stacks;

pub use breakdown::{BreakdownBars, breakdown, breakdown_size, mean_breakdown};
pub use curves::{CURVES_SIZE, Curve, Curves, curves};
pub use device_map::{DeviceMap, MappedDevice, MappedHost, device_map, device_map_size};
pub use fidelity::{FIDELITY_SIZE, Fidelity, FidelityPoint, fidelity};
pub use gantt::{gantt, gantt_size};
pub use groups::{BarGroup, GroupedBars, Pair, grouped_bars, grouped_bars_size};
pub use heat_map::{Cell, HeatMap, heat_map, heat_map_size};
pub use loss::{LOSS_SIZE, LossCurve, loss_curves};
pub use memory::{memory, memory_size};
pub use profile::{PROFILE_SIZE, link_curves, matmul_curves};
pub use scatter::{SCATTER_SIZE, scatter};
pub use stacks::{Stack, Stacks, stacks, stacks_size};
