//! Plans over unlike devices: golden rules, exhaustive search, answers.

mod against_exhaustive;
mod answers;
mod golden;
mod setting;
