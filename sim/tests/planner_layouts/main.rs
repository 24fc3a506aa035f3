//! Layouts of whole training plans: against exhaustive search, at cluster scale, and what is said when nothing fits.

mod cluster_scale;
mod setting;
