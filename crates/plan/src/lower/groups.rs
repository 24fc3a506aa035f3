//! Which ranks share which parameters.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use cutplane_graph::{ModelGraph, ParamId};
use cutplane_units::Bytes;

use super::segments::Stages;
use crate::plan::Plan;
use crate::program::{Rank, SegmentId, SyncGroup};

/// Trained parameters grouped by the set of ranks that hold them; sets of one rank need no synchronisation. Groups of one
/// pipeline rank are cut into buckets, in the order in which the backward pass is through with their parameters.
pub(super) fn sync_groups(plan: &Plan, model: &ModelGraph, stages: &Stages) -> Vec<SyncGroup> {
    let replicas = plan.data_degree();
    let mut holders: BTreeMap<ParamId, BTreeSet<usize>> = BTreeMap::new();
    for segment in &stages.segments {
        for param in segment.params.iter().filter(|param| stages.frozen.binary_search(param).is_err()) {
            holders.entry(*param).or_default().insert(segment.stage);
        }
    }
    let mut by_ranks: BTreeMap<Vec<usize>, Vec<ParamId>> = BTreeMap::new();
    for (param, holders) in holders.into_iter().filter(|(_, holders)| holders.len() * replicas > 1) {
        by_ranks.entry(holders.into_iter().collect()).or_default().push(param);
    }
    let mut groups: Vec<SyncGroup> = Vec::new();
    for (holders, params) in by_ranks {
        let ranks: Vec<Rank> =
            holders.iter().flat_map(|stage| (0..replicas).map(move |r| Rank((stage * replicas + r) as u32))).collect();
        let buckets = match plan.execution.bucket_bytes {
            Some(least) if holders.len() == 1 => buckets(model, stages, params, least),
            _ => vec![params],
        };
        let ownership = plan.execution.synchronisation.ownership();
        groups.extend(buckets.into_iter().map(|params| {
            let bytes = params.iter().map(|param| model.param(*param).bytes()).sum();
            SyncGroup { ranks: ranks.clone(), params, bytes, ownership }
        }));
    }
    groups.sort_by(|a, b| a.ranks.cmp(&b.ranks));
    groups
}

fn buckets(model: &ModelGraph, stages: &Stages, mut params: Vec<ParamId>, least: Bytes) -> Vec<Vec<ParamId>> {
    let first_user = |param: &ParamId| -> Option<SegmentId> {
        model.param(*param).users.iter().map(|op| stages.segment_of[op.index()]).min()
    };
    params.sort_by_key(|param| Reverse(first_user(param)));
    let (mut buckets, mut held) = (vec![Vec::new()], Bytes::ZERO);
    for param in params {
        if held >= least {
            buckets.push(Vec::new());
            held = Bytes::ZERO;
        }
        held += model.param(param).bytes();
        if let Some(bucket) = buckets.last_mut() {
            bucket.push(param);
        }
    }
    buckets
}
