//! What every family of models has in common: sizes that can be replaced and checked, and a graph for a sequence length.

use cutplane_graph::{ModelGraph, Overrides};

use crate::error::ZooError;

/// Everything that decides a graph, except the sequence length. `origin` names the model in errors.
pub(crate) trait Recipe {
    /// Replaces sizes.
    fn override_with(&mut self, origin: &str, overrides: &Overrides) -> Result<(), ZooError>;

    /// Checks what no single field shows.
    fn check(&self, origin: &str, sequence_length: u64) -> Result<(), ZooError>;

    /// The graph of a checked recipe, for samples of `sequence_length` tokens.
    fn build(&self, origin: &str, sequence_length: u64) -> Result<ModelGraph, ZooError>;

    /// The sequence length when none is asked for: the model's own context.
    fn context(&self) -> u64;
}

/// The graph of a recipe, with some sizes replaced.
pub(crate) fn graph(
    mut recipe: Box<dyn Recipe>,
    origin: &str,
    overrides: &Overrides,
    sequence_length: u64,
) -> Result<ModelGraph, ZooError> {
    recipe.override_with(origin, overrides)?;
    recipe.check(origin, sequence_length)?;
    recipe.build(origin, sequence_length)
}
