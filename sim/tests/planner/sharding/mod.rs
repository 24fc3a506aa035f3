//! Sharding by operator: the searchers against each other, known answers, and the account.

mod answers;
mod folding;
mod golden;
mod graphs;
mod mesh_2x2;
mod random;
mod setting;
mod tables;
