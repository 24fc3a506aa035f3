//! What a rank does for and with servers that take gradients as they come.

use super::rank::{RankLowering, mine};
use crate::program::{Action, GroupId};

impl RankLowering<'_, '_, '_> {
    fn is_pushed(&self) -> bool {
        self.all.plan.plan().execution.synchronisation.is_pushed()
    }

    /// The groups whose parameters and gradients pass through a server.
    fn pushed(&self) -> Vec<GroupId> {
        if self.is_pushed() { mine(self.all, self.rank).collect() } else { Vec::new() }
    }

    /// Hands the gradients of a micro-batch to the servers.
    pub(super) fn push_gradients(&mut self, clock: u64) {
        for group in self.pushed() {
            self.push(Action::Push { group, clock }, self.last_backward);
        }
    }

    /// Fetches the parameters for a micro-batch; for the first one those of the last step are there. After the last one,
    /// everything that was pushed is waited for.
    pub(super) fn pull(&mut self, clock: u64) {
        if clock == 0 {
            return;
        }
        let plan = self.all.plan.plan();
        let is_last = clock == plan.micro_batches;
        let needs = if is_last { clock } else { plan.execution.synchronisation.needs(clock) };
        let pull = |group| Action::Pull { group, clock, needs };
        self.pulled = self.pushed().into_iter().map(|group| self.push(pull(group), self.last_backward)).collect();
    }

    /// Serves the groups of which this rank is the server.
    pub(super) fn serve(&mut self) {
        for group in self.pushed() {
            if self.all.groups.all[group.index()].server(group) == self.rank {
                self.push(Action::Serve { group }, []);
            }
        }
    }
}
