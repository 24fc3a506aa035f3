//! Plans over unlike devices: golden rules, exhaustive search, answers, alternatives.

mod against_exhaustive;
mod alternatives;
mod answers;
mod golden;
mod setting;
