//! One verb a file.

#[cfg(feature = "runtime")]
pub(crate) mod compare;
pub(crate) mod models;
pub(crate) mod plan;
#[cfg(feature = "runtime")]
pub(crate) mod profile;
#[cfg(feature = "runtime")]
pub(crate) mod run;
pub(crate) mod simulate;
