//! Experiments of papers as data: definitions, the harness that runs them, records, claims, figures and the page.
//!
//! An experiment is a folder with a `definition.toml` ([`Definition`]): what a paper printed, what is asked for, what must
//! hold. [`run()`] predicts every case and appends it to dated records; [`judge`] says which claims hold; [`draw`] makes
//! figures of records; [`page`] tells all of them. What can be asked for is a [`Kind`]: parameters and metrics by name.

mod cases;
mod claim;
mod definition;
mod draw;
mod error;
mod figure;
mod kinds;
mod page;
pub mod published;
pub mod record;
mod run;
mod twin;
mod value;

pub use cases::{Case, Size, cases};
pub use claim::{Check, Claim, OneOrMany, Statistic, TwinClaim, Verdict};
pub use definition::{
    DEFINITION_FILE, Definition, Experiment, Needs, Paper, Relative, Run, Twin, experiment, experiments,
};
pub use draw::{FIGURES, draw, draw_twin};
pub use error::ExperimentError;
pub use figure::{FigureForm, FigureSpec};
pub use kinds::{Answer, Ask, Kind, KindMetric, Parameter, kind, kinds};
pub use page::{Told, page};
pub use record::{Record, RecordFile};
pub use run::{Finished, Progress, check, judge, run};
pub use twin::{Executed, TwinTimes, TwinVerdict, executed, judge_twin, keep_executed};
pub use value::{Parameters, Value, label, matches};
