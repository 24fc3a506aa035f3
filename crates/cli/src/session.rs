//! A plan that is being run, with what it takes to go on under another plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use cutplane_graph::{DeviceGraph, ModelGraph};
use cutplane_plan::{Plan, Program, lower};
use cutplane_runtime::checkpoint::Checkpoint;
use cutplane_runtime::data::Batches;
use cutplane_runtime::devices::Place;
use cutplane_runtime::exec::{Rehearsal, Run as Execution, RunOptions};

use crate::{context, elastic};

/// How ranks at places run.
pub(crate) type Options = dyn Fn(&[Place]) -> RunOptions;

/// What does not change from one plan of a run to the next.
pub(crate) struct Work {
    /// The samples, from the first on.
    pub(crate) batches: Batches,
    pub(crate) options: Box<Options>,
    /// Where each device is.
    pub(crate) places: BTreeMap<String, Place>,
    /// A failure on purpose, of the first plan.
    pub(crate) rehearsal: Option<Rehearsal>,
}

/// A plan that is being run.
pub(crate) struct Session {
    pub(crate) plan: Plan,
    pub(crate) model: Arc<ModelGraph>,
    pub(crate) devices: DeviceGraph,
    pub(crate) program: Arc<Program>,
    pub(crate) run: Execution,
    work: Work,
    /// Where it began.
    origin: Option<Arc<Checkpoint>>,
}

impl Session {
    /// Starts a plan, at a checkpoint if there is one.
    pub(crate) fn start(
        plan: Plan,
        model: Arc<ModelGraph>,
        devices: DeviceGraph,
        mut work: Work,
        checkpoint: Option<Arc<Checkpoint>>,
    ) -> Result<Self> {
        let program = Arc::new(lower(&context::verified(&plan, &model, &devices)?)?);
        let place = |name: &str| work.places.get(name).copied().ok_or_else(|| anyhow!("no place for device '{name}'"));
        let places: Vec<Place> =
            devices.devices().iter().map(|device| place(&device.name)).collect::<Result<Vec<_>>>()?;
        let batches = match &checkpoint {
            None => work.batches.clone(),
            Some(checkpoint) => {
                checkpoint.check(&model, plan.workload.optimizer)?;
                checkpoint.resume(work.batches.clone())?
            }
        };
        let rehearsal = work.rehearsal.take();
        let options = RunOptions { resume: checkpoint.clone(), rehearsal, ..(work.options)(&places) };
        let run = Execution::start(Arc::clone(&model), Arc::clone(&program), Arc::new(batches), &options)?;
        Ok(Self { plan, model, devices, program, run, work, origin: checkpoint })
    }

    /// The device of a rank.
    pub(crate) fn device_of(&self, rank: u32) -> Option<String> {
        let rank = self.program.ranks.get(rank as usize)?;
        Some(self.devices.device(rank.device).name.clone())
    }

    /// Goes on without a device, from a newer checkpoint or else from where it began, under the best plan for what is left.
    pub(crate) fn without(self, lost: &str, checkpoint: Option<Arc<Checkpoint>>) -> Result<Self> {
        let Self { plan, model, devices, work, run, origin, .. } = self;
        drop(run);
        let left = elastic::without(&devices, lost)?;
        let plan = elastic::replan(&plan, &model, &left)?;
        Self::start(plan, model, left, work, checkpoint.or(origin))
    }
}
