//! What can be asked for: one kind a file, each with its parameters and metrics by name.

mod ask;
mod collective;
mod elastic;
mod federated;
mod layout;
mod links;
mod mesh;
mod pipeline;
mod place;
mod plan;
#[cfg(feature = "ilp")]
mod recompute;
mod row;
mod stages;
mod state;

pub use ask::Ask;

/// A parameter of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in definitions and tables.
    pub name: &'static str,
    /// What it means, with its unit.
    pub about: &'static str,
}

/// A number that a kind answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindMetric {
    /// Its name in definitions.
    pub name: &'static str,
    /// Its unit; `-` for a pure number, empty where the run names it.
    pub unit: &'static str,
    /// What it means.
    pub about: &'static str,
}

/// A predicted number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The number, in the metric's unit.
    pub value: f64,
    /// Lower end of its interval, where it has one.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// What it rests on: a formula, a search with its proof, calibrations by name.
    pub basis: String,
}

impl Answer {
    /// A number that follows from its parameters alone.
    pub fn exact(value: f64, basis: impl Into<String>) -> Self {
        Self { value, low: None, high: None, basis: basis.into() }
    }
}

/// Something that can be asked for.
pub trait Kind: Sync {
    /// Its name in definitions.
    fn name(&self) -> &'static str;
    /// One line.
    fn about(&self) -> &'static str;
    /// Its parameters.
    fn parameters(&self) -> Vec<Parameter>;
    /// Its metrics.
    fn metrics(&self) -> Vec<KindMetric>;
    /// The value of a metric.
    ///
    /// # Errors
    /// What is wrong, naming the parameter and what to do.
    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String>;
}

/// All kinds.
pub fn kinds() -> &'static [&'static dyn Kind] {
    &[
        &row::Rows,
        &layout::BestLayout,
        &plan::NamedPlan,
        &pipeline::Pipeline,
        &collective::Formula,
        &links::Links,
        &state::ModelState,
        &mesh::Mesh,
        &place::Placement,
        &stages::Stages,
        &federated::Federated,
        &elastic::Elastic,
        &elastic::Goodput,
        &elastic::Serving,
        #[cfg(feature = "ilp")]
        &recompute::RecomputeBudget,
    ]
}

/// The kind of a name.
pub fn kind(name: &str) -> Option<&'static dyn Kind> {
    kinds().iter().copied().find(|kind| kind.name() == name)
}

/// A list of parameters from pairs.
fn parameters(list: &[(&'static str, &'static str)]) -> Vec<Parameter> {
    list.iter().map(|(name, about)| Parameter { name, about }).collect()
}

/// A list of metrics from triples.
fn metrics(list: &[(&'static str, &'static str, &'static str)]) -> Vec<KindMetric> {
    list.iter().map(|(name, unit, about)| KindMetric { name, unit, about }).collect()
}
