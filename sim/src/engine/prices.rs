//! Every instruction with its price, before the clock starts.

mod served;

use std::collections::{BTreeMap, HashMap};

use cutplane_graph::sharding::Collective;
use cutplane_graph::{DeviceId, ModelGraph, OpKind, ParamId};
use cutplane_plan::{
    Action, Direction, GroupId, MessageId, Ownership, Program, RankProgram, Segment, SegmentId, SyncGroup, VerifiedPlan,
};
use cutplane_units::{Bytes, Nanos};

use super::SimError;
use super::network::{FlowId, Load};
use super::served::ServedPrice;
use crate::cost::stage::StageCost;
use crate::cost::{CostError, CostModel, WorkTime, collective};

/// What an instruction asks of its rank.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job {
    /// Compute work that contention stretches.
    Work(WorkTime),
    /// A fixed time.
    Fixed(Nanos),
    /// Hand a message over.
    Send { message: MessageId, busy: Nanos },
    /// Wait for a message and take it.
    Recv { message: MessageId, busy: Nanos },
    /// Wait for a group, then sum; `half` for a collective that is one half of a ring all-reduce.
    AllReduce { group: GroupId, half: bool },
    /// Hand gradients to a server.
    Push { group: GroupId, busy: Nanos },
    /// Wait for the parameters of a server and take them.
    Pull { group: GroupId, busy: Nanos },
    /// Serve what has come.
    Serve { group: GroupId },
}

/// What a message asks of the network.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) latency: Nanos,
    /// Its load on the links of the route.
    pub(super) load: Load,
}

/// The prices of one program.
#[derive(Debug)]
pub(super) struct Prices {
    /// By rank and position in its list.
    pub(super) jobs: Vec<Vec<Job>>,
    wires: Vec<Wire>,
    wire_of: Vec<usize>,
    groups: Vec<[Load; 2]>,
    served: BTreeMap<GroupId, ServedPrice>,
    ways: BTreeMap<FlowId, Wire>,
}

impl Prices {
    /// Prices each distinct piece of work once.
    pub(super) fn new(plan: &VerifiedPlan<'_>, program: &Program, cost: &dyn CostModel) -> Result<Self, SimError> {
        let mut pricer = Pricer::new(plan, program, cost)?;
        let jobs = program.ranks.iter().map(|rank| pricer.rank(rank)).collect::<Result<_, _>>()?;
        let Pricer { wires, wire_of, groups, served, ways, .. } = pricer;
        Ok(Self { jobs, wires, wire_of, groups, served, ways })
    }

    pub(super) fn wire(&self, message: MessageId) -> &Wire {
        &self.wires[self.wire_of[message.index()]]
    }

    /// What the all-reduce of a group asks of the network, or half of it.
    pub(super) fn group(&self, group: GroupId, half: bool) -> &Load {
        &self.groups[group.index()][usize::from(half)]
    }
}

/// Hand-over, taking, and the index of the wire of messages of one size between two ranks.
type MessagePrice = (Nanos, Nanos, usize);

struct Pricer<'p> {
    plan: &'p VerifiedPlan<'p>,
    program: &'p Program,
    cost: &'p dyn CostModel,
    stages: HashMap<(SegmentId, DeviceId), StageCost>,
    messages: Vec<MessagePrice>,
    wires: Vec<Wire>,
    wire_of: Vec<usize>,
    groups: Vec<[Load; 2]>,
    served: BTreeMap<GroupId, ServedPrice>,
    ways: BTreeMap<FlowId, Wire>,
}

impl<'p> Pricer<'p> {
    fn new(plan: &'p VerifiedPlan<'_>, program: &'p Program, cost: &'p dyn CostModel) -> Result<Self, CostError> {
        let mut pricer = Self {
            plan,
            program,
            cost,
            stages: HashMap::new(),
            messages: Vec::new(),
            wires: Vec::new(),
            wire_of: Vec::new(),
            groups: Vec::new(),
            served: BTreeMap::new(),
            ways: BTreeMap::new(),
        };
        let mut known: HashMap<(DeviceId, DeviceId, Bytes), MessagePrice> = HashMap::new();
        for message in &program.messages {
            let (from, to) = (pricer.device(message.from.index()), pricer.device(message.to.index()));
            let price = match known.get(&(from, to, message.bytes)) {
                Some(price) => *price,
                None => pricer.transfer(from, to, message.bytes)?,
            };
            known.insert((from, to, message.bytes), price);
            pricer.messages.push(price);
            pricer.wire_of.push(price.2);
        }
        for group in &program.groups {
            let members: Vec<DeviceId> = group.ranks.iter().map(|rank| pricer.device(rank.index())).collect();
            let time = cost.all_reduce(group.bytes, &members, plan.devices())?;
            let uses = if time.is_zero() { Vec::new() } else { collective::ring_links(&members, plan.devices())? };
            // Values, unlike gradients, are copied into the buffers of the exchange and out of them.
            let is_value = group.params.is_empty();
            let copies = if is_value { pricer.copies(group.bytes, members.first().copied())? } else { Nanos::ZERO };
            let half = Load { time: Nanos::new(time.get().div_ceil(2)) + copies, uses: uses.clone() };
            pricer.groups.push([Load { time: time + copies, uses }, half]);
        }
        pricer.price_servers()?;
        Ok(pricer)
    }

    fn device(&self, rank: usize) -> DeviceId {
        self.program.ranks[rank].device
    }

    /// Time in which a rank on a core copies a value into a buffer and out of it. An accelerator's queue for exchanges does so
    /// beside its work.
    fn copies(&self, bytes: Bytes, device: Option<DeviceId>) -> Result<Nanos, CostError> {
        let device = device.map(|id| self.plan.devices().device(id)).filter(|device| !self.cost.overlaps(device));
        device.map_or(Ok(Nanos::ZERO), |device| Ok(self.cost.load(bytes, device)? * 2))
    }

    fn transfer(&mut self, from: DeviceId, to: DeviceId, bytes: Bytes) -> Result<MessagePrice, CostError> {
        let devices = self.plan.devices();
        let (source, target) = (devices.device(from), devices.device(to));
        let route = devices.route(from, to).ok_or_else(|| CostError::no_route(source, target))?;
        let (latency, time) = self.cost.wire(bytes, &route, source, target)?;
        let uses = route.links.into_iter().map(|link| (link, 1.0)).collect();
        self.wires.push(Wire { latency, load: Load { time, uses } });
        let (send, recv) = (self.cost.send(bytes, source)?, self.cost.recv(bytes, target)?);
        Ok((send, recv, self.wires.len() - 1))
    }

    fn rank(&mut self, rank: &RankProgram) -> Result<Vec<Job>, SimError> {
        rank.instructions.iter().map(|instruction| self.job(rank, instruction.action)).collect()
    }

    fn job(&mut self, rank: &RankProgram, action: Action) -> Result<Job, SimError> {
        Ok(match action {
            Action::Load { segment, .. } => Job::Fixed(self.load(rank, segment)?),
            Action::Forward { segment, .. } | Action::Recompute { segment, .. } => {
                Job::Work(self.stage(rank, segment)?.forward)
            }
            Action::Backward { segment, .. } => Job::Work(self.stage(rank, segment)?.backward),
            Action::Send { message } => Job::Send { message, busy: self.messages[message.index()].0 },
            Action::Recv { message } => Job::Recv { message, busy: self.messages[message.index()].1 },
            // No operator has a price of its own for each half: a product of matrices does as much work in both.
            Action::BackwardInput { segment, .. } | Action::BackwardWeight { segment, .. } => {
                Job::Work(self.stage(rank, segment)?.backward.halved())
            }
            Action::Release { .. } => Job::Fixed(Nanos::ZERO),
            Action::Exchange { group: None, segment, direction, .. } => {
                Job::Fixed(self.relayout(rank, segment, direction)?)
            }
            Action::Exchange { group: Some(group), collective, .. } => {
                Job::AllReduce { group, half: collective != Collective::AllReduce }
            }
            Action::AllReduce { group } => Job::AllReduce { group, half: false },
            Action::ReduceScatter { group }
            | Action::AllGather { group }
            | Action::Reduce { group }
            | Action::Broadcast { group } => Job::AllReduce { group, half: true },
            Action::Push { group, .. } => Job::Push { group, busy: self.push(group, rank.rank)? },
            Action::Pull { group, .. } => Job::Pull { group, busy: self.pull(group, rank.rank)? },
            Action::Serve { group } => Job::Serve { group },
            Action::OptimizerStep => Job::Work(self.optimizer(rank)?),
            other => return Err(SimError::UnknownAction { rank: rank.rank, action: other.label() }),
        })
    }

    fn stage(&mut self, rank: &RankProgram, segment: SegmentId) -> Result<StageCost, CostError> {
        let key = (segment, rank.device);
        if let Some(known) = self.stages.get(&key) {
            return Ok(*known);
        }
        let (plan, program) = (self.plan, self.program);
        let device = plan.devices().device(rank.device);
        let (batch, precision) = (program.micro_batch_size, plan.plan().workload.precision);
        let price = StageCost::new(self.cost, plan.model(), program.segment(segment), batch, precision, device)?;
        self.stages.insert(key, price);
        Ok(price)
    }

    fn load(&self, rank: &RankProgram, segment: SegmentId) -> Result<Nanos, CostError> {
        let payload =
            graph_input_bytes(self.plan.model(), self.program.segment(segment), self.program.micro_batch_size);
        self.cost.load(payload, self.plan.devices().device(rank.device))
    }

    /// Elements of a parameter that a rank updates: its share where those who hold it divide the update.
    fn updated(&self, rank: &RankProgram, param: ParamId) -> u64 {
        let elements = |param: ParamId| self.plan.model().param(param).elements();
        // What everybody updates whole is left out first: looking for a parameter in a group costs most.
        let holds = |(_, group): &(usize, &SyncGroup)| {
            group.ownership != Ownership::Everybody && group.ranks.contains(&rank.rank) && group.params.contains(&param)
        };
        let Some((id, group)) = self.program.groups.iter().enumerate().find(holds) else { return elements(param) };
        match group.ownership {
            Ownership::Everybody => elements(param),
            Ownership::Server if group.server(GroupId(id as u32)) == rank.rank => elements(param),
            Ownership::Server => 0,
            Ownership::Shares => {
                let first: u64 =
                    group.params.iter().take_while(|other| **other != param).map(|other| elements(*other)).sum();
                let total = group.params.iter().map(|other| elements(*other)).sum::<u64>();
                let position = group.ranks.iter().position(|other| *other == rank.rank).unwrap_or(0);
                let share = group.share(position, usize::try_from(total).unwrap_or(usize::MAX));
                let end = (share.end as u64).min(first + elements(param));
                end.saturating_sub(first.max(share.start as u64))
            }
        }
    }

    /// Time of a change of layout for which nothing moves: that of copies, or none where the layout stays.
    fn relayout(&self, rank: &RankProgram, segment: SegmentId, direction: Direction) -> Result<Nanos, CostError> {
        let (model, facts) = (self.plan.model(), self.program.segment(segment));
        let stays = facts.ops.iter().all(|op| match (&model.op(*op).kind, direction) {
            (OpKind::Exchange(kind), Direction::Activation) => {
                kind.from.value == kind.to.value && kind.from_parts == kind.to_parts
            }
            (OpKind::Exchange(kind), Direction::Gradient) => {
                kind.from.gradient == kind.to.gradient && kind.from_parts == kind.to_parts
            }
            _ => false,
        });
        if stays {
            return Ok(Nanos::ZERO);
        }
        let (batch, precision) = (self.program.micro_batch_size, self.plan.plan().workload.precision);
        let bytes = facts.outputs.iter().map(|value| model.value(*value).ty.bytes_in(batch, precision)).sum();
        self.copies(bytes, Some(rank.device))
    }

    fn optimizer(&self, rank: &RankProgram) -> Result<WorkTime, CostError> {
        let mine = self.program.segments.iter().filter(|segment| segment.stage == rank.stage);
        let mut params: Vec<_> = mine.flat_map(|segment| segment.params.iter().copied()).collect();
        params.sort_unstable();
        params.dedup();
        params.retain(|param| self.program.frozen.binary_search(param).is_err());
        let tensors = params.into_iter().map(|param| self.updated(rank, param)).filter(|elements| *elements > 0);
        let tensors: Vec<u64> = tensors.collect();
        self.cost.optimizer(self.plan.plan().workload.optimizer, &tensors, self.plan.devices().device(rank.device))
    }
}

/// Size of what the data pipeline feeds a segment.
fn graph_input_bytes(model: &ModelGraph, segment: &Segment, batch: u64) -> Bytes {
    let inputs = segment.inputs.iter().map(|value| model.value(*value));
    inputs.filter(|value| value.producer.is_none()).map(|value| value.ty.bytes(batch)).sum()
}
