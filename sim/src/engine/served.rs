//! Servers that take gradients as they come, in virtual time: [`cutplane_plan::PushLedger`] says what may be done, this when it is
//! done.
//!
//! A server is a rank that also computes. It serves where its list says so, and while it waits for parameters itself; what comes
//! in between lies in its inbox. Serving takes as long as taking what lies there, one update, and handing the parameters to each
//! reader, one after another; they leave when all of it is done.

use std::collections::{BTreeMap, BTreeSet};

use cutplane_plan::{GroupId, Program, PushLedger, Rank};
use cutplane_units::Nanos;

use super::network::FlowId;
use super::run::{Event, Place, Run};

/// A rank of a group: the worker that a push comes from or a pull goes to.
pub(super) type Worker = (GroupId, usize);

/// What a server's work costs, and the ways to it.
#[derive(Clone, Debug)]
pub(super) struct ServedPrice {
    /// Taking one push, updating once, and handing the parameters to one reader.
    pub(super) take: Nanos,
    pub(super) update: Nanos,
    pub(super) answer: Nanos,
}

/// A rank that waits for parameters.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    place: Place,
    group: GroupId,
    /// How long it takes to take them, once they are there.
    busy: Nanos,
    /// Whether it is serving now.
    serving: bool,
    /// How long it has served since it began to wait.
    served: Nanos,
}

/// The servers of a program.
#[derive(Debug, Default)]
pub(super) struct Servers {
    ledgers: BTreeMap<GroupId, PushLedger>,
    /// Pushes that lie with a server.
    inbox: BTreeMap<GroupId, Vec<usize>>,
    /// Parameters that lie with a worker.
    here: BTreeSet<Worker>,
    /// Parameters that leave when a server is done.
    leaving: BTreeMap<usize, Vec<Worker>>,
    waiting: BTreeMap<usize, Waiting>,
}

impl Servers {
    pub(super) fn new(program: &Program, groups: impl Iterator<Item = GroupId>) -> Self {
        let ledgers: BTreeMap<_, _> = groups.map(|group| (group, PushLedger::new(program, group))).collect();
        Self { ledgers, ..Self::default() }
    }
}

impl Run<'_> {
    fn server(&self, group: GroupId) -> usize {
        self.program.group(group).server(group).index()
    }

    fn place_in(&self, group: GroupId, rank: usize) -> usize {
        let ranks = &self.program.group(group).ranks;
        ranks.iter().position(|member| *member == Rank(rank as u32)).unwrap_or(0)
    }

    /// A worker has handed its gradients over; those of the server are with it at once.
    pub(super) fn pushed(&mut self, group: GroupId, rank: usize) {
        let worker = (group, self.place_in(group, rank));
        if self.server(group) == rank {
            self.servers.inbox.entry(group).or_default().push(worker.1);
        } else {
            self.travel(FlowId::Push(worker), Event::Pushed(worker));
        }
    }

    /// Puts what goes between a worker and its server on the links, or has it arrive where there are none.
    fn travel(&mut self, flow: FlowId, arrival: Event) {
        let wire = self.prices.way(flow);
        if wire.load.time.is_zero() || wire.load.uses.is_empty() {
            self.at(self.now + wire.load.time + wire.latency, arrival);
        } else {
            self.network.start(flow, &wire.load, self.now);
        }
    }

    /// A push has come to its server.
    pub(super) fn push_arrived(&mut self, (group, place): Worker) {
        self.servers.inbox.entry(group).or_default().push(place);
        self.attend(self.server(group));
    }

    /// Parameters have come to a worker.
    pub(super) fn pull_arrived(&mut self, worker: Worker) {
        self.servers.here.insert(worker);
        self.attend(self.program.group(worker.0).ranks[worker.1].index());
    }

    /// A rank begins to wait for parameters.
    pub(super) fn wait_for_parameters(&mut self, place: Place, group: GroupId, busy: Nanos) {
        let waiting = Waiting { place, group, busy, serving: false, served: Nanos::ZERO };
        self.servers.waiting.insert(place.rank, waiting);
        self.attend(place.rank);
    }

    /// What a rank that waits for parameters does now: it serves, goes on, or waits.
    fn attend(&mut self, rank: usize) {
        let Some(waiting) = self.servers.waiting.get(&rank).copied().filter(|waiting| !waiting.serving) else { return };
        let time = self.serve_all(rank);
        if !time.is_zero() {
            self.servers.waiting.insert(rank, Waiting { serving: true, served: waiting.served + time, ..waiting });
            return self.at(self.now + time, Event::Served(rank));
        }
        self.depart_served(rank);
        let worker = (waiting.group, self.place_in(waiting.group, rank));
        if self.servers.here.remove(&worker) {
            self.servers.waiting.remove(&rank);
            self.stop_serving(waiting.place, waiting.served, waiting.busy);
        }
    }

    /// A rank that waits for parameters is through with what it served.
    pub(super) fn served(&mut self, rank: usize) {
        if let Some(waiting) = self.servers.waiting.get_mut(&rank) {
            waiting.serving = false;
        }
        self.depart_served(rank);
        self.attend(rank);
    }

    /// What a server has answered leaves; to itself it is there.
    pub(super) fn depart_served(&mut self, rank: usize) {
        for worker in self.servers.leaving.remove(&rank).unwrap_or_default() {
            if self.program.group(worker.0).ranks[worker.1].index() == rank {
                self.servers.here.insert(worker);
            } else {
                self.travel(FlowId::Pull(worker), Event::Pulled(worker));
            }
        }
    }

    /// Serves all groups of a rank; the time that it takes.
    fn serve_all(&mut self, rank: usize) -> Nanos {
        let groups: Vec<GroupId> = self.servers.ledgers.keys().copied().filter(|g| self.server(*g) == rank).collect();
        groups.into_iter().map(|group| self.serve(rank, group)).sum()
    }

    /// Takes what lies in a server's inbox and answers whom it may; the time that it takes. The answers leave at its end.
    pub(super) fn serve(&mut self, rank: usize, group: GroupId) -> Nanos {
        let own = self.place_in(group, rank);
        let (price, servers) = (self.prices.served(group), &mut self.servers);
        let Some(ledger) = servers.ledgers.get_mut(&group) else { return Nanos::ZERO };
        let mut time = Nanos::ZERO;
        for place in servers.inbox.remove(&group).unwrap_or_default() {
            ledger.take(place);
            time += if place == own { Nanos::ZERO } else { price.take };
        }
        if let Some(answer) = ledger.answer() {
            time += if answer.update.is_empty() { Nanos::ZERO } else { price.update };
            let others = answer.readers.iter().filter(|place| **place != own).count();
            time += price.answer * others as u64;
            let readers = answer.readers.into_iter().map(|place| (group, place));
            servers.leaving.entry(rank).or_default().extend(readers);
        }
        time
    }
}
