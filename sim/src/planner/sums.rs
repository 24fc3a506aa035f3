//! Sums of gradients over groups of devices, each kind of group looked at once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use cutplane_graph::{DeviceGraph, DeviceId};
use cutplane_units::Bytes;

use super::error::PlanError;
use super::fleet::GroupKey;
use crate::cost::{AllReduces, CostModel};

/// Groups of devices, and what decides the price of each.
pub(super) type KeyedGroups<'g> = (&'g [Vec<DeviceId>], &'g [GroupKey]);

/// The prices of the kinds of groups met so far.
pub(super) struct Sums<'a> {
    cost: &'a dyn CostModel,
    graph: &'a DeviceGraph,
    known: RefCell<HashMap<GroupKey, Rc<AllReduces<'a>>>>,
}

impl<'a> Sums<'a> {
    pub(super) fn new(cost: &'a dyn CostModel, graph: &'a DeviceGraph) -> Self {
        Self { cost, graph, known: RefCell::default() }
    }

    /// The sums of some groups, each kind once; groups of one device have nothing to sum.
    ///
    /// # Errors
    /// [`PlanError::Cost`].
    pub(super) fn of(&self, (groups, keys): KeyedGroups<'_>) -> Result<Slowest<'a>, PlanError> {
        let mut kinds: Vec<Rc<AllReduces<'a>>> = Vec::new();
        for (group, key) in groups.iter().zip(keys).filter(|(group, _)| group.len() > 1) {
            let sum = self.one(group, key)?;
            if !kinds.iter().any(|known| Rc::ptr_eq(known, &sum)) {
                kinds.push(sum);
            }
        }
        Ok(Slowest { kinds })
    }

    fn one(&self, group: &[DeviceId], key: &GroupKey) -> Result<Rc<AllReduces<'a>>, PlanError> {
        if let Some(known) = self.known.borrow().get(key) {
            return Ok(Rc::clone(known));
        }
        let sum = Rc::new(self.cost.all_reduces(group.to_vec(), self.graph)?);
        self.known.borrow_mut().insert(key.clone(), Rc::clone(&sum));
        Ok(sum)
    }
}

/// Sums over several groups at once.
pub(super) struct Slowest<'a> {
    kinds: Vec<Rc<AllReduces<'a>>>,
}

impl Slowest<'_> {
    /// Time until all groups have summed so many bytes, ns.
    ///
    /// # Errors
    /// [`PlanError::Cost`].
    pub(super) fn nanos(&self, bytes: Bytes) -> Result<u64, PlanError> {
        if bytes.is_zero() {
            return Ok(0);
        }
        self.kinds.iter().try_fold(0, |slowest: u64, sum| Ok(slowest.max(sum(bytes)?.get())))
    }
}
