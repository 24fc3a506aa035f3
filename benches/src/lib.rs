//! What the benches share: settings and plans, and a bare Burn training loop of the same GPT.

pub mod bare;
pub mod plans;
