//! Placement problems: graphs of operators with given costs, to be spread over accelerators and CPU cores.
//!
//! Unlike a [`crate::ModelGraph`] there are no operators to price here: every node brings its processing time on either
//! kind of device, and every source the time to move its output between an accelerator and the host. The problem and the
//! two objectives are those of Tarnawski, Phanishayee, Devanur, Mahajan, Nina Paravecino, "Efficient Algorithms for Device
//! Placement of DNN Graph Operators", NeurIPS 2020, sections 3 to 5. Times are in the file's own unit throughout (the
//! published workloads use milliseconds), sizes in bytes.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// Most devices of one kind that a problem may have.
pub const MOST_PLACEMENT_DEVICES: usize = 4096;

/// One operator or layer.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacementNode {
    /// The user's name for it, unique in the problem.
    pub id: i64,
    /// Whether an accelerator can run it.
    pub on_accelerator: bool,
    /// Processing time on a CPU core.
    pub cpu_time: f64,
    /// Processing time on an accelerator; 0 when no accelerator can run it.
    pub accelerator_time: f64,
    /// Time to move its output between an accelerator and host memory, either way.
    pub transfer_time: f64,
    /// Memory it takes on an accelerator, bytes.
    pub size: f64,
    /// Whether it belongs to the backward pass.
    pub backward: bool,
    /// Nodes of one class share a device.
    pub color: Option<i64>,
}

/// Devices of a problem: equal accelerators, equal CPU cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlacementDevices {
    /// Number of accelerators, `k`.
    pub accelerators: usize,
    /// Number of CPU cores.
    pub cpus: usize,
    /// Memory of one accelerator, bytes; CPU cores have no limit.
    pub accelerator_memory: f64,
}

impl PlacementDevices {
    /// All devices: accelerators `0..k`, then CPU cores.
    pub fn count(&self) -> usize {
        self.accelerators + self.cpus
    }
}

/// What makes a placement problem meaningless; nodes are named by their ids.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// No nodes.
    #[error("no nodes: a placement needs at least one")]
    Empty,
    /// No devices of either kind, or absurdly many.
    #[error("{accelerators} accelerators and {cpus} CPU cores: give at least one device and at most {most} of a kind", most = MOST_PLACEMENT_DEVICES)]
    Devices {
        /// Number of accelerators.
        accelerators: usize,
        /// Number of CPU cores.
        cpus: usize,
    },
    /// Two nodes of one id.
    #[error("node {id} is there twice: give every node its own id")]
    DuplicateNode {
        /// The id.
        id: i64,
    },
    /// A time or size that is negative, infinite or not a number.
    #[error("node {id}: {field} is {value}: give a finite number, 0 or more")]
    Amount {
        /// The node.
        id: i64,
        /// The field of [`PlacementNode`].
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// The accelerators' memory is negative or not a number.
    #[error("an accelerator's memory is {value}: give a number of bytes, 0 or more")]
    Memory {
        /// What it is.
        value: String,
    },
    /// An edge that starts or ends nowhere, or where it starts.
    #[error("the edge from node {from} to node {to} {problem}")]
    Edge {
        /// Where it starts.
        from: i64,
        /// Where it ends.
        to: i64,
        /// What is wrong, and the remedy.
        problem: &'static str,
    },
    /// Nodes that wait for each other.
    #[error("node {id} waits for itself through {length} edges: remove one of the edges of the cycle {cycle}")]
    Cycle {
        /// A node of the cycle.
        id: i64,
        /// Edges of the cycle.
        length: usize,
        /// Its first nodes.
        cycle: String,
    },
}

/// A checked placement problem: ids are unique, edges join known nodes without cycles, amounts are finite and not negative.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacementProblem {
    devices: PlacementDevices,
    nodes: Vec<PlacementNode>,
    successors: Vec<Vec<usize>>,
    order: Vec<usize>,
}

impl PlacementProblem {
    /// Checks and joins the parts; `edges` are pairs of ids, repeated ones count once.
    ///
    /// # Errors
    /// [`PlacementError`], naming the node.
    pub fn new(
        devices: PlacementDevices,
        nodes: Vec<PlacementNode>,
        edges: &[(i64, i64)],
    ) -> Result<Self, PlacementError> {
        check_devices(&devices)?;
        let index = check_nodes(&nodes)?;
        let mut successors = vec![BTreeSet::new(); nodes.len()];
        for &(from, to) in edges {
            let at = |id: i64, problem| index.get(&id).copied().ok_or(PlacementError::Edge { from, to, problem });
            let source = at(from, "starts at a node that is not there: add the node or remove the edge")?;
            let target = at(to, "ends at a node that is not there: add the node or remove the edge")?;
            if source == target {
                return Err(PlacementError::Edge { from, to, problem: "joins a node to itself: remove it" });
            }
            successors[source].insert(target);
        }
        let successors: Vec<Vec<usize>> = successors.into_iter().map(|set| set.into_iter().collect()).collect();
        let order = topological_order(&nodes, &successors)?;
        Ok(Self { devices, nodes, successors, order })
    }

    /// The devices.
    pub fn devices(&self) -> &PlacementDevices {
        &self.devices
    }

    /// All nodes, in the order given.
    pub fn nodes(&self) -> &[PlacementNode] {
        &self.nodes
    }

    /// Positions in [`Self::nodes`] of what reads the output of the node at `node`, ascending.
    pub fn successors(&self, node: usize) -> &[usize] {
        &self.successors[node]
    }

    /// Positions in [`Self::nodes`], every node behind all that it reads.
    pub fn topological_order(&self) -> &[usize] {
        &self.order
    }

    /// Whether there is a backward pass.
    pub fn is_training(&self) -> bool {
        self.nodes.iter().any(|node| node.backward)
    }
}

fn check_devices(devices: &PlacementDevices) -> Result<(), PlacementError> {
    let PlacementDevices { accelerators, cpus, accelerator_memory } = *devices;
    if devices.accelerators.saturating_add(cpus) == 0 || accelerators.max(cpus) > MOST_PLACEMENT_DEVICES {
        return Err(PlacementError::Devices { accelerators, cpus });
    }
    if accelerator_memory.is_nan() || accelerator_memory < 0.0 {
        return Err(PlacementError::Memory { value: accelerator_memory.to_string() });
    }
    Ok(())
}

/// Positions by id.
fn check_nodes(nodes: &[PlacementNode]) -> Result<BTreeMap<i64, usize>, PlacementError> {
    if nodes.is_empty() {
        return Err(PlacementError::Empty);
    }
    let mut index = BTreeMap::new();
    for (position, node) in nodes.iter().enumerate() {
        let amounts = [
            ("cpu_time", node.cpu_time),
            ("accelerator_time", node.accelerator_time),
            ("transfer_time", node.transfer_time),
            ("size", node.size),
        ];
        // Sums over all nodes must stay finite too.
        if let Some((field, value)) = amounts.into_iter().find(|(_, value)| !(0.0..=1e100).contains(value)) {
            return Err(PlacementError::Amount { id: node.id, field, value: value.to_string() });
        }
        if index.insert(node.id, position).is_some() {
            return Err(PlacementError::DuplicateNode { id: node.id });
        }
    }
    Ok(index)
}

/// Kahn's algorithm, the first ready node in the order given first.
fn topological_order(nodes: &[PlacementNode], successors: &[Vec<usize>]) -> Result<Vec<usize>, PlacementError> {
    let mut waits = vec![0_usize; nodes.len()];
    successors.iter().flatten().for_each(|node| waits[*node] += 1);
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|node| waits[*node] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(node) = ready.pop_first() {
        order.push(node);
        for &next in &successors[node] {
            waits[next] -= 1;
            if waits[next] == 0 {
                ready.insert(next);
            }
        }
    }
    if order.len() == nodes.len() { Ok(order) } else { Err(cycle(nodes, successors, &waits)) }
}

/// Walks backwards among the nodes that still wait until one comes again.
fn cycle(nodes: &[PlacementNode], successors: &[Vec<usize>], waits: &[usize]) -> PlacementError {
    let mut before = vec![None; nodes.len()];
    for (node, next) in successors.iter().enumerate().filter(|(node, _)| waits[*node] > 0) {
        for next in next {
            before[*next] = Some(node);
        }
    }
    let mut at = waits.iter().position(|waits| *waits > 0).unwrap_or(0);
    let mut seen = vec![None; nodes.len()];
    let mut walk = Vec::new();
    let start = loop {
        if let Some(start) = seen[at] {
            break start;
        }
        seen[at] = Some(walk.len());
        walk.push(at);
        // Every waiting node has a predecessor that waits too.
        at = before[at].unwrap_or(at);
    };
    let ids: Vec<i64> = walk[start..].iter().rev().map(|node| nodes[*node].id).collect();
    let shown: Vec<String> = ids.iter().take(8).map(i64::to_string).collect();
    let more = if ids.len() > shown.len() { " -> ..." } else { "" };
    PlacementError::Cycle { id: ids[0], length: ids.len(), cycle: format!("{}{more}", shown.join(" -> ")) }
}
