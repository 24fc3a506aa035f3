//! What the benches share: a bare Burn training loop of the same GPT, written as a Burn user would write it.

pub mod bare;
