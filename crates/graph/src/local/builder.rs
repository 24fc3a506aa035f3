//! Operator by operator from a model to its local graph.

mod experts;

use std::collections::BTreeSet;

use super::choose::{self, Splits};
use super::kind::{local_kind, packing};
use super::{LocalGraph, LocalParam};
use crate::error::ModelError;
use crate::ids::{OpId, ParamId, ValueId};
use crate::model::{ModelGraph, Op, Param, Value};
use crate::op::{Arithmetic, CrossEntropyShare, Exchange, Init, JoinedCrossEntropy, Learned, OpKind};
use crate::sharding::{Layout, ShardRule, Sharded, Split};
use crate::tensor::TensorType;

fn whole_rule(op: &Op) -> ShardRule {
    let all = |count| vec![Sharded::replicated(); count];
    ShardRule {
        split: Split::Batch,
        extent: u64::MAX,
        inputs: all(op.inputs.len()),
        params: all(op.params.len()),
        output: Sharded::replicated(),
        inside: Vec::new(),
    }
}

/// A tensor with its layout.
#[derive(Clone, Debug, PartialEq)]
struct Placed {
    sharded: Sharded,
    parts: Vec<u64>,
}

/// Makes a local graph, operator by operator.
pub(super) struct Builder<'m> {
    model: &'m ModelGraph,
    ranks: u64,
    splits: &'m Splits,
    rules: Vec<ShardRule>,
    ops: Vec<Op>,
    values: Vec<Value>,
    op_origin: Vec<OpId>,
    value_origin: Vec<Option<ValueId>>,
    /// Where each value of the model is, and how it lies.
    placed: Vec<Option<(ValueId, Placed)>>,
    /// Values that have been exchanged already.
    exchanged: Vec<(ValueId, Placed, ValueId)>,
    params: Vec<Option<LocalParam>>,
    tables: Vec<OpId>,
    /// Values of the model whose rows lie with the owners of their experts.
    rows: BTreeSet<ValueId>,
}

impl<'m> Builder<'m> {
    pub(super) fn new(model: &'m ModelGraph, ranks: u64, splits: &'m Splits) -> Result<Self, ModelError> {
        let rule = |op: OpId| match splits.get(op.index()).copied().flatten() {
            None => Ok(whole_rule(model.op(op))),
            Some(split) => choose::rule(model, op, split, ranks).ok_or_else(|| ModelError::Split {
                op: model.op(op).name.clone(),
                reason: format!(
                    "cannot be split by {split:?} over {ranks} ranks: choose a number that divides what is split"
                ),
            }),
        };
        Ok(Self {
            model,
            ranks,
            splits,
            rules: model.op_ids().map(rule).collect::<Result<_, _>>()?,
            ops: Vec::new(),
            values: Vec::new(),
            op_origin: Vec::new(),
            value_origin: Vec::new(),
            placed: vec![None; model.values().len()],
            exchanged: Vec::new(),
            params: vec![None; model.params().len()],
            tables: Vec::new(),
            rows: BTreeSet::new(),
        })
    }

    pub(super) fn build(mut self) -> Result<LocalGraph, ModelError> {
        for input in self.model.inputs() {
            let value = Value { consumers: Vec::new(), ..self.model.value(input).clone() };
            let whole = Placed { sharded: Sharded::replicated(), parts: Vec::new() };
            self.placed[input.index()] = Some((self.add_value(value, Some(input)), whole));
        }
        for op in self.model.op_ids() {
            self.add(op)?;
        }
        let params = self.params.into_iter().zip(self.model.params());
        let params: Vec<LocalParam> = params
            .map(|(local, param)| {
                local.unwrap_or_else(|| LocalParam::new(Sharded::replicated(), Vec::new(), &param.shape))
            })
            .collect();
        let local = |(local, param): (&LocalParam, &Param)| {
            let mut shape = param.shape.clone();
            if let Layout::Axis(axis) = local.sharded.value {
                shape[axis] /= self.ranks;
            }
            Param { shape, users: Vec::new(), ..param.clone() }
        };
        let shapes = params.iter().zip(self.model.params()).map(local).collect();
        let moved = |value: &ValueId| self.placed[value.index()].as_ref().map(|(value, _)| *value);
        let outputs = self.model.outputs().iter().filter_map(moved).collect();
        let loss = self.model.loss().and_then(|loss| moved(&loss));
        let name = self.model.name().to_owned();
        Ok(LocalGraph {
            graph: ModelGraph::from_parts(name, self.ops, self.values, shapes, outputs, loss),
            ranks: self.ranks,
            op_origin: self.op_origin,
            value_origin: self.value_origin,
            params,
            tables: self.tables,
        })
    }

    fn add_value(&mut self, value: Value, origin: Option<ValueId>) -> ValueId {
        self.values.push(value);
        self.value_origin.push(origin);
        ValueId::new(self.values.len() - 1)
    }

    /// Adds an operator that gives a value of type `ty`.
    fn push(&mut self, op: Op, ty: TensorType, origin: OpId) -> ValueId {
        let id = OpId::new(self.ops.len());
        for input in &op.inputs {
            self.values[input.index()].consumers.push(id);
        }
        let value = Value { name: op.name.clone(), ty, producer: Some(id), consumers: Vec::new(), role: None };
        let output = self.add_value(value, None);
        self.ops.push(Op { output, ..op });
        self.op_origin.push(origin);
        output
    }

    /// Adds an operator whose output type follows from its inputs.
    fn push_inferred(&mut self, op: Op, origin: OpId) -> Result<ValueId, ModelError> {
        let types: Vec<&TensorType> = op.inputs.iter().map(|value| &self.values[value.index()].ty).collect();
        let ty = op.kind.infer(&op.name, &types)?;
        Ok(self.push(op, ty, origin))
    }

    fn refuse(&self, op: OpId, reason: String) -> ModelError {
        ModelError::Split { op: self.model.op(op).name.clone(), reason }
    }

    fn add(&mut self, id: OpId) -> Result<(), ModelError> {
        let (op, rule, split) = (self.model.op(id), self.rules[id.index()].clone(), self.splits.get(id.index()));
        let split = split.copied().flatten();
        if let (OpKind::CrossEntropy { classes, counted }, Some(Split::Vocabulary)) = (&op.kind, split) {
            return self.cross_entropy(id, *classes, *counted);
        }
        if split == Some(Split::Expert) || op.inputs.iter().any(|value| self.rows.contains(value)) {
            return self.mixture(id, split, &rule);
        }
        let mut inputs = Vec::with_capacity(op.inputs.len());
        for index in 0..op.inputs.len() {
            inputs.push(self.input(id, index, rule.inputs[index])?);
        }
        let output_parts = self.output_parts(id, rule.output);
        let bias_after = split == Some(Split::Row) && matches!(op.kind, OpKind::Linear { bias: true, .. });
        let params = if bias_after { op.params[..1].to_vec() } else { op.params.clone() };
        for (index, param) in params.iter().enumerate() {
            let parts = if split == Some(Split::Column) { output_parts.clone() } else { Vec::new() };
            self.place_param(id, *param, rule.params[index], parts)?;
        }
        let kind = split.map_or_else(|| Some(op.kind.clone()), |split| local_kind(&op.kind, split, self.ranks));
        let kind = kind.ok_or_else(|| self.refuse(id, format!("is not executed split by {split:?}")))?;
        let whole = &self.model.value(op.output).ty;
        let mut ty = whole.clone();
        if let Layout::Axis(axis) = rule.output.value {
            ty.dims[axis] /= self.ranks;
        }
        if split == Some(Split::Vocabulary) {
            self.tables.push(OpId::new(self.ops.len()));
        }
        let local = Op { name: op.name.clone(), kind, inputs, output: ValueId::new(0), params, layer: op.layer };
        let output = self.push(local, ty, id);
        let mut placed = (output, Placed { sharded: rule.output, parts: output_parts });
        if bias_after {
            placed = self.bias(id, placed)?;
        }
        self.placed[op.output.index()] = Some(placed);
        Ok(())
    }

    /// A cross-entropy over the classes of all ranks (Shoeybi et al. 2019, section 3): each rank reduces its logits to two
    /// numbers a row, which all gather, in place of the logits. Largest and sum over all ranks follow from these in one
    /// exchange; the backward pass needs none.
    fn cross_entropy(&mut self, id: OpId, classes: u64, counted: u64) -> Result<(), ModelError> {
        let (op, rule) = (self.model.op(id), &self.rules[id.index()]);
        let (of_logits, of_targets) = (rule.inputs[0], rule.inputs[1]);
        let (logits, targets) = (self.input(id, 0, of_logits)?, self.input(id, 1, of_targets)?);
        let kind = OpKind::CrossEntropyShare(CrossEntropyShare { classes: classes / self.ranks });
        let node = |name: String, kind, inputs| Op {
            name,
            kind,
            inputs,
            output: ValueId::new(0),
            params: Vec::new(),
            layer: op.layer,
        };
        self.tables.push(OpId::new(self.ops.len()));
        let share = self.push_inferred(node(format!("{}.share", op.name), kind, vec![logits, targets]), id)?;
        let whole = |sharded| Placed { sharded, parts: Vec::new() };
        let given = (share, whole(of_logits));
        let shares = self.exchange(id, given, whole(Sharded::replicated()))?;
        let kind = OpKind::JoinedCrossEntropy(JoinedCrossEntropy { counted });
        let loss = self.push_inferred(node(op.name.clone(), kind, vec![shares, targets]), id)?;
        self.placed[op.output.index()] = Some((loss, whole(Sharded::replicated())));
        Ok(())
    }

    /// The bias of a row split is added to the sum, by position where the next operator takes it so.
    fn bias(&mut self, id: OpId, summand: (ValueId, Placed)) -> Result<(ValueId, Placed), ModelError> {
        let op = self.model.op(id);
        let wants = |reader: &OpId| {
            let reader_op = self.model.op(*reader);
            let index = reader_op.inputs.iter().position(|value| *value == op.output)?;
            Some(self.rules[reader.index()].inputs[index])
        };
        let wanted = self.model.value(op.output).consumers.first().and_then(wants);
        let by_position = wanted == Some(Sharded::split(Layout::Axis(0)));
        let layout = if by_position { Sharded::split(Layout::Axis(0)) } else { Sharded::replicated() };
        let sum = self.exchange(id, summand, Placed { sharded: layout, parts: Vec::new() })?;
        let param = if by_position { Sharded::shared() } else { Sharded::replicated() };
        self.place_param(id, op.params[1], param, Vec::new())?;
        let width = self.model.param(op.params[1]).elements();
        let kind = OpKind::Learned(Learned { function: Arithmetic::Add, dims: vec![width], init: Init::Zeros });
        let (name, params) = (format!("{}.bias", op.name), vec![op.params[1]]);
        let bias = Op { name, kind, inputs: vec![sum], output: ValueId::new(0), params, layer: op.layer };
        let output = self.push_inferred(bias, id)?;
        Ok((output, Placed { sharded: layout, parts: Vec::new() }))
    }

    /// An input in the layout that the operator takes it in.
    fn input(&mut self, id: OpId, index: usize, wanted: Sharded) -> Result<ValueId, ModelError> {
        let op = self.model.op(id);
        let value = op.inputs[index];
        let parts = match wanted.value {
            Layout::Axis(axis) if axis + 1 == self.model.value(value).ty.dims.len() => packing(self.model, op, index),
            _ => Vec::new(),
        };
        let wanted = Placed { sharded: wanted, parts };
        let Some(given) = self.placed[value.index()].clone() else {
            return Err(self.refuse(id, "reads a value that is not there yet".to_owned()));
        };
        let float = self.model.value(value).ty.dtype.is_float() && self.model.value(value).producer.is_some();
        let same_value = given.1.sharded.value == wanted.sharded.value && given.1.parts == wanted.parts;
        if same_value && (!float || given.1.sharded.gradient == wanted.sharded.gradient) {
            return Ok(given.0);
        }
        if self.model.value(value).producer.is_none() {
            if same_value || wanted.sharded.value == Layout::Replicated {
                return Ok(given.0);
            }
            return Err(self.refuse(id, "takes part of a graph input, which every rank has whole".to_owned()));
        }
        // A sum is made where its summands are.
        let is_sum = given.1.sharded.value == Layout::Partial;
        let side = self.model.value(value).producer.filter(|_| is_sum).unwrap_or(id);
        self.exchange(side, given, wanted)
    }

    /// The value in another layout; one exchange serves all that take it so. It stands on the side of `side`.
    fn exchange(&mut self, side: OpId, given: (ValueId, Placed), wanted: Placed) -> Result<ValueId, ModelError> {
        let (value, from) = given;
        let known = self.exchanged.iter().find(|(source, to, _)| *source == value && *to == wanted);
        if let Some((.., output)) = known {
            return Ok(*output);
        }
        let kind = Exchange {
            from: from.sharded,
            to: wanted.sharded,
            ranks: self.ranks,
            from_parts: from.parts,
            to_parts: wanted.parts.clone(),
        };
        let name = format!("{}.exchange{}", self.values[value.index()].name, self.exchanged.len());
        let op = Op {
            name,
            kind: OpKind::Exchange(kind),
            inputs: vec![value],
            output: ValueId::new(0),
            params: Vec::new(),
            layer: self.model.op(side).layer,
        };
        let output = self.push_inferred(op, side)?;
        self.exchanged.push((value, wanted, output));
        Ok(output)
    }

    /// The parts that the readers of an operator's split output take it in.
    fn output_parts(&self, id: OpId, output: Sharded) -> Vec<u64> {
        let value = self.model.value(self.model.op(id).output);
        match output.value {
            Layout::Axis(axis) if axis + 1 == value.ty.dims.len() => {}
            _ => return Vec::new(),
        }
        let splits = |reader: &&OpId| self.splits.get(reader.index()).copied().flatten().is_some();
        let reader = value.consumers.iter().find(splits);
        reader.map_or_else(Vec::new, |reader| packing(self.model, self.model.op(*reader), 0))
    }

    fn place_param(&mut self, op: OpId, id: ParamId, sharded: Sharded, parts: Vec<u64>) -> Result<(), ModelError> {
        let local = LocalParam::new(sharded, parts, &self.model.param(id).shape);
        match &self.params[id.index()] {
            Some(known) if *known != local => Err(self.refuse(
                op,
                format!("shares '{}', which another operator splits differently", self.model.param(id).name),
            )),
            _ => {
                self.params[id.index()] = Some(local);
                Ok(())
            }
        }
    }
}
