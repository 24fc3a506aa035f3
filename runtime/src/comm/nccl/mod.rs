//! Ranks that have a card each and sum on it, through NVIDIA's NCCL.
//!
//! [`Nccl`] stands over another world, in process or over MPI, which stays the place where ranks meet: every collective
//! begins there, so that ranks that are late, gone, failed or calling something else are named as ever, and NCCL is only
//! entered by ranks that have agreed. There the unique id of a group's NCCL communicator is broadcast too. NCCL is never
//! waited for blindly: its communicators are non-blocking, its stream is asked after, and one that does not end in time is
//! aborted.
//!
//! NCCL refuses two ranks of one communicator on one card, so a group with such ranks, or with a rank without a card, sums
//! as if there were no NCCL. Messages always go as the world below sends them: NCCL matches sends by their order alone,
//! while the messages of a program are taken in any order.
//!
//! Libraries are opened by name when a run starts ([`Libraries::load`]); nothing is linked, and builds need nothing of
//! NVIDIA. Tests run the shared suite through these very calls, into a stand-in library that moves host memory.

mod card;
mod clique;
mod error;
mod library;
#[cfg(feature = "cuda")]
mod pointer;
mod rank;
mod staging;
#[cfg(feature = "cuda")]
mod sums;
#[cfg(test)]
pub(super) mod tests;

pub(super) use library::Libraries;
pub(super) use rank::Nccl;
