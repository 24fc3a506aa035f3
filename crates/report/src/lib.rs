//! Reports: figures, tables, traces and pages that show prediction and measurement side by side.
//!
//! - [`save`] draws a figure twice, as SVG and as PNG, and writes each file whole or not at all. A figure is one
//!   function over a [`Canvas`], which stands for any plotters back end: [`scatter`], [`fidelity`], [`gantt`], [`breakdown`],
//!   [`memory`], [`loss_curves`], [`link_curves`], [`matmul_curves`], [`curves`], [`grouped_bars`], [`stacks`], [`heat_map`], [`device_map`].
//! - [`compare_table`] and [`table`] make plain text; [`CompareRow`] and [`CompareSummary`] hold what is compared.
//! - [`write_trace`] makes a file for Chrome's tracing page and Perfetto.
//! - [`write_page`] makes one HTML file with table and figures.
//!
//! PNG text is drawn in an embedded font, so figures look the same on a machine without fonts.
//!
//! ```
//! use cutplane_report::{CompareRow, SCATTER_SIZE, save, scatter};
//! use cutplane_units::{Bytes, Nanos};
//!
//! let row = |name: &str, predicted: u64, measured: u64| CompareRow {
//!     name: name.to_owned(),
//!     chosen: name == "dp2",
//!     predicted_step: Nanos::new(predicted),
//!     measured_step: Nanos::new(measured),
//!     measured_mad: Nanos::ZERO,
//!     tokens_per_step: 4096,
//!     predicted_memory: Bytes::new(1 << 28),
//!     measured_memory: Bytes::new(1 << 28),
//! };
//! let rows = [row("single", 812_000_000, 797_000_000), row("dp2", 421_000_000, 414_000_000)];
//! let folder = tempfile::tempdir()?;
//! let saved = save(&folder.path().join("scatter"), SCATTER_SIZE, |canvas| scatter(canvas, &rows))?;
//! assert!(saved.svg.ends_with("scatter.svg") && saved.png.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chart;
mod compare;
mod error;
mod figures;
mod html;
mod lookup;
mod table;
mod trace;

pub use chart::{Activity, Canvas, Rendering, Saved, Size, save, svg};
pub use compare::{CompareRow, CompareSummary};
pub use error::ReportError;
pub use figures::{
    BarGroup, BreakdownBars, CURVES_SIZE, Cell, Curve, Curves, DeviceMap, FIDELITY_SIZE, Fidelity, FidelityPoint,
    GroupedBars, HeatMap, LOSS_SIZE, LossCurve, MappedDevice, MappedHost, PROFILE_SIZE, Pair, SCATTER_SIZE, Stack,
    Stacks, breakdown, breakdown_size, curves, device_map, device_map_size, fidelity, gantt, gantt_size, grouped_bars,
    grouped_bars_size, heat_map, heat_map_size, link_curves, loss_curves, matmul_curves, mean_breakdown, memory,
    memory_size, scatter, stacks, stacks_size,
};
pub use html::{Page, page_html, write_page};
pub use table::{Align, compare_table, compare_table_within, table};
pub use trace::{trace_json, write_trace};
