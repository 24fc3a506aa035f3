//! Scoring predictions on measurements that others published, row by row.
//!
//! A file holds one measured point a line ([`read_rows`]; the format is in `docs/fidelity.md`). Its description
//! ([`Row`]) becomes a model, a cluster and a layout ([`parse`]), a predictor of the row's workload ([`Predictor`])
//! answers with a [`RowPrediction`] or a [`Skip`], and `score` compares: per source, never pooled. What was measured is
//! held apart from what describes it, so that no predictor can look at it.

mod collective_rows;
mod error;
mod fabric_fit;
mod fabrics;
mod fitted;
mod graph_fit;
mod inference_rows;
mod kernel_fit;
mod kernel_rows;
mod metric;
mod page;
pub mod parse;
mod predict;
mod prediction;
mod profile;
mod read;
mod row;
mod rows_file;
mod scoreboard;
mod scoring;
mod training_rows;

pub use collective_rows::{CollectiveQuestion, CollectiveSetting, StatedFabric, predict_collective};
pub use error::ScoreError;
pub use fabric_fit::fit_fabrics;
pub use fabrics::{Machine, catalogue_fabric, drawn_rows, machine_of, machines};
pub use fitted::{FittedSource, SEED, draw, fitted_sources, was_fitted};
pub use graph_fit::{FittedRow, GraphFit, fit_graph_steps};
pub use inference_rows::InferencePredictor;
pub use kernel_fit::{KernelFit, fit_kernels};
pub use kernel_rows::{Asked, KernelQuestion, KernelRow};
pub use metric::{
    Bandwidth, FlopCount, Item, MemoryPart, Metric, Per, Quantity, RequestPart, Statistic, StepFacts, StepPart,
};
pub use page::page;
pub use predict::{predict, predict_with};
pub use prediction::{Origin, Predictor, RowPrediction, Skip, TraceEntry};
pub use profile::{DeviceFit, FabricProfile, Profile, ProfileLevel, read_profile, write_profile};
pub use read::{COLUMNS, MeasuredFile, read_rows, rows_of};
pub use row::{Grade, MeasuredRow, MemoryKind, Row, Workload};
pub use rows_file::write_rows;
pub use scoreboard::scoreboard;
pub use scoring::{
    Confusion, GradeScore, Grades, Outcome, ScoredRow, SourceScore, Statistics, WorstRow, score_rows, summarise,
};
pub use training_rows::TrainingPredictor;
