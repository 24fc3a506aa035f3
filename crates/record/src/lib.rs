//! What is predicted and what is measured, in the same types, so that comparing is joining.
//!
//! - [`Timeline`]: one [`Span`] an executed instruction; the simulator and the runtime's profiler both make it.
//! - [`Comparison`]: a predicted and a measured timeline of one program, joined on instruction id.
//! - [`Measurement`]: one row of a CSV record, with [`Provenance`]; predicted and measured rows differ in one column.
//!   [`Neighbours`] says what other programs took of the machine meanwhile.
//! - [`DeviceProfile`]: what was measured of a device and of the links between ranks; the simulator's input.

mod compare;
mod error;
mod measurement;
mod neighbours;
mod profile;
mod provenance;
mod timeline;

pub use compare::{Comparison, InstructionPair, spearman};
pub use error::RecordError;
pub use measurement::{Measurement, Summary, append_measurements, read_measurements};
pub use neighbours::Neighbours;
pub use profile::{
    AllReducePoint, ContentionPoint, DeviceProfile, LinkClass, MessagePoint, OperatorCurve, OperatorPoint,
    OptimizerPoint, PROFILE_FORMAT, PROFILE_VERSION, ProcessLinks, StagedLinks, read_profile, write_profile,
};
pub use provenance::Provenance;
pub use timeline::{Breakdown, Source, Span, Timeline};
