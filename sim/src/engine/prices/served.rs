//! What servers cost that take gradients as they come.

use cutplane_plan::{Action, GroupId, Rank};
use cutplane_units::Nanos;

use super::{Pricer, Prices, Wire};
use crate::cost::CostError;
use crate::engine::network::FlowId;
use crate::engine::served::ServedPrice;

impl Prices {
    /// The groups whose servers take gradients as they come.
    pub(in crate::engine) fn served_groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.served.keys().copied()
    }

    /// What the server of such a group asks for its work.
    pub(in crate::engine) fn served(&self, group: GroupId) -> &ServedPrice {
        &self.served[&group]
    }

    /// The way of a push or a pull.
    pub(in crate::engine) fn way(&self, flow: FlowId) -> &Wire {
        &self.ways[&flow]
    }
}

impl Pricer<'_> {
    /// Prices every group that some instruction serves.
    pub(super) fn price_servers(&mut self) -> Result<(), CostError> {
        let program = self.program;
        let actions = program.ranks.iter().flat_map(|rank| &rank.instructions).map(|instruction| instruction.action);
        let mut groups: Vec<GroupId> = actions.filter_map(Action::served).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            self.price_server(group)?;
        }
        Ok(())
    }

    fn price_server(&mut self, id: GroupId) -> Result<(), CostError> {
        let (program, group) = (self.program, self.program.group(id));
        let server = group.server(id);
        let at = program.ranks[server.index()].device;
        let device = self.plan.devices().device(at);
        let elements: Vec<u64> = group.params.iter().map(|param| self.plan.model().param(*param).elements()).collect();
        let update = self.cost.optimizer(self.plan.plan().workload.optimizer, &elements, device)?.alone();
        let answer = self.cost.send(group.bytes, device)? + self.copy(id, server)?;
        let take = self.cost.recv(group.bytes, device)?;
        self.served.insert(id, ServedPrice { take, update, answer });
        for (place, rank) in group.ranks.iter().enumerate().filter(|(_, rank)| **rank != server) {
            let worker = program.ranks[rank.index()].device;
            for (flow, from, to) in [(FlowId::Push((id, place)), worker, at), (FlowId::Pull((id, place)), at, worker)] {
                let (_, _, wire) = self.transfer(from, to, group.bytes)?;
                self.ways.insert(flow, self.wires[wire].clone());
            }
        }
        Ok(())
    }

    /// Time in which a rank lays the numbers of a group end to end, or spreads them out again.
    fn copy(&self, id: GroupId, rank: Rank) -> Result<Nanos, CostError> {
        let device = self.plan.devices().device(self.program.ranks[rank.index()].device);
        self.cost.load(self.program.group(id).bytes, device)
    }

    /// Time of a worker's push: gradients are laid end to end, and handed over where the server is another rank.
    pub(super) fn push(&self, id: GroupId, rank: Rank) -> Result<Nanos, CostError> {
        let group = self.program.group(id);
        let device = self.plan.devices().device(self.program.ranks[rank.index()].device);
        let handed = if group.server(id) == rank { Nanos::ZERO } else { self.cost.send(group.bytes, device)? };
        Ok(self.copy(id, rank)? + handed)
    }

    /// Time of a worker's pull once the parameters are there.
    pub(super) fn pull(&self, id: GroupId, rank: Rank) -> Result<Nanos, CostError> {
        let group = self.program.group(id);
        let device = self.plan.devices().device(self.program.ranks[rank.index()].device);
        let taken = if group.server(id) == rank { Nanos::ZERO } else { self.cost.recv(group.bytes, device)? };
        Ok(self.copy(id, rank)? + taken)
    }
}
