//! Pipelines of operator graphs.

use std::ops::Range;

use cutplane_graph::{ModelGraph, OpId, OpKind, ValueId};
use cutplane_sim::graph_step::{
    Checkpoint, GpipeStep, GraphStack, GraphStepError, OperatorCharge, Speeds, balanced_stages, pipeline,
};

use super::setting::GraphRow;
use crate::parse::{self, Recompute};
use crate::prediction::Skip;
use crate::row::Row;

/// A row's pipeline: GPipe's schedule, with the stages that the row states or balanced ones.
#[derive(Debug)]
pub(super) struct Plan {
    stages: u64,
    stated: Option<Vec<Range<usize>>>,
    checkpoint: Checkpoint,
    micro_batches: u64,
}

impl Plan {
    /// The pipeline of a row; `None` for one stage that keeps everything.
    pub(super) fn of(row: &Row, graph: &ModelGraph, stages: u64, micro_batches: u64) -> Result<Option<Self>, Skip> {
        let checkpoint = match parse::recompute(&row.recompute)? {
            None | Some(Recompute::None) => Checkpoint::Never,
            Some(Recompute::FullExceptLast) => Checkpoint::ExceptLast,
            Some(Recompute::Full) => Checkpoint::Always,
            Some(other) => return Err(Skip::new("unsupported-recompute", format!("{other:?} of unlike operators"))),
        };
        if stages == 1 && checkpoint == Checkpoint::Never {
            return Ok(None);
        }
        if stages as usize > graph.ops().len() {
            return Err(Skip::new("impossible-stages", format!("{stages} stages of {} operators", graph.ops().len())));
        }
        let stated = balance(&row.notes).filter(|counts| counts.len() as u64 == stages);
        let stated = stated.and_then(|counts| ranges(graph, &counts));
        Ok(Some(Self { stages, stated, checkpoint, micro_batches }))
    }

    pub(super) const fn stages(&self) -> u64 {
        self.stages
    }

    /// Time of all passes, s.
    pub(super) fn seconds(
        &self,
        row: &GraphRow,
        charges: &[OperatorCharge],
        stack: &GraphStack,
        speeds: Speeds,
    ) -> Result<f64, GraphStepError> {
        let balanced;
        let stages = if let Some(stated) = &self.stated {
            stated
        } else {
            balanced = balanced_stages(charges, self.stages as usize, speeds);
            &balanced
        };
        let step = GpipeStep {
            stages,
            micro_batches: self.micro_batches,
            checkpoint: self.checkpoint,
            activation_bytes: row.numerics.activation_bytes,
            link: row.link() * stack.copy_speed,
        };
        pipeline(&row.network.graph, row.micro_batch, charges, &step, speeds)
    }
}

/// Layers of each stage: `balance [9,15]`.
fn balance(notes: &str) -> Option<Vec<usize>> {
    let (_, rest) = notes.split_once("balance [")?;
    let (list, _) = rest.split_once(']')?;
    list.split(',').map(|count| count.trim().parse().ok().filter(|count| *count > 0)).collect()
}

/// Operators of stages that are counted in layers of the framework: the graph's own repeated layers with what stands before
/// and after them, or the modules of its residual blocks, whichever are as many; else layers as even shares of the
/// operators. The loss stays with the last.
fn ranges(graph: &ModelGraph, counts: &[usize]) -> Option<Vec<Range<usize>>> {
    let total: usize = counts.iter().sum();
    let starts = [layer_starts(graph), module_starts(graph)].into_iter().find(|starts| starts.len() == total);
    let operators = graph.ops().len();
    let mut ends = Vec::with_capacity(counts.len());
    let mut layers = 0;
    for count in counts {
        layers += count;
        ends.push(match &starts {
            Some(starts) => starts.get(layers).copied().unwrap_or(operators),
            None => (operators as f64 * layers as f64 / total as f64).round() as usize,
        });
    }
    let begins = std::iter::once(0).chain(ends.iter().copied());
    let stages: Vec<Range<usize>> = begins.zip(ends.iter().copied()).map(|(start, end)| start..end).collect();
    stages.iter().all(|stage| stage.start < stage.end).then_some(stages)
}

/// First operators of each run of operators of one layer, or of none.
fn layer_starts(graph: &ModelGraph) -> Vec<usize> {
    let layers: Vec<Option<u32>> = graph.ops().iter().map(|op| op.layer).collect();
    (0..layers.len()).filter(|at| *at == 0 || layers[*at] != layers[at - 1]).collect()
}

/// First operators of the modules of a residual network written as one sequence (torchgpipe's `benchmarks/models/resnet`):
/// an operator is a module, but a block begins with one that only keeps its input, and the projection of that input is part
/// of the module that adds it.
fn module_starts(graph: &ModelGraph) -> Vec<usize> {
    let ops = graph.ops();
    let producer = |value: ValueId| graph.value(value).producer.map(OpId::index);
    let mut projected = vec![false; ops.len()];
    for (at, op) in ops.iter().enumerate().filter(|(_, op)| matches!(op.kind, OpKind::Add)) {
        if let [Some(branch), Some(skip)] = [0, 1].map(|input| op.inputs.get(input).copied().and_then(producer))
            && branch < skip
        {
            projected[branch + 2..=at].fill(true);
        }
    }
    let begins = |at: &usize| ops[*at].layer.is_some() && (*at == 0 || ops[at - 1].layer != ops[*at].layer);
    let modules = (0..ops.len()).filter(|at| !projected[*at]);
    modules.flat_map(|at| std::iter::repeat_n(at, if begins(&at) { 2 } else { 1 })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_a_residual_network_end_with_its_blocks() {
        let source = cutplane_zoo::source_from_argument("resnet101", None, cutplane_graph::Overrides::default());
        let graph = cutplane_zoo::build(&source.expect("a known model")).expect("a valid model");
        let counts = [26, 22, 33, 44, 44, 66, 66, 69];
        let stages = ranges(&graph, &counts).expect("as many modules as torchgpipe has");
        assert_eq!(module_starts(&graph).len(), counts.iter().sum::<usize>());
        for stage in &stages[1..] {
            // Torchgpipe's own balance cuts between blocks.
            assert_ne!(graph.ops()[stage.start].layer, graph.ops()[stage.start - 1].layer, "{stage:?}");
        }
    }
}
