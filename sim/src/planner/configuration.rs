//! Configurations: everything about a plan but where the model is cut.

use cutplane_plan::Schedule;

use super::error::PlanError;
use super::fleet::Fleet;
use super::problem::{MAX_MICRO_BATCHES, Problem};

/// Which devices of a class a stage takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Placement {
    /// Stage `s` takes devices `s * replicas ..`: gradients are summed between neighbours.
    ReplicasAdjacent,
    /// Replica `r` takes devices `r * stages ..`: activations move between neighbours.
    StagesAdjacent,
}

/// Degrees, micro-batches, schedule and placement: what the outer loop of every searcher runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Configuration {
    /// Replicas of each stage.
    pub data_degree: usize,
    /// Pipeline stages.
    pub stages: usize,
    /// Micro-batches a replica.
    pub micro_batches: u64,
    /// Order of passes; with one stage or one micro-batch all orders are the same.
    pub schedule: ScheduleKey,
    /// Which devices.
    pub placement: Placement,
}

/// A [`Schedule`] with an order, so that searches are deterministic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScheduleKey {
    /// [`Schedule::OneFOneB`]: first, because it needs less memory at the same speed.
    OneFOneB,
    /// [`Schedule::FillDrain`].
    FillDrain,
}

impl ScheduleKey {
    /// The key of a schedule; `None` for those that are executed but not searched.
    pub fn of(schedule: Schedule) -> Option<Self> {
        match schedule {
            Schedule::OneFOneB => Some(Self::OneFOneB),
            Schedule::FillDrain => Some(Self::FillDrain),
            _ => None,
        }
    }
}

impl From<ScheduleKey> for Schedule {
    fn from(key: ScheduleKey) -> Self {
        match key {
            ScheduleKey::OneFOneB => Self::OneFOneB,
            ScheduleKey::FillDrain => Self::FillDrain,
        }
    }
}

impl Configuration {
    /// Devices used.
    pub fn devices(&self) -> usize {
        self.data_degree * self.stages
    }

    /// Samples in a micro-batch.
    pub fn micro_batch_size(&self, global_batch: u64) -> u64 {
        global_batch / (self.data_degree as u64 * self.micro_batches)
    }

    /// Micro-batches that a stage holds at most.
    pub fn in_flight(&self, stage: usize) -> u64 {
        Schedule::from(self.schedule).in_flight(stage, self.stages, self.micro_batches)
    }

    /// Ranks that work at the same time in the steady state: a pipeline with fewer micro-batches than stages never has
    /// all stages busy.
    pub fn concurrency(&self) -> usize {
        self.data_degree * self.stages.min(usize::try_from(self.micro_batches).unwrap_or(usize::MAX))
    }

    /// Name in tables and on the command line; [`super::named_plan`] reads it back.
    pub fn name(&self) -> String {
        let Self { data_degree, stages, micro_batches, .. } = *self;
        let mut parts = Vec::new();
        if data_degree > 1 {
            parts.push(format!("dp{data_degree}"));
        }
        if stages > 1 {
            parts.push(format!("pp{stages}"));
            let schedule = if micro_batches == 1 { "vanilla" } else { Schedule::from(self.schedule).label() };
            parts.push(schedule.to_owned());
        }
        if parts.is_empty() {
            parts.push("single".to_owned());
        }
        if micro_batches > 1 {
            parts.push(format!("m{micro_batches}"));
        }
        parts.join("-")
    }
}

/// All configurations of a problem, in a fixed order, each kind of program once: with one stage the schedule only
/// decides memory, where 1F1B is never worse; with one micro-batch all schedules are the same.
pub(super) fn configurations(
    problem: &Problem<'_>,
    fleet: &Fleet<'_>,
    blocks: usize,
) -> Result<Vec<Configuration>, PlanError> {
    let limits = &problem.limits;
    let mut found = Vec::new();
    let largest = fleet.device_count();
    for data_degree in degrees(limits.data_degrees.as_deref(), largest) {
        if !problem.global_batch.is_multiple_of(data_degree as u64) {
            continue;
        }
        let capacity: usize = fleet.capacities(data_degree).iter().sum();
        for stages in degrees(limits.stage_counts.as_deref(), capacity.min(blocks)) {
            for micro_batches in micro_batch_counts(problem, problem.global_batch / data_degree as u64) {
                for schedule in schedules(limits.schedules.as_deref(), stages, micro_batches) {
                    for &placement in placements(fleet, data_degree, stages) {
                        found.push(Configuration { data_degree, stages, micro_batches, schedule, placement });
                    }
                }
            }
        }
    }
    if found.is_empty() { Err(empty_space(problem, fleet, blocks)) } else { Ok(found) }
}

fn degrees(asked: Option<&[usize]>, largest: usize) -> Vec<usize> {
    let mut degrees: Vec<usize> = match asked {
        Some(list) => list.iter().copied().filter(|degree| (1..=largest).contains(degree)).collect(),
        None => (1..=largest).collect(),
    };
    degrees.sort_unstable();
    degrees.dedup();
    degrees
}

fn micro_batch_counts(problem: &Problem<'_>, share: u64) -> Vec<u64> {
    let mut counts: Vec<u64> = match &problem.limits.micro_batches {
        Some(list) => list.clone(),
        None => (1..=MAX_MICRO_BATCHES).collect(),
    };
    counts.retain(|count| *count > 0 && share > 0 && share.is_multiple_of(*count));
    counts.sort_unstable();
    counts.dedup();
    counts
}

fn schedules(asked: Option<&[Schedule]>, stages: usize, micro_batches: u64) -> Vec<ScheduleKey> {
    let all = [Schedule::OneFOneB, Schedule::FillDrain];
    let mut keys: Vec<ScheduleKey> =
        asked.unwrap_or(&all).iter().filter_map(|schedule| ScheduleKey::of(*schedule)).collect();
    keys.sort_unstable();
    keys.dedup();
    if stages == 1 {
        keys.truncate(1);
    } else if micro_batches == 1 {
        keys.drain(..keys.len().saturating_sub(1));
    }
    keys
}

fn placements(fleet: &Fleet<'_>, data_degree: usize, stages: usize) -> &'static [Placement] {
    if data_degree == 1 || stages == 1 || fleet.is_uniform() || fleet.classes().len() > 1 {
        &[Placement::ReplicasAdjacent]
    } else {
        &[Placement::ReplicasAdjacent, Placement::StagesAdjacent]
    }
}

fn empty_space(problem: &Problem<'_>, fleet: &Fleet<'_>, blocks: usize) -> PlanError {
    let batch = problem.global_batch;
    let reason = if batch == 0 {
        "the global batch is 0: choose at least 1 sample".to_owned()
    } else {
        let show = |list: Option<String>| list.unwrap_or_else(|| "any".to_owned());
        format!(
            "no combination of data degree ({}), stages ({}) and micro-batches ({}) divides the global batch of {batch} \
             and fits {} devices and {blocks} places to cut: choose a batch that data degree x micro-batches divides",
            show(problem.limits.data_degrees.as_ref().map(|list| format!("{list:?}"))),
            show(problem.limits.stage_counts.as_ref().map(|list| format!("{list:?}"))),
            show(problem.limits.micro_batches.as_ref().map(|list| format!("{list:?}"))),
            fleet.device_count(),
        )
    };
    PlanError::EmptySpace { reason }
}
