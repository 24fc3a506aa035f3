//! Mixtures whose experts are dealt to the ranks (Lepikhin et al. 2021, section 3.2).
//!
//! Each rank has a run of the tokens of every sample. Its dispatch makes a buffer `[1, ranks slots, width]`, the rows for each
//! rank after those for the one before it. Over all ranks these are `[ranks, ranks slots, width]`, split along the first axis;
//! split along the second, every rank has what was meant for its experts, `[ranks, slots, width]`. That change of layout is the
//! all-to-all, and its gradient goes the other way. It goes back before the combination.

use super::{Builder, Placed};
use crate::error::ModelError;
use crate::ids::{OpId, ParamId, ValueId};
use crate::local::LocalParam;
use crate::local::kind::local_kind;
use crate::model::Op;
use crate::op::OpKind;
use crate::sharding::{Layout, ShardRule, Sharded, Split};

fn along(axis: usize) -> Placed {
    Placed { sharded: Sharded::split(Layout::Axis(axis)), parts: Vec::new() }
}

impl Builder<'_> {
    /// An operator between a dispatch and the combination of its rows, these included.
    pub(super) fn mixture(&mut self, id: OpId, split: Option<Split>, rule: &ShardRule) -> Result<(), ModelError> {
        let op = self.model.op(id);
        let (Some(split), true) = (split, self.fits(op, split)) else {
            let reason = "is not split as its mixture: by expert from its dispatch to its combination, or none of them";
            return Err(self.refuse(id, reason.to_owned()));
        };
        let kind = local_kind(&op.kind, split, self.ranks);
        let kind = kind.ok_or_else(|| self.refuse(id, format!("is not executed split by {split:?}")))?;
        let mut inputs = Vec::with_capacity(op.inputs.len());
        for (index, wanted) in rule.inputs.iter().enumerate() {
            inputs.push(self.input(id, index, *wanted)?);
        }
        let (sends, returns) = (matches!(kind, OpKind::Dispatch(_)), matches!(kind, OpKind::Combine(_)));
        if returns {
            inputs[0] = self.exchange(id, (inputs[0], along(1)), along(0))?;
        }
        if split == Split::Expert {
            self.tables.push(OpId::new(self.ops.len()));
        }
        let params = self.deal(id)?;
        let local = Op { name: op.name.clone(), kind, inputs, output: ValueId::new(0), params, layer: op.layer };
        let mut output = self.push_inferred(local, id)?;
        if sends {
            output = self.exchange(id, (output, along(0)), along(1))?;
        }
        if !returns {
            self.rows.insert(op.output);
        }
        self.placed[op.output.index()] = Some((output, along(0)));
        Ok(())
    }

    /// Rows that lie with the owners of their experts are for experts, what treats each row alone, and the combination.
    fn fits(&self, op: &Op, split: Option<Split>) -> bool {
        let takes_rows = op.inputs.first().is_some_and(|value| self.rows.contains(value));
        let stays = !self.model.outputs().contains(&op.output);
        match (&op.kind, split) {
            (OpKind::Dispatch(_), Some(Split::Expert)) => !takes_rows && stays,
            (OpKind::ExpertLinear(_), Some(Split::Expert)) => takes_rows && stays,
            (OpKind::Combine(_), Some(Split::Expert)) => takes_rows,
            (OpKind::Activation { .. } | OpKind::Gate(_), Some(Split::Sequence)) => {
                stays && op.inputs.iter().all(|value| self.rows.contains(value))
            }
            _ => false,
        }
    }

    /// Deals the experts' parameters to the ranks in runs. The first run's ids stand for those of every rank.
    fn deal(&mut self, id: OpId) -> Result<Vec<ParamId>, ModelError> {
        let all = self.model.op(id).params.clone();
        if all.iter().any(|param| self.model.param(*param).users.len() > 1) {
            return Err(self.refuse(id, "shares parameters of experts, which are dealt to the ranks".to_owned()));
        }
        let own = all[..all.len() / self.ranks as usize].to_vec();
        for (index, param) in own.iter().enumerate() {
            let owners = all.iter().skip(index).step_by(own.len()).copied().collect();
            let whole = LocalParam::new(Sharded::split(Layout::Owned), Vec::new(), &self.model.param(*param).shape);
            self.params[param.index()] = Some(LocalParam { owners, ..whole });
        }
        Ok(own)
    }
}
