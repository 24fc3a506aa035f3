//! Comparing predictions with measurements, source by source.

mod confusion;
mod rank;
mod rows;
mod source;
mod statistics;

pub use confusion::Confusion;
pub use rows::{Outcome, ScoredRow, score_rows};
pub use source::{GradeScore, Grades, SourceScore, WorstRow, summarise};
pub use statistics::Statistics;
