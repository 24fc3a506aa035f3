//! The folded graph as boxes and arrows: one group a stretch of equal blocks, of which the first is drawn.

use std::collections::BTreeSet;

use cutplane_graph::{Folded, ModelGraph, OpId};

/// A box.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is called: an operator without its module, or an input.
    pub(super) title: String,
    /// Kind and output type.
    pub(super) detail: String,
    /// Row from the top; every arrow points down.
    pub(super) rank: usize,
}

/// Boxes that belong together.
#[derive(Debug)]
pub(super) struct Group {
    /// Module.
    pub(super) name: String,
    /// How often it is repeated, the drawn one included.
    pub(super) count: usize,
    /// Indices of its boxes.
    pub(super) nodes: std::ops::Range<usize>,
}

/// Boxes, groups and arrows.
#[derive(Debug)]
pub(super) struct Drawing {
    pub(super) title: String,
    pub(super) nodes: Vec<Node>,
    pub(super) groups: Vec<Group>,
    /// From box to box, ascending.
    pub(super) edges: Vec<(usize, usize)>,
}

impl Drawing {
    pub(super) fn new(model: &ModelGraph, folded: &Folded) -> Self {
        let mut drawing =
            Self { title: model.name().to_owned(), nodes: Vec::new(), groups: Vec::new(), edges: Vec::new() };
        let inputs = drawing.add_inputs(model);
        let drawn = drawing.add_blocks(model, folded);
        drawing.connect(model, &inputs, &drawn);
        drawing.rank();
        drawing
    }

    /// Boxes of the graph's inputs, by value.
    fn add_inputs(&mut self, model: &ModelGraph) -> Vec<Option<usize>> {
        let mut boxes = vec![None; model.values().len()];
        for id in model.inputs() {
            let value = model.value(id);
            boxes[id.index()] = Some(self.nodes.len());
            self.nodes.push(Node { title: value.name.clone(), detail: value.ty.to_string(), rank: 0 });
        }
        boxes
    }

    /// Boxes of operators; of several equal blocks in a row, the first is drawn and stands for all.
    fn add_blocks(&mut self, model: &ModelGraph, folded: &Folded) -> Vec<usize> {
        let mut drawn = vec![0; model.ops().len()];
        let mut previous = None;
        for (index, block) in folded.blocks.iter().enumerate() {
            if previous == Some(block.class) {
                let group = self.groups.last_mut().expect("the block before began a group");
                group.count += 1;
                block.ops.clone().zip(group.nodes.clone()).for_each(|(op, node)| drawn[op] = node);
                continue;
            }
            previous = Some(block.class);
            let start = self.nodes.len();
            for op in block.ops.clone() {
                drawn[op] = self.nodes.len();
                self.nodes.push(operator(model, op, block.ops.len() == 1));
            }
            let name = repeated_name(model, folded, index);
            self.groups.push(Group { name, count: 1, nodes: start..self.nodes.len() });
        }
        drawn
    }

    /// Arrows between boxes; those from one repetition to the next, which would point up, are left out.
    fn connect(&mut self, model: &ModelGraph, inputs: &[Option<usize>], drawn: &[usize]) {
        let mut edges = BTreeSet::new();
        for (op, node) in model.ops().iter().enumerate() {
            for input in &node.inputs {
                let from = model.value(*input).producer.map(|op| drawn[op.index()]).or(inputs[input.index()]);
                edges.extend(from.filter(|from| *from < drawn[op]).map(|from| (from, drawn[op])));
            }
        }
        self.edges = edges.into_iter().collect();
    }

    /// Every box below all that it reads, every group below the one before.
    fn rank(&mut self) {
        let mut first = 1;
        let mut incoming = self.edges.clone();
        incoming.sort_by_key(|(_, to)| *to);
        let mut edges = incoming.into_iter().peekable();
        for group in 0..self.groups.len() {
            let mut last = first;
            for node in self.groups[group].nodes.clone() {
                let mut rank = first;
                while let Some((from, _)) = edges.next_if(|(_, to)| *to == node) {
                    rank = rank.max(self.nodes[from].rank + 1);
                }
                self.nodes[node].rank = rank;
                last = last.max(rank);
            }
            first = last + 1;
        }
    }
}

fn operator(model: &ModelGraph, op: usize, alone: bool) -> Node {
    let node = model.op(OpId::new(op));
    let short = node.name.rsplit('.').take(2).collect::<Vec<_>>();
    let title = if alone { node.name.clone() } else { short.into_iter().rev().collect::<Vec<_>>().join(".") };
    Node { title, detail: format!("{}  {}", node.kind.label(), model.value(node.output).ty), rank: 0 }
}

/// The name of a block and of the equal ones that follow it.
fn repeated_name(model: &ModelGraph, folded: &Folded, first: usize) -> String {
    let class = folded.blocks[first].class;
    let count = folded.blocks[first..].iter().take_while(|block| block.class == class).count();
    folded.name_of(model, first, first + count - 1)
}
