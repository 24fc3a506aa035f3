//! Which operators to split over a tensor axis.

use std::collections::{BTreeMap, BTreeSet};

use super::kind::local_kind;
use crate::error::ModelError;
use crate::ids::{OpId, ValueId};
use crate::model::{ModelGraph, Op};
use crate::op::OpKind;
use crate::sharding::{Layout, ShardRule, Sharded, Split};

/// A split for each operator; `None` computes it whole on every rank.
pub type Splits = Vec<Option<Split>>;

/// The rule of a split of an operator that `ranks` ranks can execute.
pub(super) fn rule(model: &ModelGraph, op: OpId, split: Split, ranks: u64) -> Option<ShardRule> {
    local_kind(&model.op(op).kind, split, ranks)?;
    if split == Split::Expert {
        return dealt_rule(model, op, ranks);
    }
    // What ranks exchange inside a cross-entropy is taken out of it: two numbers a row.
    let taken_apart = matches!(model.op(op).kind, OpKind::CrossEntropy { .. });
    let fits = |rule: &ShardRule| {
        rule.split == split
            && (rule.inside.is_empty() || taken_apart)
            && rule.extent != u64::MAX
            && rule.extent.is_multiple_of(ranks)
    };
    model.shard_rules(op, 1).into_iter().find(fits)
}

/// The rule by which experts are dealt to ranks that have a part of each sequence. The exchanges inside are taken out. All ranks
/// have all gates, which say who sends what to whom; each finds a summand of their gradient, that of its own tokens.
fn dealt_rule(model: &ModelGraph, op: OpId, ranks: u64) -> Option<ShardRule> {
    let gates = model.op(op).inputs.get(1)?;
    let divides = model.value(*gates).ty.dims.first().is_some_and(|tokens| tokens.is_multiple_of(ranks));
    let by_position = |rule: &ShardRule| {
        let batch = rule.inputs.iter().chain([&rule.output]).any(|tensor| tensor.value == Layout::Batch);
        rule.split == Split::Expert && rule.extent.is_multiple_of(ranks) && divides && !batch
    };
    let mut rule = model.shard_rules(op, 1).into_iter().find(by_position)?;
    rule.inputs[1] = Sharded::shared();
    Some(rule)
}

/// Tensor parallelism (Shoeybi et al. 2019, section 3): heads of an attention between a column and a row split, a feed-forward
/// layer likewise, embedding, output head and loss by vocabulary; with `sequence`, norms and residual sums of the layers by
/// position (Korthikanti et al. 2022, section 4.2.2). What cannot be split over `ranks` is left whole.
pub fn tensor_splits(model: &ModelGraph, ranks: u64, sequence: bool) -> Splits {
    let mut chosen = Chooser::new(model, ranks);
    for op in model.op_ids() {
        chosen.attention(op);
    }
    for op in model.op_ids() {
        chosen.feed_forward(op);
    }
    for op in model.op_ids() {
        chosen.vocabulary(op);
    }
    if sequence {
        chosen.positions(|kind| {
            matches!(kind, OpKind::Add | OpKind::LayerNorm { .. } | OpKind::RmsNorm(_) | OpKind::Dropout(_))
        });
    }
    chosen.splits
}

/// Context parallelism: everything in the layers by position, attentions by head (Jacobs et al. 2023), with an exchange of
/// all with all before and after each attention.
pub fn context_splits(model: &ModelGraph, ranks: u64) -> Splits {
    let mut chosen = Chooser::new(model, ranks);
    chosen.context();
    chosen.splits
}

/// Expert parallelism (Lepikhin et al. 2021, section 3.2) over ranks that share each sequence, which are those of a context
/// axis (Liu et al. 2025, "MoE Parallel Folding"): each rank has an equal run of the experts, and rows travel to and from
/// them. Everything else in the layers is split as by [`context_splits`].
///
/// # Errors
/// [`ModelError::Split`] when there are no experts, or when the ranks do not divide them or the tokens.
pub fn expert_splits(model: &ModelGraph, ranks: u64) -> Result<Splits, ModelError> {
    let refuse = |op: &str, reason: String| ModelError::Split { op: op.to_owned(), reason };
    let mut chosen = Chooser::new(model, ranks);
    let mut dealt = false;
    for id in model.op_ids() {
        let OpKind::Dispatch(kind) = &model.op(id).kind else { continue };
        if !chosen.mixture(id) {
            let (name, experts) = (&model.op(id).name, kind.routing.experts);
            let tokens = model.value(model.op(id).inputs[0]).ty.dims.first().copied().unwrap_or(0);
            let problem = format!("cannot deal {experts} experts and {tokens} tokens a sample to {ranks} ranks");
            return Err(refuse(name, format!("{problem}: choose a number of ranks that divides both")));
        }
        dealt = true;
    }
    if !dealt {
        let reason =
            format!("has no mixture of experts to deal to {ranks} ranks: choose a model that has, or another axis");
        return Err(refuse(model.name(), reason));
    }
    chosen.context();
    Ok(chosen.splits)
}

struct Chooser<'m> {
    model: &'m ModelGraph,
    ranks: u64,
    splits: Splits,
}

impl<'m> Chooser<'m> {
    fn new(model: &'m ModelGraph, ranks: u64) -> Self {
        Self { model, ranks, splits: vec![None; model.ops().len()] }
    }

    fn can(&self, op: OpId, split: Split) -> bool {
        self.splits[op.index()].is_none() && rule(self.model, op, split, self.ranks).is_some() && !self.is_tied(op)
    }

    /// Whether an operator shares a parameter; such ones are split together or not at all.
    fn is_tied(&self, op: OpId) -> bool {
        self.model.op(op).params.iter().any(|param| self.model.param(*param).users.len() > 1)
    }

    fn mark(&mut self, op: OpId, split: Split) {
        self.splits[op.index()] = Some(split);
    }

    fn mark_if(&mut self, op: OpId, split: Split) {
        if self.can(op, split) {
            self.mark(op, split);
        }
    }

    /// The only operator that reads a value.
    fn only_reader(&self, value: ValueId) -> Option<OpId> {
        match self.model.value(value).consumers[..] {
            [reader] if !self.model.outputs().contains(&value) => Some(reader),
            _ => None,
        }
    }

    fn producers(&self, op: &Op) -> Option<Vec<OpId>> {
        op.inputs.iter().map(|value| self.model.value(*value).producer).collect()
    }

    /// An attention whose inputs come from linear layers and whose output goes to one.
    fn attention(&mut self, id: OpId) {
        let op = self.model.op(id);
        if !matches!(op.kind, OpKind::Attention(_)) || !self.can(id, Split::Heads) {
            return;
        }
        let Some(columns) = self.producers(op) else { return };
        let alone = op.inputs.iter().all(|value| self.only_reader(*value) == Some(id));
        let Some(row) = self.only_reader(op.output).filter(|row| self.can(*row, Split::Row)) else { return };
        if alone && columns.iter().all(|column| self.can(*column, Split::Column)) {
            for column in columns {
                self.mark(column, Split::Column);
            }
            self.mark(id, Split::Heads);
            self.mark(row, Split::Row);
        }
    }

    /// A linear layer at the end of pointwise operators that begin at linear layers.
    fn feed_forward(&mut self, row: OpId) {
        if !self.can(row, Split::Row) {
            return;
        }
        let (mut between, mut columns) = (BTreeSet::new(), BTreeSet::new());
        let mut open = vec![(self.model.op(row).inputs[0], row)];
        while let Some((value, reader)) = open.pop() {
            let Some(producer) = self.model.value(value).producer.filter(|_| self.only_reader(value) == Some(reader))
            else {
                return;
            };
            if self.can(producer, Split::Column) {
                columns.insert(producer);
            } else if self.can(producer, Split::Width) {
                between.insert(producer);
                open.extend(self.model.op(producer).inputs.iter().map(|input| (*input, producer)));
            } else {
                return;
            }
        }
        for column in columns {
            self.mark(column, Split::Column);
        }
        for op in between {
            self.mark(op, Split::Width);
        }
        self.mark(row, Split::Row);
    }

    /// Attentions by head, everything else in the layers by position.
    fn context(&mut self) {
        for op in self.model.op_ids().filter(|op| matches!(self.model.op(*op).kind, OpKind::Attention(_))) {
            self.mark_if(op, Split::Heads);
        }
        self.positions(|_| true);
    }

    /// All operators from a dispatch to the combination of its rows, or none; whether they can.
    fn mixture(&mut self, dispatch: OpId) -> bool {
        let (mut splits, mut open) = (BTreeMap::new(), vec![dispatch]);
        while let Some(id) = open.pop() {
            let op = self.model.op(id);
            let split = match op.kind {
                OpKind::Dispatch(_) | OpKind::ExpertLinear(_) | OpKind::Combine(_) => Split::Expert,
                OpKind::Activation { .. } | OpKind::Gate(_) => Split::Sequence,
                _ => return false,
            };
            if !self.can(id, split) || self.model.outputs().contains(&op.output) {
                return false;
            }
            splits.insert(id, split);
            if !matches!(op.kind, OpKind::Combine(_)) {
                open.extend(self.model.value(op.output).consumers.iter().filter(|reader| !splits.contains_key(reader)));
            }
        }
        for (op, split) in splits {
            self.mark(op, split);
        }
        true
    }

    /// An embedding by rows, and output heads by column, together where they share a table.
    fn vocabulary(&mut self, id: OpId) {
        let op = self.model.op(id);
        let is_table = matches!(op.kind, OpKind::Embedding { .. });
        let feeds_loss = self.only_reader(op.output).is_some_and(|reader| self.model.op(reader).kind.is_loss());
        let is_head = matches!(op.kind, OpKind::Linear { .. }) && feeds_loss;
        if !(is_table || is_head) || self.splits[id.index()].is_some() {
            return;
        }
        let users: BTreeSet<OpId> =
            op.params.iter().flat_map(|param| self.model.param(*param).users.iter().copied()).collect();
        let split = |user: &OpId| match self.model.op(*user).kind {
            OpKind::Embedding { .. } => Split::Vocabulary,
            _ => Split::Column,
        };
        let possible = |user: &OpId| rule(self.model, *user, split(user), self.ranks);
        let rules: Option<Vec<ShardRule>> = users.iter().map(possible).collect();
        if rules.is_some_and(|rules| rules.windows(2).all(|pair| pair[0].params[0] == pair[1].params[0])) {
            for user in &users {
                self.mark(*user, split(user));
                // A loss of split logits is computed where they are.
                if let (Split::Column, Some(reader)) = (split(user), self.only_reader(self.model.op(*user).output)) {
                    self.mark_if(reader, Split::Vocabulary);
                }
            }
        }
    }

    /// Operators of the layers by position.
    fn positions(&mut self, takes: impl Fn(&OpKind) -> bool) {
        for id in self.model.op_ids() {
            let op = self.model.op(id);
            let sequence = self.model.value(op.output).ty.dims.len() > 1;
            if op.layer.is_some() && sequence && takes(&op.kind) {
                self.mark_if(id, Split::Sequence);
            }
        }
    }
}
