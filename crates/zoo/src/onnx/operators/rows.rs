//! Rows of a table of weights that are picked by known numbers: positions, and biases of attention scores.

use std::rc::Rc;

use cutplane_graph::OpKind;

use super::super::constant::{Constant, stored};
use super::super::extent::{Extent, broadcast, sample_dims};
use super::super::import::{Importer, Rows};
use super::super::ir::{Body, Buckets, Node, Value};
use super::pointwise::without_batch;

/// Rows of a table of positions, or a bias of scores by buckets of distances.
pub(super) fn add(importer: &mut Importer<'_>, x: &Value, rows: &Rows) -> Result<Value, String> {
    let dims = broadcast(&x.dims, &rows.dims)
        .filter(|dims| *dims == x.dims)
        .ok_or("rows of a table that do not fit the value")?;
    if let (Some(offset), [_, width]) = (rows.positions(), rows.table)
        && sample_dims(&without_batch(&rows.dims, &dims)) == sample_dims(&x.dims)
    {
        let kind = OpKind::PositionEmbedding { positions: rows.table[0], dim: width, init_std: 0.02, offset };
        let param = importer.ir.param(rows.initializer, Vec::new());
        let id = importer.ir.op_with(kind, &[x.id], vec![param])?;
        return importer.ir.checked(id, dims);
    }
    let buckets = rows
        .buckets(&sample_dims(&x.dims))
        .ok_or("rows of a table are added that are neither positions nor a bias of attention scores")?;
    importer.charge(buckets.indices.len())?;
    let ty = importer.ir.node(x.id).ty.clone();
    let param = importer.ir.param(rows.initializer, Vec::new());
    let (name, body) = (importer.ir.name.clone(), Body::ScoreBias(Rc::new(buckets)));
    let id = importer.ir.add(Node { name, body, inputs: vec![x.id], params: vec![param], ty });
    Ok(Value { id, dims })
}

impl Rows {
    /// The first position, where the rows follow each other.
    fn positions(&self) -> Option<u64> {
        let indices = self.indices.integers().ok()?;
        let last = self.columns + 1 == self.dims.len();
        let follow = indices.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let line = self.indices.dims.iter().filter(|extent| **extent != Extent::ONE && !extent.per_sample).count() <= 1;
        u64::try_from(*indices.first()?).ok().filter(|_| last && follow && line && self.mask.is_none())
    }

    /// The buckets of scores `[heads, queries, keys]`.
    fn buckets(&self, scores: &[u64]) -> Option<Buckets> {
        let &[heads, queries, keys] = scores else { return None };
        let fits = sample_dims(&self.indices.dims)
            .iter()
            .copied()
            .filter(|n| *n != 1)
            .eq([queries, keys].into_iter().filter(|n| *n != 1));
        let column = self.dims.get(self.columns)?.number()? == heads as i64;
        let before = self.columns + 3 == self.dims.len();
        if !fits || !column || !before || self.table[1] != heads {
            return None;
        }
        let mask = match &self.mask {
            None => None,
            Some(mask) => Some(mask.spread_to(&[Extent::known(queries as i64), Extent::known(keys as i64)])?),
        };
        let indices = self.indices.integers().ok()?;
        Some(Buckets { table: self.initializer, shape: self.table, indices, lengths: [queries, keys], mask })
    }

    pub(super) fn plus(&self, mask: &Constant) -> Result<Self, String> {
        let dims = broadcast(&self.dims, &mask.dims).ok_or("a mask that does not broadcast")?;
        if self.mask.is_some() || dims.len() != self.dims.len() || mask.differs {
            return Err("a second constant is added to rows of a table".to_owned());
        }
        if mask.uniform() == Some(0.0) {
            return Ok(Self { dims, ..self.clone() });
        }
        stored(&dims)?;
        Ok(Self { dims, mask: Some(mask.clone()), ..self.clone() })
    }
}

impl Rows {
    /// With axes of 1 added or dropped.
    pub(super) fn reshaped(&self, dims: Vec<Extent>) -> Result<Self, String> {
        let place = |dims: &[Extent], axis: usize| dims[..axis].iter().filter(|extent| **extent != Extent::ONE).count();
        let kept = |dims: &[Extent]| dims.iter().copied().filter(|extent| *extent != Extent::ONE).collect::<Vec<_>>();
        let own = place(&self.dims, self.columns);
        let columns = (0..dims.len()).find(|axis| dims[*axis] == self.dims[self.columns] && place(&dims, *axis) == own);
        match columns {
            Some(columns) if kept(&dims) == kept(&self.dims) && self.mask.is_none() => {
                Ok(Self { dims, columns, ..self.clone() })
            }
            _ => Err("gives rows of a table another shape".to_owned()),
        }
    }
}
