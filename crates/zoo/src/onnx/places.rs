//! Where the numbers of parameters lie, and which of two parameters are one.

use std::collections::HashMap;
use std::path::Path;

use cutplane_graph::{ModelGraph, OpKind, WeightLayout};

use super::file::external_path;
use super::ir::{Body, Ir};
use super::proto::{Tensor, TensorData};
use crate::weights::{Checkpoint, Element, Place};

/// An output head whose weight is the transpose of an embedding, number by number, is tied to it: exporters write both.
pub(super) fn tie(ir: &mut Ir, initializers: &[Tensor<'_>]) {
    let tables: Vec<(usize, u64, u64)> = ir
        .nodes
        .iter()
        .filter_map(|node| match &node.body {
            Body::Op(OpKind::Embedding { vocab, dim, .. }) => Some((*node.params.first()?, *vocab, *dim)),
            _ => None,
        })
        .collect();
    // Many layers may share a weight: each pair is compared once.
    let mut compared: HashMap<(usize, usize, bool), bool> = HashMap::new();
    for id in 0..ir.nodes.len() {
        let Body::Op(OpKind::Linear { inputs, outputs, layout, .. }) = &ir.nodes[id].body else { continue };
        let Some(own) = ir.nodes[id].params.first().copied() else { continue };
        let (inputs, outputs, transposed) = (*inputs, *outputs, *layout == WeightLayout::InOut);
        let mut same = |(table, vocab, dim): &&(usize, u64, u64)| {
            let (table, own) = (ir.params[*table].initializer, ir.params[own].initializer);
            let mut alike = || equal(&initializers[table], &initializers[own], transposed, *dim as usize);
            (*vocab, *dim) == (outputs, inputs)
                && (table == own || *compared.entry((table, own, transposed)).or_insert_with(&mut alike))
        };
        let Some((table, ..)) = tables.iter().find(&mut same).copied() else { continue };
        ir.nodes[id].params[0] = table;
        if let Body::Op(OpKind::Linear { layout, .. }) = &mut ir.nodes[id].body {
            *layout = WeightLayout::OutIn;
        }
    }
}

/// Whether two f32 tensors in the file hold the same numbers, one of them transposed.
fn equal(table: &Tensor<'_>, head: &Tensor<'_>, transposed: bool, width: usize) -> bool {
    let (TensorData::Raw(table_bytes), TensorData::Raw(head_bytes)) = (&table.data, &head.data) else { return false };
    if table.element != 1 || head.element != 1 || table_bytes.len() != head_bytes.len() {
        return false;
    }
    if !transposed {
        return table_bytes == head_bytes;
    }
    let ((rows, _), (columns, _)) = (table_bytes.as_chunks::<4>(), head_bytes.as_chunks::<4>());
    let vocab = rows.len() / width.max(1);
    rows.iter().enumerate().all(|(at, bits)| columns.get(at % width * vocab + at / width) == Some(bits))
}

/// The places of all parameters of a finished graph.
pub(super) fn checkpoint(
    graph: &ModelGraph,
    origins: &[usize],
    ir: &Ir,
    initializers: &[Tensor<'_>],
    bytes: &[u8],
    path: Option<&Path>,
) -> Result<Checkpoint, String> {
    let mut checkpoint = Checkpoint::default();
    let Some(path) = path else { return Ok(checkpoint) };
    for (param, origin) in graph.params().iter().zip(origins) {
        let own = &ir.params[*origin];
        let tensor = &initializers[own.initializer];
        let element = Element::of_onnx(tensor.element)
            .ok_or_else(|| format!("'{}' has the ONNX element type {}", tensor.name, tensor.element))?;
        let elements = tensor.elements().unwrap_or(0);
        let needed = elements.saturating_mul(element.size());
        let (file, offset, length) = match &tensor.data {
            TensorData::Raw(raw) => (path.to_owned(), offset_in(bytes, raw), raw.len() as u64),
            TensorData::External { location, offset, length } => {
                let folder = path.parent().unwrap_or(Path::new("."));
                (external_path(folder, location)?, *offset, length.unwrap_or(needed))
            }
            TensorData::Ints(_) | TensorData::None => return Err(format!("'{}' holds no floats", tensor.name)),
        };
        if length != needed {
            return Err(format!("'{}' of {:?} holds {length} bytes, and needs {needed}", tensor.name, tensor.dims));
        }
        let place = Place { file, offset, element, shape: param.shape.clone(), ranges: own.rows.clone() };
        checkpoint.insert(param.name.clone(), place);
    }
    Ok(checkpoint)
}

/// Where `part` begins in `whole`, of which it is a part.
fn offset_in(whole: &[u8], part: &[u8]) -> u64 {
    (part.as_ptr().addr() - whole.as_ptr().addr()) as u64
}
