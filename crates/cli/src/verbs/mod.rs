//! One verb a file.

pub(crate) mod calibrate;
#[cfg(feature = "runtime")]
pub(crate) mod compare;
pub(crate) mod diff;
#[cfg(feature = "runtime")]
pub(crate) mod doctor;
pub(crate) mod experiments;
pub(crate) mod explain;
#[cfg(feature = "runtime")]
pub(crate) mod gpu_check;
pub(crate) mod inspect;
pub(crate) mod models;
pub(crate) mod place;
pub(crate) mod plan;
#[cfg(feature = "runtime")]
pub(crate) mod profile;
#[cfg(feature = "runtime")]
pub(crate) mod run;
pub(crate) mod score;
pub(crate) mod shard;
pub(crate) mod simulate;
pub(crate) mod sweep;
