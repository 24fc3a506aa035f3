//! Problems and plans that several benches use.

use std::sync::Arc;

use cutplane_graph::{DeviceGraph, Dtype, ModelGraph, ModelSource, Overrides};
use cutplane_plan::{Optimizer, Plan, Program, lower, verify};
use cutplane_runtime::OptimizerSettings;
use cutplane_runtime::data::{Batches, TextData};
use cutplane_runtime::exec::{Run, RunOptions};
use cutplane_sim::cost::Roofline;
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::planner::{Problem, SearchSpace, named_plan};

/// A model and a cluster.
pub struct Setting {
    /// Where the model comes from.
    pub source: ModelSource,
    /// The model.
    pub model: ModelGraph,
    /// The cluster.
    pub devices: DeviceGraph,
    /// Samples a step.
    pub global_batch: u64,
}

impl Setting {
    /// A built-in model on a named cluster.
    ///
    /// # Panics
    /// When the names are unknown: a defect of the bench.
    pub fn new(model: &str, overrides: Overrides, cluster: &str, sequence: u64, global_batch: u64) -> Self {
        let source = cutplane_zoo::source_from_argument(model, Some(sequence), overrides).expect("a known model");
        let graph = cutplane_zoo::build(&source).expect("a valid model");
        let devices =
            DeviceGraph::build(cutplane_zoo::cluster(cluster).expect("a known cluster")).expect("a valid cluster");
        Self { source, model: graph, devices, global_batch }
    }

    /// The planning problem, priced from datasheets.
    pub fn problem(&self) -> Problem<'_> {
        Problem {
            model: &self.model,
            model_source: self.source.clone(),
            devices: &self.devices,
            memory: MemoryModel::Framework,
            global_batch: self.global_batch,
            optimizer: Optimizer::AdamW,
            precision: Dtype::F32,
            limits: SearchSpace::default(),
        }
    }

    /// The plan of a name, cut at datasheet prices.
    ///
    /// # Panics
    /// When the name does not fit: a defect of the bench.
    pub fn plan(&self, name: &str) -> Plan {
        named_plan(&self.problem(), &Roofline::new(), name).expect("a plan of this name")
    }

    /// A lowered plan.
    ///
    /// # Panics
    /// When the plan is not valid: a defect of the planner.
    pub fn program(&self, plan: &Plan) -> Program {
        lower(&verify(plan, &self.model, &self.devices).expect("a valid plan")).expect("a program")
    }

    /// A plan ready to run on CPU ranks, trained on the built-in text.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, name: &str) -> Run {
        let text = TextData::from_text("the built-in text", cutplane_zoo::DEFAULT_TEXT).expect("text");
        let batches = Batches::new(Arc::new(text), &self.model, self.global_batch, 17).expect("batches");
        let options = RunOptions::new(OptimizerSettings::new(Optimizer::AdamW, 1e-3));
        let program = Arc::new(self.program(&self.plan(name)));
        Run::start(Arc::new(self.model.clone()), program, Arc::new(batches), &options).expect("ranks start")
    }
}
