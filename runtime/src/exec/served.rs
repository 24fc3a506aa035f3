//! Servers that take gradients as they come: [`cutplane_plan::PushLedger`] says what may be done, this does it.
//!
//! A server is a rank that also computes; it serves where its list says so, and while it waits for parameters itself. It keeps
//! the parameters that it updates apart from those that it computes with. Parameters travel with the number of updates that made
//! them, so that all ranks count alike.

use std::time::{Duration, Instant};

use cutplane_plan::{Action, GroupId, Program, Push, PushLedger, Rank, SyncGroup};

use super::step::{Fault, RankState};
use super::transfer::{Roads, hand_over, take};
use crate::comm::{CommError, Communicator};
use crate::error::RuntimeError;
use crate::segment::SegmentRunner;
use crate::tensor::HostTensor;

/// Numbers of messages from here on are pushes, and pulls; those of programs have 32 bits, those of sums 33.
const PUSHES: u64 = 1 << 33;
const PULLS: u64 = 3 << 32;

fn push_number(group: GroupId) -> u64 {
    PUSHES + u64::from(group.0)
}

fn pull_number(group: GroupId) -> u64 {
    PULLS + u64::from(group.0)
}

/// Parameters of a group, end to end, and the number of updates that made them.
type Parameters = (Vec<f32>, u32);

/// A group that this rank serves.
#[derive(Debug)]
pub(super) struct Server {
    id: GroupId,
    group: SyncGroup,
    own: usize,
    ledger: PushLedger,
    /// What it updates, and how often it has.
    parameters: Parameters,
    /// Gradients that have come and are not applied, by place in the group.
    pending: Vec<Option<Vec<f32>>>,
    /// What this rank itself may go on with.
    answered: Option<Parameters>,
    /// Places in the group of the pushes to take in the coming updates, update by update, where a recorded step is repeated.
    order: Option<std::vec::IntoIter<Vec<usize>>>,
    next: Vec<usize>,
}

impl Server {
    /// The servers of a rank, before its first step.
    pub(super) fn of_rank(program: &Program, rank: Rank) -> Vec<Self> {
        let list = &program.ranks[rank.index()].instructions;
        let mut groups: Vec<GroupId> = list.iter().filter_map(|instruction| instruction.action.served()).collect();
        groups.sort_unstable();
        groups.dedup();
        let server = |id: GroupId| {
            let group = program.group(id).clone();
            let own = group.ranks.iter().position(|member| *member == rank)?;
            let ledger = PushLedger::new(program, id);
            (group.server(id) == rank).then(|| Self {
                id,
                own,
                ledger,
                parameters: (Vec::new(), 0),
                pending: vec![None; group.ranks.len()],
                answered: None,
                order: None,
                next: Vec::new(),
                group,
            })
        };
        groups.into_iter().filter_map(server).collect()
    }

    /// Begins a step with the parameters that the rank has, which are those that it served last; `recorded` is to be repeated.
    fn begin(&mut self, program: &Program, runner: &SegmentRunner, recorded: Option<&[Push]>) {
        self.ledger = PushLedger::new(program, self.id);
        let (numbers, updates) = &mut self.parameters;
        if numbers.is_empty() {
            self.group.params.iter().for_each(|param| runner.read_owned(*param, numbers));
        }
        *updates = runner.optimizer_steps();
        self.order = recorded.map(|pushes| self.updates(pushes).into_iter());
        self.next = self.order.as_mut().and_then(Iterator::next).unwrap_or_default();
    }

    /// The places of the workers whose pushes were applied together.
    fn updates(&self, pushes: &[Push]) -> Vec<Vec<usize>> {
        let mut updates: Vec<(u64, Vec<usize>)> = Vec::new();
        for push in pushes.iter().filter(|push| push.group == self.id) {
            let Some(place) = self.group.ranks.iter().position(|rank| *rank == push.worker) else { continue };
            match updates.last_mut() {
                Some((before, places)) if *before == push.before => places.push(place),
                _ => updates.push((push.before, vec![place])),
            }
        }
        updates.into_iter().map(|(_, places)| places).collect()
    }

    /// Whether a push of the worker at this place is to be counted now.
    fn wants(&self, place: usize) -> bool {
        self.ledger.expects(place) && (self.order.is_none() || self.next.contains(&place))
    }

    fn take(&mut self, place: usize, gradients: Vec<f32>) {
        self.pending[place] = Some(gradients);
    }

    /// Takes what has come, updates, and answers.
    fn serve(&mut self, comm: &impl Communicator, roads: &Roads, runner: &mut SegmentRunner) -> Result<(), Fault> {
        let own = self.own;
        for place in (0..self.pending.len()).filter(|place| *place != own) {
            let worker = self.group.ranks[place];
            if self.pending[place].is_none() && self.wants(place) && comm.has_come(worker, push_number(self.id))? {
                let payload = take(comm, worker, push_number(self.id))?.value;
                let gradients = payload.into_iter().next().and_then(HostTensor::into_f32);
                let missing = || RuntimeError::Value { value: self.id.to_string(), problem: "was pushed empty".into() };
                let gradients = gradients.ok_or_else(missing)?;
                self.take(place, gradients);
            }
        }
        if !self.all_there() {
            return Ok(());
        }
        for place in 0..self.pending.len() {
            // What is counted already and not applied is not wanted again.
            if self.pending[place].is_some() && self.wants(place) {
                self.ledger.take(place);
            }
        }
        let Some(answer) = self.ledger.answer() else { return Ok(()) };
        self.update(&answer.update, runner);
        for place in answer.readers {
            if place == self.own {
                self.answered = Some(self.parameters.clone());
            } else {
                let (numbers, updates) = self.parameters.clone();
                let payload =
                    vec![HostTensor::f32([numbers.len()], numbers), HostTensor::i32([1], vec![updates as i32])];
                hand_over(comm, roads, self.group.ranks[place], pull_number(self.id), payload)?;
            }
        }
        Ok(())
    }

    /// Whether all is there that a repeated step applied at once.
    fn all_there(&self) -> bool {
        self.order.is_none() || self.next.iter().all(|place| self.pending[*place].is_some())
    }

    /// Applies the sum of what these workers have pushed.
    fn update(&mut self, places: &[usize], runner: &mut SegmentRunner) {
        let gradients = places.iter().filter_map(|place| self.pending[*place].take());
        let sum = gradients.reduce(|mut sum, next| {
            sum.iter_mut().zip(&next).for_each(|(sum, next)| *sum += next);
            sum
        });
        if let Some(sum) = sum {
            let (numbers, updates) = &mut self.parameters;
            *updates += 1;
            runner.update_apart(&self.group.params, *updates, numbers, &sum);
            self.next = self.order.as_mut().and_then(Iterator::next).unwrap_or_default();
        }
    }
}

impl<C: Communicator> RankState<C> {
    /// Before the first instruction of a step.
    pub(super) fn begin_serving(&mut self) {
        let shared = self.shared.clone();
        let recorded = usize::try_from(self.step).ok().and_then(|step| shared.pushes.get(step));
        for server in &mut self.servers {
            server.begin(&shared.program, &self.runner, recorded.map(Vec::as_slice));
        }
    }

    /// What the servers of this rank were given in the step.
    pub(super) fn pushes(&self) -> Vec<Push> {
        self.servers.iter().flat_map(|server| server.ledger.pushes()).copied().collect()
    }

    /// Executes an instruction that deals with a server. Returns how long the rank had nothing to do.
    pub(super) fn deal(&mut self, action: Action) -> Result<Duration, Fault> {
        match action {
            Action::Push { group, .. } => self.push(group).map(|()| Duration::ZERO),
            Action::Pull { group, clock, .. } => self.pull(group, clock),
            _ => self.serve().map(|()| Duration::ZERO),
        }
    }

    fn serve(&mut self) -> Result<(), Fault> {
        let Self { servers, comm, shared, runner, .. } = self;
        servers.iter_mut().try_for_each(|server| server.serve(comm, &shared.roads, runner))
    }

    fn push(&mut self, group: GroupId) -> Result<(), Fault> {
        let params = &self.shared.program.group(group).params;
        let gradients = self.runner.take_gradients(params);
        if let Some(server) = self.servers.iter_mut().find(|server| server.id == group) {
            server.take(server.own, gradients);
            return Ok(());
        }
        let to = self.shared.program.group(group).server(group);
        let payload = vec![HostTensor::f32([gradients.len()], gradients)];
        Ok(hand_over(&self.comm, &self.shared.roads, to, push_number(group), payload)?)
    }

    fn pull(&mut self, group: GroupId, clock: u64) -> Result<Duration, Fault> {
        let server = self.shared.program.group(group).server(group);
        let ((numbers, updates), waited) = if self.servers.is_empty() {
            let arrived = take(&self.comm, server, pull_number(group))?;
            (parameters(arrived.value, group)?, arrived.waited)
        } else {
            self.wait_serving(group, server)?
        };
        self.syncs[group.index()].set_parameters(&mut self.runner, &numbers);
        if clock == self.shared.program.micro_batches {
            self.runner.end_updates(updates);
        }
        Ok(waited)
    }

    /// Serves until the parameters of a group are there.
    fn wait_serving(&mut self, group: GroupId, server: Rank) -> Result<(Parameters, Duration), Fault> {
        let (mut last, mut waited) = (Instant::now(), Duration::ZERO);
        let mut quiet = last;
        loop {
            let before = self.pushed();
            self.serve()?;
            let own = self.servers.iter_mut().find(|server| server.id == group);
            if let Some(own) = own {
                if let Some(parameters) = own.answered.take() {
                    return Ok((parameters, waited));
                }
            } else if self.comm.has_come(server, pull_number(group))? {
                let payload = take(&self.comm, server, pull_number(group))?.value;
                return Ok((parameters(payload, group)?, waited));
            }
            let now = Instant::now();
            if self.pushed() == before {
                waited += now - last;
            } else {
                quiet = now;
            }
            last = now;
            if now - quiet > self.shared.patience {
                return Err(self.lacking(group, server, now - quiet).into());
            }
            rest(now - quiet);
        }
    }

    /// Pushes that have come so far, applied or not.
    fn pushed(&self) -> usize {
        let count = |server: &Server| server.ledger.pushes().len() + server.pending.iter().flatten().count();
        self.servers.iter().map(count).sum()
    }

    /// The error when nothing has come for too long.
    fn lacking(&self, group: GroupId, server: Rank, after: Duration) -> CommError {
        let what = format!("parameters of {group}");
        let own = self.servers.iter().find(|server| server.id == group);
        let late = |server: &Server| {
            let places = (0..server.pending.len()).filter(|place| server.pending[*place].is_none());
            places.map(|place| server.group.ranks[place]).filter(|rank| *rank != self.rank).collect()
        };
        CommError::Timeout { rank: self.rank, what, peers: own.map_or_else(|| vec![server], late), after }
    }
}

/// Lets others have the core, the more the longer nothing comes.
fn rest(quiet: Duration) {
    if quiet < Duration::from_micros(50) {
        std::hint::spin_loop();
    } else if quiet < Duration::from_millis(1) {
        std::thread::yield_now();
    } else {
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn parameters(payload: Vec<HostTensor>, group: GroupId) -> Result<Parameters, RuntimeError> {
    let mut tensors = payload.into_iter();
    let numbers = tensors.next().and_then(HostTensor::into_f32);
    let updates = tensors.next().and_then(|tensor| tensor.as_i32().and_then(|count| count.first().copied()));
    let missing =
        || RuntimeError::Value { value: group.to_string(), problem: "was answered without parameters".into() };
    let updates = updates.and_then(|count| u32::try_from(count).ok());
    numbers.zip(updates).ok_or_else(missing)
}
