//! The clock: queues, events, and who waits for whom.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use cutplane_plan::{GroupId, MessageId, Program, RankProgram, Stream, VerifiedPlan};
use cutplane_record::Span;
use cutplane_units::Nanos;

use super::SimError;
use super::network::{FlowId, Network};
use super::prices::{Job, Prices};
use super::served::{Servers, Worker};
use super::workers::Workers;
use crate::cost::CostModel;

/// Something that happens at an instant. The order breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The head of a queue ends.
    QueueDone(Place),
    /// A rank's compute work ends, if the version is the current one.
    WorkDone(Place, u64),
    /// Traffic has left the links, if the version is the current one.
    FlowDone(FlowId, u64),
    /// A message is there.
    Arrival(MessageId),
    /// Gradients are with their server, parameters with their worker.
    Pushed(Worker),
    Pulled(Worker),
    /// A rank that waits for parameters has served.
    Served(usize),
}

/// A queue of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) rank: usize,
    queue: usize,
}

/// Instructions of a rank that run in order.
#[derive(Clone, Debug, Default)]
struct Queue {
    /// Positions in the rank's list.
    positions: Vec<usize>,
    /// Instructions that have ended.
    done: usize,
    /// The head: when its rank turned to it, and how long it waited for a peer.
    head: Option<(Nanos, Nanos)>,
}

/// State of a rank.
#[derive(Clone, Debug)]
struct RankState {
    queues: Vec<Queue>,
    /// By position.
    ended: Vec<bool>,
    /// Positions that each position depends on.
    needs: Vec<Vec<usize>>,
}

impl RankState {
    fn new(rank: &RankProgram, overlaps: bool) -> Self {
        let mut queues = vec![Queue::default(); if overlaps { 4 } else { 1 }];
        for (position, instruction) in rank.instructions.iter().enumerate() {
            let queue = if overlaps { queue_of(instruction.action.stream()) } else { 0 };
            queues[queue].positions.push(position);
        }
        let position_of = |id| rank.instructions.binary_search_by_key(&id, |instruction| instruction.id).ok();
        let needs = rank
            .instructions
            .iter()
            .map(|instruction| instruction.depends_on.iter().filter_map(|id| position_of(*id)).collect());
        Self { queues, ended: vec![false; rank.instructions.len()], needs: needs.collect() }
    }

    /// The position that a queue can start now.
    fn startable(&self, queue: usize) -> Option<usize> {
        let queue = &self.queues[queue];
        let position = *queue.positions.get(queue.done)?;
        let ready = queue.head.is_none() && self.needs[position].iter().all(|need| self.ended[*need]);
        ready.then_some(position)
    }
}

const fn queue_of(stream: Stream) -> usize {
    match stream {
        Stream::Compute => 0,
        Stream::Send => 1,
        Stream::Recv => 2,
        Stream::Collective => 3,
    }
}

/// One execution of a program.
pub(super) struct Run<'a> {
    pub(super) program: &'a Program,
    pub(super) prices: &'a Prices,
    pub(super) now: Nanos,
    events: BinaryHeap<Reverse<(Nanos, Event)>>,
    ranks: Vec<RankState>,
    /// Ranks that may have something to start.
    ready: BTreeSet<usize>,
    workers: Workers<'a>,
    pub(super) network: Network<'a>,
    pub(super) servers: Servers,
    /// By message: whether it is there, and who waits for it.
    arrived: Vec<bool>,
    receiver: Vec<Option<Place>>,
    /// By group: who has come to it.
    gathered: Vec<Vec<Place>>,
    spans: Vec<Span>,
}

/// Runs a program to its end; spans by rank, then start.
pub(super) fn run(
    plan: &VerifiedPlan<'_>,
    program: &Program,
    prices: &Prices,
    cost: &dyn CostModel,
) -> Result<Vec<Span>, SimError> {
    let devices = plan.devices();
    let overlaps = |rank: &RankProgram| cost.overlaps(devices.device(rank.device));
    let mut run = Run {
        program,
        prices,
        now: Nanos::ZERO,
        events: BinaryHeap::new(),
        ranks: program.ranks.iter().map(|rank| RankState::new(rank, overlaps(rank))).collect(),
        ready: (0..program.ranks.len()).collect(),
        workers: Workers::new(program.ranks.iter().map(|rank| rank.device).collect(), devices, cost),
        network: Network::new(devices),
        servers: Servers::new(program, prices.served_groups()),
        arrived: vec![false; program.messages.len()],
        receiver: vec![None; program.messages.len()],
        gathered: vec![Vec::new(); program.groups.len()],
        spans: Vec::with_capacity(program.instruction_count()),
    };
    run.finish_all();
    run.check_ended()?;
    run.spans.sort_by_key(|span| (span.rank, span.start, span.instruction));
    Ok(run.spans)
}

impl Run<'_> {
    fn finish_all(&mut self) {
        loop {
            while let Some(rank) = self.ready.pop_first() {
                self.start_what_can(rank);
            }
            self.settle();
            let Some(Reverse((instant, _))) = self.events.peek().copied() else { break };
            self.now = instant;
            // All that happens at one instant happens before anyone reacts.
            while let Some(Reverse((at, event))) = self.events.peek().copied()
                && at == instant
            {
                self.events.pop();
                self.handle(event);
            }
        }
    }

    pub(super) fn at(&mut self, instant: Nanos, event: Event) {
        self.events.push(Reverse((instant, event)));
    }

    /// New rates from now on, and the ends that follow from them.
    fn settle(&mut self) {
        for (end, rank, version) in self.workers.settle(self.now) {
            let place = Place { rank, queue: queue_of(Stream::Compute) };
            self.at(end, Event::WorkDone(place, version));
        }
        for (end, flow, version) in self.network.settle(self.now) {
            self.at(end, Event::FlowDone(flow, version));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::QueueDone(place) => self.end(place),
            Event::WorkDone(place, version) => {
                if self.workers.finish(place.rank, version) {
                    self.end(place);
                }
            }
            Event::FlowDone(flow, version) => {
                if self.network.finish(flow, version) {
                    self.flowed(flow);
                }
            }
            Event::Arrival(message) => self.arrive(message),
            Event::Pushed(worker) => self.push_arrived(worker),
            Event::Pulled(worker) => self.pull_arrived(worker),
            Event::Served(rank) => self.served(rank),
        }
    }

    fn start_what_can(&mut self, rank: usize) {
        for queue in 0..self.ranks[rank].queues.len() {
            if let Some(position) = self.ranks[rank].startable(queue) {
                self.start(Place { rank, queue }, position);
            }
        }
    }

    fn start(&mut self, place: Place, position: usize) {
        self.ranks[place.rank].queues[place.queue].head = Some((self.now, Nanos::ZERO));
        match self.prices.jobs[place.rank][position] {
            Job::Work(work) if !work.alone().is_zero() => self.workers.start(place.rank, work, self.now),
            Job::Work(_) => self.at(self.now, Event::QueueDone(place)),
            Job::Fixed(busy) | Job::Send { busy, .. } | Job::Push { busy, .. } => {
                self.at(self.now + busy, Event::QueueDone(place));
            }
            Job::Recv { message, busy } if self.arrived[message.index()] => self.stop_waiting(place, busy),
            Job::Recv { message, .. } => self.receiver[message.index()] = Some(place),
            Job::Serve { group } => {
                let busy = self.serve(place.rank, group);
                self.at(self.now + busy, Event::QueueDone(place));
            }
            Job::Pull { group, busy } => self.wait_for_parameters(place, group, busy),
            Job::AllReduce { group, half } => {
                self.gathered[group.index()].push(place);
                if self.gathered[group.index()].len() == self.program.group(group).ranks.len() {
                    self.reduce(group, half);
                }
            }
        }
    }

    /// All ranks of a group have come: their all-reduce starts.
    fn reduce(&mut self, group: GroupId, half: bool) {
        let load = self.prices.group(group, half);
        if load.time.is_zero() || load.uses.is_empty() {
            for member in std::mem::take(&mut self.gathered[group.index()]) {
                self.stop_waiting(member, load.time);
            }
            return;
        }
        for index in 0..self.gathered[group.index()].len() {
            self.note_waiting(self.gathered[group.index()][index]);
        }
        self.network.start(FlowId::Group(group), load, self.now);
    }

    /// Traffic has left the links: a message arrives a latency later, an all-reduce ends for all its ranks.
    fn flowed(&mut self, flow: FlowId) {
        match flow {
            FlowId::Message(message) => {
                self.at(self.now + self.prices.wire(message).latency, Event::Arrival(message));
            }
            FlowId::Push(worker) => self.at(self.now + self.prices.way(flow).latency, Event::Pushed(worker)),
            FlowId::Pull(worker) => self.at(self.now + self.prices.way(flow).latency, Event::Pulled(worker)),
            FlowId::Group(group) => {
                for member in std::mem::take(&mut self.gathered[group.index()]) {
                    self.end(member);
                }
            }
        }
    }

    /// Records how long the head of a queue has waited for what is there now.
    fn note_waiting(&mut self, place: Place) {
        let now = self.now;
        let head = &mut self.ranks[place.rank].queues[place.queue].head;
        let (start, waited) = head.as_mut().expect("only a head waits");
        *waited = now - *start;
    }

    /// What the head of a queue waited for is there: it ends `busy` later.
    fn stop_waiting(&mut self, place: Place, busy: Nanos) {
        self.note_waiting(place);
        self.at(self.now + busy, Event::QueueDone(place));
    }

    /// What the head of a queue waited for is there; of the wait it has served for some time.
    pub(super) fn stop_serving(&mut self, place: Place, served: Nanos, busy: Nanos) {
        self.note_waiting(place);
        if let Some((_, waited)) = &mut self.ranks[place.rank].queues[place.queue].head {
            *waited = waited.saturating_sub(served);
        }
        self.at(self.now + busy, Event::QueueDone(place));
    }

    fn arrive(&mut self, message: MessageId) {
        self.arrived[message.index()] = true;
        let Some(place) = self.receiver[message.index()].take() else { return };
        let position = self.head_position(place);
        if let Job::Recv { busy, .. } = self.prices.jobs[place.rank][position] {
            self.stop_waiting(place, busy);
        }
    }

    fn head_position(&self, place: Place) -> usize {
        let queue = &self.ranks[place.rank].queues[place.queue];
        queue.positions[queue.done]
    }

    fn end(&mut self, place: Place) {
        let position = self.head_position(place);
        let state = &mut self.ranks[place.rank];
        let queue = &mut state.queues[place.queue];
        let (start, waited) = queue.head.take().expect("only a head ends");
        queue.done += 1;
        state.ended[position] = true;
        let rank = &self.program.ranks[place.rank];
        let instruction = rank.instructions[position].id;
        self.spans.push(Span { instruction, rank: rank.rank, start, end: self.now, waited });
        self.ready.insert(place.rank);
        match self.prices.jobs[place.rank][position] {
            Job::Send { message, .. } => self.depart(message),
            Job::Push { group, .. } => self.pushed(group, place.rank),
            Job::Serve { .. } => self.depart_served(place.rank),
            _ => {}
        }
    }

    fn depart(&mut self, message: MessageId) {
        let wire = self.prices.wire(message);
        if wire.load.time.is_zero() || wire.load.uses.is_empty() {
            self.at(self.now + wire.load.time + wire.latency, Event::Arrival(message));
        } else {
            self.network.start(FlowId::Message(message), &wire.load, self.now);
        }
    }

    fn check_ended(&self) -> Result<(), SimError> {
        for (rank, state) in self.program.ranks.iter().zip(&self.ranks) {
            if let Some(position) = state.ended.iter().position(|ended| !ended) {
                let action = rank.instructions[position].action.label();
                return Err(SimError::Deadlock { rank: rank.rank, action });
            }
        }
        Ok(())
    }
}
