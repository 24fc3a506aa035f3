//! Many layouts of one model.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use cutplane_graph::ModelGraph;

use super::assemble::{assemble, check};
use super::keeping::Keeping;
use super::parts::Footprint;
use super::pieces::{Pieces, Run, expert_replicas};
use super::walk;
use crate::estimate::{AttentionKernel, EstimateError, Layout, Precision, Split, splits};

/// What decides the pieces of a model on a rank.
type PieceKey = (u64, u64, u64, u64, [bool; 2], Precision, AttentionKernel);

/// Counts the memory of many layouts of one model, as [`super::of_model`] does of one: the walk over the operators is kept.
#[derive(Debug)]
pub struct Counter<'a> {
    graph: &'a ModelGraph,
    keeping: &'a Keeping,
    splits: Vec<Split>,
    known: RefCell<HashMap<PieceKey, Rc<Pieces>>>,
}

impl<'a> Counter<'a> {
    /// For a model under a framework's habits.
    pub fn new(graph: &'a ModelGraph, keeping: &'a Keeping) -> Self {
        Self { graph, keeping, splits: splits(graph), known: RefCell::default() }
    }

    /// Peak memory of one layout.
    ///
    /// # Errors
    /// As [`super::of_model`].
    pub fn count(&self, layout: &Layout) -> Result<Footprint, EstimateError> {
        check(layout)?;
        let Layout { tp, cp, ep, micro_batch, sequence_parallel, whole_experts, precision, attention, .. } = *layout;
        let key = (tp, cp, ep, micro_batch, [sequence_parallel, whole_experts], precision, attention);
        let walked = || Rc::new(folded(walk::pieces(self.graph, &self.splits, layout, self.keeping)));
        let pieces = Rc::clone(self.known.borrow_mut().entry(key).or_insert_with(walked));
        let tensor = layout.expert_tp() as f64;
        let pieces = Pieces { expert_replicas: expert_replicas(layout, tensor), ..(*pieces).clone() };
        assemble(&pieces, layout, self.keeping)
    }
}

/// Equal layers in a row as one run.
fn folded(pieces: Pieces) -> Pieces {
    let mut layers: Vec<Run> = Vec::new();
    for run in pieces.layers {
        match layers.last_mut() {
            Some(last) if last.numbers == run.numbers && last.bytes == run.bytes => last.repeats += run.repeats,
            _ => layers.push(run),
        }
    }
    Pieces { layers, ..pieces }
}
