//! Sharding by operator: the searchers against each other, known answers, and the account.

#![cfg(feature = "ilp")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod folding;
mod golden;
mod graphs;
mod mesh_2x2;
mod random;
mod setting;
mod tables;
