//! Layouts of whole training plans: against exhaustive search, at cluster scale, and what is said when nothing fits.

mod against_exhaustive;
mod answers;
mod cluster_scale;
mod setting;
mod stage_splits;
