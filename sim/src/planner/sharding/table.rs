//! The priced problem: nodes with choices, nets with resharding costs, and what is kept in memory. Searchers see nothing
//! else, so they are tested on random tables.
//!
//! ```text
//! seconds = sum over nodes of their choice's seconds + sum over nets of cost(p, q), each target q of a net once
//! memory  = sum over nodes of their choice's memory + sum over keeps of the bytes of every layout kept, each once
//!           + the largest workspace of all choices
//! ```
//!
//! A node stands for all copies of one operator in equal blocks, which are treated alike; its numbers are sums over the
//! copies.

use super::error::ShardError;

/// One way to treat a node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choice {
    /// Computation and collectives of all copies in one step, s.
    pub seconds: f64,
    /// What all copies hold for the whole step, bytes.
    pub memory: f64,
    /// What one copy needs while it runs, bytes; it is given back.
    pub workspace: f64,
}

/// An operator, with its copies in equal blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Copies.
    pub copies: u64,
    /// Its choices; at least one.
    pub choices: Vec<Choice>,
}

/// A member of a net or of a keep: a node, and for each of its choices the index of a layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The node.
    pub node: usize,
    /// Index of a layout, by choice.
    pub layout: Vec<usize>,
}

/// A value from its producer to all that read it. Readers that want one layout share one exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Net {
    /// Who writes it, and in which layout.
    pub producer: Member,
    /// Who reads it, and in which layout.
    pub readers: Vec<Member>,
    /// How many such values there are: at most the copies of any member.
    pub count: u64,
    /// Number of layouts in which it is read.
    pub targets: usize,
    /// Seconds to turn layout `p` of the producer into target `q`, of all such values in one step: entry `p targets + q`.
    /// Infinite where the two cannot go together.
    pub cost: Vec<f64>,
}

impl Net {
    /// Cost of one pair.
    pub fn between(&self, given: usize, target: usize) -> f64 {
        self.cost[given * self.targets + target]
    }

    /// Cost among the members before node `end`; nothing as long as the producer is not among them.
    pub(super) fn seconds_before(&self, choice: &[usize], end: usize) -> f64 {
        if self.producer.node >= end {
            return 0.0;
        }
        let given = self.producer.layout[choice[self.producer.node]];
        distinct_before(&self.readers, choice, end).map(|target| self.between(given, target)).sum()
    }
}

/// Distinct layouts of the members before node `end`.
fn distinct_before<'a>(
    members: &'a [Member],
    choice: &'a [usize],
    end: usize,
) -> impl Iterator<Item = usize> + use<'a> {
    let layout = move |member: &Member| (member.node < end).then(|| member.layout[choice[member.node]]);
    let is_first = move |at: &usize| members[..*at].iter().all(|other| layout(other) != layout(&members[*at]));
    (0..members.len()).filter(is_first).filter_map(move |at| layout(&members[at]))
}

/// A value that stays between the two passes, in the layout of everyone who keeps it; equal layouts are one copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Keep {
    /// Who keeps it.
    pub keepers: Vec<Member>,
    /// How many such values there are: at most the copies of any member.
    pub count: u64,
    /// Bytes of all such values by layout.
    pub bytes: Vec<f64>,
}

impl Keep {
    /// Bytes of the copies of keepers before node `end`.
    pub(super) fn held_before(&self, choice: &[usize], end: usize) -> f64 {
        distinct_before(&self.keepers, choice, end).map(|layout| self.bytes[layout]).sum()
    }
}

/// Cost of an assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Time of a step; infinite for choices that cannot go together, s.
    pub seconds: f64,
    /// Memory of a device, bytes.
    pub memory: f64,
}

/// Memory above the limit by this fraction still fits: solvers accept rows that are off by a little. It is below a
/// kilobyte on any device of today.
pub const MEMORY_TOLERANCE: f64 = 1e-8;

/// A priced problem.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardTable {
    /// Operators.
    pub nodes: Vec<Node>,
    /// Values, and pairs of nodes that must agree.
    pub nets: Vec<Net>,
    /// Values that are kept.
    pub keeps: Vec<Keep>,
    /// Memory of a device, bytes; infinite for no limit.
    pub memory_limit: f64,
}

impl ShardTable {
    /// Time and memory when node `n` has choice `choice[n]`.
    pub fn evaluate(&self, choice: &[usize]) -> Evaluation {
        let end = self.nodes.len();
        let chosen = || self.nodes.iter().zip(choice).map(|(node, at)| node.choices[*at]);
        let own: f64 = chosen().map(|one| one.seconds).sum();
        let exchanged: f64 = self.nets.iter().map(|net| net.seconds_before(choice, end)).sum();
        let held: f64 = chosen().map(|one| one.memory).sum();
        let kept: f64 = self.keeps.iter().map(|keep| keep.held_before(choice, end)).sum();
        let workspace = chosen().map(|one| one.workspace).fold(0.0, f64::max);
        Evaluation { seconds: own + exchanged, memory: held + kept + workspace }
    }

    /// Whether so much memory is within the limit.
    pub fn fits(&self, memory: f64) -> bool {
        memory <= self.memory_limit * (1.0 + MEMORY_TOLERANCE)
    }

    /// The assignment's evaluation if it is possible and fits.
    pub fn feasible(&self, choice: &[usize]) -> Option<Evaluation> {
        let found = self.evaluate(choice);
        (found.seconds.is_finite() && self.fits(found.memory)).then_some(found)
    }

    /// Number of assignments; infinite beyond the range of numbers.
    pub fn assignments(&self) -> f64 {
        self.nodes.iter().map(|node| node.choices.len() as f64).product()
    }

    /// A bound without search: every node at its fastest, nothing exchanged.
    pub fn floor(&self) -> f64 {
        let fastest = |node: &Node| node.choices.iter().map(|one| one.seconds).fold(f64::INFINITY, f64::min);
        self.nodes.iter().map(fastest).sum()
    }

    /// Checks indices and numbers.
    ///
    /// # Errors
    /// [`ShardError::Table`], naming what is wrong.
    pub fn check(&self) -> Result<(), ShardError> {
        let refuse = |problem: String| Err(ShardError::Table { problem });
        if let Some(node) = self.nodes.iter().find(|node| node.choices.is_empty()) {
            return refuse(format!("node '{}' has no choice", node.name));
        }
        let possible = |value: f64| value.is_finite() && value >= 0.0;
        let bad = |one: &Choice| ![one.seconds, one.memory, one.workspace].into_iter().all(possible);
        if let Some(node) = self.nodes.iter().find(|node| node.choices.iter().any(bad)) {
            return refuse(format!("node '{}' has a time or size that is negative or not finite", node.name));
        }
        let of_node = |member: &Member, layouts: usize| {
            self.nodes.get(member.node).is_some_and(|node| node.choices.len() == member.layout.len())
                && member.layout.iter().all(|layout| *layout < layouts)
        };
        let net_fits = |net: &Net| {
            net.targets > 0
                && net.cost.len().is_multiple_of(net.targets)
                && of_node(&net.producer, net.cost.len() / net.targets)
                && net.readers.iter().all(|reader| of_node(reader, net.targets))
                && net.cost.iter().all(|cost| *cost >= 0.0)
        };
        if let Some(at) = self.nets.iter().position(|net| !net_fits(net)) {
            return refuse(format!("net {at} names a node, a choice or a layout that is not there"));
        }
        let keep_fits = |keep: &Keep| {
            keep.keepers.iter().all(|keeper| of_node(keeper, keep.bytes.len()))
                && keep.bytes.iter().all(|b| possible(*b))
        };
        match self.keeps.iter().position(|keep| !keep_fits(keep)) {
            Some(at) => refuse(format!("keep {at} names a node, a choice or a layout that is not there")),
            None => Ok(()),
        }
    }
}
