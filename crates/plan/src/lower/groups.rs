//! Which ranks share which parameters, and which exchange values.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use cutplane_graph::ParamId;
use cutplane_graph::sharding::{Collective, Layout};
use cutplane_units::Bytes;

use super::segments::Stages;
use crate::program::{Direction, GroupId, Ownership, Rank, SegmentId, SyncGroup};
use crate::verify::VerifiedPlan;

/// The collectives of a program.
pub(super) struct Groups {
    pub(super) all: Vec<SyncGroup>,
    /// The group in which a replica exchanges a value, forward or backward.
    exchanges: BTreeMap<(SegmentId, usize, Direction), GroupId>,
}

impl Groups {
    pub(super) fn new(plan: &VerifiedPlan<'_>, stages: &Stages) -> Self {
        let mut groups = Self { all: sync_groups(plan, stages), exchanges: BTreeMap::new() };
        for (id, exchange) in &stages.exchanges {
            for (direction, collective) in
                [(Direction::Activation, exchange.forward()), (Direction::Gradient, exchange.backward())]
            {
                if collective != Collective::None {
                    groups.add_exchange(plan, stages, *id, direction);
                }
            }
        }
        groups
    }

    fn add_exchange(&mut self, plan: &VerifiedPlan<'_>, stages: &Stages, id: SegmentId, direction: Direction) {
        let (replicas, degree) = (plan.plan().data_degree(), plan.plan().execution.tensor_degree());
        let segment = &stages.segments[id.index()];
        let (batch, precision) = (plan.plan().micro_batch_size(), plan.plan().workload.precision);
        let values = segment.inputs.iter().chain(&segment.outputs);
        let bytes = values.map(|value| plan.model().value(*value).ty.bytes_in(batch, precision)).max();
        for replica in 0..replicas {
            let first = (segment.stage * replicas + replica) * degree;
            let ranks = (first..first + degree).map(|rank| Rank(rank as u32)).collect();
            self.exchanges.insert((id, replica, direction), GroupId(self.all.len() as u32));
            let (params, bytes, ownership) = (Vec::new(), bytes.unwrap_or(Bytes::ZERO), Ownership::Everybody);
            self.all.push(SyncGroup { ranks, params, bytes, ownership });
        }
    }

    /// Where a replica exchanges a value; `None` when nothing moves.
    pub(super) fn exchange(&self, id: SegmentId, replica: usize, direction: Direction) -> Option<GroupId> {
        self.exchanges.get(&(id, replica, direction)).copied()
    }
}

/// Trained parameters grouped by the set of ranks that hold the same part of them, or compute summands of the same gradient;
/// sets of one rank need no synchronisation. Groups of one pipeline rank are cut into buckets, in the order in which the
/// backward pass is through with their parameters.
fn sync_groups(plan: &VerifiedPlan<'_>, stages: &Stages) -> Vec<SyncGroup> {
    let mut holders: BTreeMap<ParamId, BTreeSet<usize>> = BTreeMap::new();
    for segment in &stages.segments {
        for param in segment.params.iter().filter(|param| stages.frozen.binary_search(param).is_err()) {
            holders.entry(*param).or_default().insert(segment.stage);
        }
    }
    let mut alike: BTreeMap<(Vec<usize>, bool), Vec<ParamId>> = BTreeMap::new();
    for (param, holders) in holders {
        let partial = plan.local().is_some_and(|local| local.param(param).sharded.gradient == Layout::Partial);
        alike.entry((holders.into_iter().collect(), partial)).or_default().push(param);
    }
    let mut groups: Vec<SyncGroup> = Vec::new();
    for ((holders, partial), params) in alike {
        let buckets = match plan.plan().execution.bucket_bytes {
            Some(least) if holders.len() == 1 => buckets(plan, stages, params, least),
            _ => vec![params],
        };
        for ranks in rank_sets(plan, &holders, partial).into_iter().filter(|ranks| ranks.len() > 1) {
            groups.extend(buckets.iter().map(|params| group(plan, ranks.clone(), params.clone())));
        }
    }
    groups.sort_by(|a, b| a.ranks.cmp(&b.ranks));
    groups
}

/// The ranks of some pipeline ranks that share a parameter: all of them when each computes a summand of its gradient, and
/// otherwise those at one place of the tensor axis.
fn rank_sets(plan: &VerifiedPlan<'_>, stages: &[usize], partial: bool) -> Vec<Vec<Rank>> {
    let (replicas, degree) = (plan.plan().data_degree(), plan.plan().execution.tensor_degree());
    let all = || stages.iter().flat_map(|stage| stage * replicas * degree..(stage + 1) * replicas * degree);
    let at = |place: Option<usize>| {
        all().filter(|rank| place.is_none_or(|place| rank % degree == place)).map(|rank| Rank(rank as u32)).collect()
    };
    if partial { vec![at(None)] } else { (0..degree).map(|place| at(Some(place))).collect() }
}

fn group(plan: &VerifiedPlan<'_>, ranks: Vec<Rank>, params: Vec<ParamId>) -> SyncGroup {
    let bytes = params.iter().map(|param| plan.model().param(*param).bytes()).sum();
    SyncGroup { ranks, params, bytes, ownership: plan.plan().execution.synchronisation.ownership() }
}

fn buckets(plan: &VerifiedPlan<'_>, stages: &Stages, mut params: Vec<ParamId>, least: Bytes) -> Vec<Vec<ParamId>> {
    let first_user = |param: &ParamId| -> Option<SegmentId> {
        plan.model().param(*param).users.iter().map(|op| stages.segment_of[op.index()]).min()
    };
    params.sort_by_key(|param| Reverse(first_user(param)));
    let (mut buckets, mut held) = (vec![Vec::new()], Bytes::ZERO);
    for param in params {
        if held >= least {
            buckets.push(Vec::new());
            held = Bytes::ZERO;
        }
        held += plan.model().param(param).bytes();
        if let Some(bucket) = buckets.last_mut() {
            bucket.push(param);
        }
    }
    buckets
}
