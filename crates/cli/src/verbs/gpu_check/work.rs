//! What the items work on: a device, or a core in its place, and models on it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cutplane_graph::{DeviceGraph, Dtype, ModelGraph, ModelSource, Overrides};
use cutplane_plan::{Optimizer, Plan, Program, lower};
use cutplane_record::Timeline;
use cutplane_runtime::OptimizerSettings;
use cutplane_runtime::data::{Batches, TextData};
use cutplane_runtime::devices::Place;
use cutplane_runtime::exec::{Run, RunOptions, Transfers};
use cutplane_sim::engine::simulate;
use cutplane_sim::planner::{Problem, SearchSpace, named_plan};

use crate::pricing::{self, Pricing};
use crate::{context, local};

/// What a step does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Passes {
    /// Forward, backward, update.
    #[default]
    Training,
    /// Forward only.
    Inference,
}

impl Passes {
    fn of(self, program: Program) -> Program {
        match self {
            Self::Training => program,
            Self::Inference => program.forward_only(),
        }
    }
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The card of this number.
    Card(usize),
    /// A rehearsal on cores, with models so small that it takes seconds.
    Rehearsal,
}

/// A device graph with the places of its ranks.
pub(crate) type Devices = (DeviceGraph, Vec<Place>);

impl Target {
    /// So many ranks on the target.
    pub(crate) fn ranks(self, ranks: usize) -> Result<Devices> {
        match self {
            Self::Rehearsal => cores(ranks),
            Self::Card(card) if ranks == 1 => devices(&format!("cuda:{card}")),
            Self::Card(card) => devices(&format!("cuda:{card}x{ranks}")),
        }
    }

    /// Element types that are checked.
    pub(crate) fn precisions(self) -> Vec<Dtype> {
        match self {
            Self::Card(_) => vec![Dtype::F32, Dtype::Bf16],
            Self::Rehearsal => vec![Dtype::F32],
        }
    }

    /// Models whose losses and gradients a core computes in seconds.
    pub(crate) fn small_models(self) -> [&'static str; 2] {
        match self {
            Self::Card(_) => ["gpt-mini", "bert-mini"],
            Self::Rehearsal => ["gpt-nano", "bert-nano"],
        }
    }
}

/// So many ranks on cores.
pub(crate) fn cores(ranks: usize) -> Result<Devices> {
    devices(&format!("cpu:{ranks}"))
}

fn devices(argument: &str) -> Result<Devices> {
    let devices = context::devices(argument)?;
    let places = local::places(&devices)?;
    Ok((devices, places))
}

/// A model on devices, with the work of a step.
pub(crate) struct Trial {
    pub(crate) source: ModelSource,
    pub(crate) model: Arc<ModelGraph>,
    pub(crate) devices: DeviceGraph,
    pub(crate) places: Vec<Place>,
    pub(crate) batch: u64,
    pub(crate) precision: Dtype,
}

impl Trial {
    /// Loads a model for `devices`.
    pub(crate) fn new(devices: &Devices, model: &str, tokens: u64, batch: u64, precision: Dtype) -> Result<Self> {
        let source = cutplane_zoo::source_from_argument(model, Some(tokens), Overrides::default())?;
        let model = Arc::new(cutplane_zoo::build(&source)?);
        let (devices, places) = devices.clone();
        Ok(Self { source, model, devices, places, batch, precision })
    }

    /// Prices from a measured profile of the device.
    pub(crate) fn measured(&self, profile: &Path) -> Result<Pricing> {
        pricing::choose(&self.devices, Some(profile))
    }

    /// The plan of this name.
    pub(crate) fn plan(&self, name: &str, pricing: &Pricing) -> Result<Plan> {
        let problem = Problem {
            model: &self.model,
            model_source: self.source.clone(),
            devices: &self.devices,
            memory: pricing.memory(),
            global_batch: self.batch,
            optimizer: Optimizer::AdamW,
            precision: self.precision,
            limits: SearchSpace::default(),
        };
        Ok(named_plan(&problem, pricing.cost(), name)?)
    }

    /// What a step of the plan is predicted to take.
    pub(crate) fn predict(&self, plan: &Plan, passes: Passes, pricing: &Pricing) -> Result<Timeline> {
        let verified = context::verified(plan, &self.model, &self.devices)?;
        let program = passes.of(lower(&verified)?);
        Ok(simulate(&verified, &program, pricing.cost(), pricing.memory())?)
    }

    /// Starts the plan on the built-in text.
    pub(crate) fn start(&self, plan: &Plan, passes: Passes, transfers: Transfers, seed: u64) -> Result<Run> {
        let verified = context::verified(plan, &self.model, &self.devices)?;
        let program = Arc::new(passes.of(lower(&verified)?));
        let text = TextData::from_text("the built-in text", cutplane_zoo::DEFAULT_TEXT)?;
        let batches = Arc::new(Batches::new(Arc::new(text), &self.model, self.batch, seed)?);
        let options = RunOptions {
            transfers,
            ..local::run_options(&self.places, OptimizerSettings::new(Optimizer::AdamW, 1e-3), seed)
        };
        Run::start(Arc::clone(&self.model), program, batches, &options)
            .with_context(|| format!("starting plan '{}'", plan.name))
    }
}
