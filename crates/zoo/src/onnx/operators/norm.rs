//! Normalisations and losses.

use cutplane_graph::{BatchNorm, GroupNorm, OpKind, RmsNorm};

use super::super::extent::{sample_axis, sample_dims};
use super::super::import::{Entry, Importer};
use super::super::node::NodeView;
use super::{Lowered, float, given, one, value, weight};

pub(super) fn layer(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    let dims = sample_dims(&x.dims);
    let (Some(&dim), Some(axis)) = (dims.last(), sample_axis(&x.dims, node.axis("axis", -1, x.dims.len())?)) else {
        return Err("normalises over the samples".to_owned());
    };
    if axis + 1 != dims.len() {
        return Err("normalises over more than the last axis".to_owned());
    }
    let eps = f64::from(node.float("epsilon", 1e-5));
    let eps = eps_as_written(eps);
    let mut params = vec![weight(importer, inputs, 1, &[dim])?];
    let kind = if node.op() == "LayerNormalization" {
        let bias = !matches!(given(inputs, 2), Entry::Absent);
        if bias {
            params.push(weight(importer, inputs, 2, &[dim])?);
        }
        OpKind::LayerNorm { dim, eps, bias }
    } else {
        OpKind::RmsNorm(RmsNorm { dim, eps, unit_offset: false })
    };
    let id = importer.ir.op_with(kind, &[x.id], params)?;
    one(importer.ir.checked(id, x.dims)?)
}

/// A constant of f32 as the decimal number that was meant: 1e-5, not 9.99999974e-6.
pub(in super::super) fn eps_as_written(eps: f64) -> f64 {
    format!("{eps:.6e}").parse().unwrap_or(eps)
}

/// With the statistics of the micro-batch, as in training: the running averages of the file are no parameters.
pub(super) fn batch(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    let channels = sample_dims(&x.dims).first().copied().ok_or("normalises values without channels")?;
    let params = vec![weight(importer, inputs, 1, &[channels])?, weight(importer, inputs, 2, &[channels])?];
    let kind = OpKind::BatchNorm(BatchNorm { channels, eps: eps_as_written(f64::from(node.float("epsilon", 1e-5))) });
    let id = importer.ir.op_with(kind, &[x.id], params)?;
    let mut outputs = one(importer.ir.checked(id, x.dims)?)?;
    outputs.resize(node.node.outputs.len().max(1), Entry::Absent);
    Ok(outputs)
}

pub(super) fn group(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let x = float(importer, inputs, 0)?;
    let channels = sample_dims(&x.dims).first().copied().ok_or("normalises values without channels")?;
    let groups = match node.op() {
        "GroupNormalization" => u64::try_from(node.int("num_groups", 0)).unwrap_or(0),
        _ => channels,
    };
    if node.op() == "GroupNormalization" && node.opset < 21 && groups != channels {
        return Err("scales groups, not channels, before operator set 21: export a newer one".to_owned());
    }
    // A norm of groups is exported as one of instances with factors of one; the learned factors come after it.
    let affine = !(is_known(importer, given(inputs, 1), 1.0) && is_known(importer, given(inputs, 2), 0.0));
    let params = if affine {
        vec![weight(importer, inputs, 1, &[channels])?, weight(importer, inputs, 2, &[channels])?]
    } else {
        Vec::new()
    };
    let eps = eps_as_written(f64::from(node.float("epsilon", 1e-5)));
    let id = importer.ir.op_with(OpKind::GroupNorm(GroupNorm { groups, channels, eps, affine }), &[x.id], params)?;
    one(importer.ir.checked(id, x.dims)?)
}

/// Whether an input is a constant of which all numbers are `meant`.
fn is_known(importer: &mut Importer<'_>, entry: &Entry, meant: f32) -> bool {
    let learned = matches!(entry, Entry::Weight(weight) if importer.is_learned(weight));
    let number = importer.constant(entry).ok().and_then(|constant| constant.uniform());
    !learned && number.is_some_and(|number| number.to_bits() == meant.to_bits())
}

pub(super) fn cross_entropy(importer: &mut Importer<'_>, node: &NodeView<'_>, inputs: &[Entry]) -> Lowered {
    let (logits, targets) = (float(importer, inputs, 0)?, value(inputs, 1)?.clone());
    let plain = node.text("reduction").unwrap_or("mean") == "mean" && inputs.len() == 2 && logits.dims.len() == 2;
    let dims = sample_dims(&logits.dims);
    let Some((classes, rest)) = dims.split_last().filter(|_| plain) else {
        return Err("supported is the mean over [rows, classes], without class weights".to_owned());
    };
    let kind = OpKind::CrossEntropy { classes: *classes, counted: rest.iter().product() };
    let loss = importer.ir.value(kind, &[logits.id, targets.id], Vec::new())?;
    Ok(vec![Entry::Value(loss), Entry::Absent])
}
