//! What an assignment is worth, straight from nodes and edges: shares no code with any searcher, so every answer of theirs
//! can be held against it.
//!
//! **Load** of an accelerator: the accelerator times of its nodes, plus the transfer time of every source outside whose
//! output one of its nodes reads (paid once, however many read it), plus the transfer time of every node inside whose output
//! is read outside (paid once, however many devices read it). Load of a CPU core: the CPU times of its nodes; host memory
//! needs no transfer. **Throughput objective**: the largest load, the time between two samples of a full pipeline.
//!
//! **Latency objective**: completion of one sample. The nodes of one pass on one accelerator form a block that starts when
//! all its inputs from outside are there and gives all its outputs at its end; it takes transfers in, processing and
//! transfers out one after the other. A node on a CPU core starts when its inputs are there; cores are never waited for, so
//! their number does not matter. Blocks that wait for each other have no latency at all. Without backward nodes this is the
//! authors' integer program with one subgraph an accelerator (`latency-ip/lip.py` of their repository with
//! `MAX_SUBGRAPHS_PER_FPGA = 1`), and the latency that their `greedy.exe -computeLatency` gives a contiguous split. (The program
//! also admits accelerators that wait for each other while neither takes any time at all.)
//!
//! **Contiguous**: the nodes of each pass on each device are a convex set, that is no path of the graph leaves the set and
//! comes back.
//!
//! Source: Tarnawski et al., NeurIPS 2020, sections 3 (model), 4 (latency) and 5 (throughput).

use cutplane_graph::placement::PlacementProblem;

use super::error::PlacementViolation;

/// One device's part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceUse {
    /// Whether it is an accelerator; otherwise a CPU core.
    pub accelerator: bool,
    /// Nodes on it.
    pub nodes: usize,
    /// Processing and transfers, in the file's unit of time.
    pub load: f64,
    /// Transfers alone.
    pub transfers: f64,
    /// Sizes of its nodes, bytes.
    pub memory: f64,
}

/// What an assignment is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Largest load of a device.
    pub max_load: f64,
    /// Completion of one sample; `None` when blocks wait for each other.
    pub latency: Option<f64>,
    /// Whether all parts are convex.
    pub contiguous: bool,
    /// By device: accelerators, then CPU cores.
    pub devices: Vec<DeviceUse>,
}

/// Scores an assignment: `assignment[i]` is the device of the node at position `i`, accelerators `0..k`, CPU cores from `k`.
///
/// # Errors
/// [`PlacementViolation`] when a device is not there or cannot run a node, its memory does not suffice, or a colour class is
/// torn apart.
pub fn evaluate(problem: &PlacementProblem, assignment: &[usize]) -> Result<Evaluation, PlacementViolation> {
    check(problem, assignment)?;
    let mut devices = uses(problem, assignment);
    add_transfers(problem, assignment, &mut devices);
    check_memory(problem, &devices)?;
    Ok(Evaluation {
        max_load: devices.iter().map(|device| device.load).fold(0.0, f64::max),
        latency: latency(problem, assignment),
        contiguous: is_contiguous(problem, assignment),
        devices,
    })
}

fn check(problem: &PlacementProblem, assignment: &[usize]) -> Result<(), PlacementViolation> {
    let (nodes, devices) = (problem.nodes(), problem.devices());
    if assignment.len() != nodes.len() {
        return Err(PlacementViolation::Length { nodes: nodes.len(), given: assignment.len() });
    }
    let mut classes = std::collections::BTreeMap::new();
    for (node, &device) in nodes.iter().zip(assignment) {
        let id = node.id;
        if device >= devices.count() {
            return Err(PlacementViolation::Device { id, device, devices: devices.count() });
        }
        if device < devices.accelerators && !node.on_accelerator {
            return Err(PlacementViolation::Unsupported { id, device });
        }
        if let Some(color) = node.color {
            let (first, other) = *classes.entry(color).or_insert((id, device));
            if other != device {
                return Err(PlacementViolation::Torn { color, first, id });
            }
        }
    }
    Ok(())
}

/// Processing and memory.
fn uses(problem: &PlacementProblem, assignment: &[usize]) -> Vec<DeviceUse> {
    let accelerators = problem.devices().accelerators;
    let empty =
        |device| DeviceUse { accelerator: device < accelerators, nodes: 0, load: 0.0, transfers: 0.0, memory: 0.0 };
    let mut devices: Vec<DeviceUse> = (0..problem.devices().count()).map(empty).collect();
    for (node, &device) in problem.nodes().iter().zip(assignment) {
        let used = &mut devices[device];
        used.nodes += 1;
        used.memory += node.size;
        used.load += if used.accelerator { node.accelerator_time } else { node.cpu_time };
    }
    devices
}

fn add_transfers(problem: &PlacementProblem, assignment: &[usize], devices: &mut [DeviceUse]) {
    for (source, node) in problem.nodes().iter().enumerate() {
        let mut sides: Vec<usize> = problem.successors(source).iter().map(|reader| assignment[*reader]).collect();
        sides.retain(|side| *side != assignment[source]);
        if !sides.is_empty() {
            sides.push(assignment[source]);
        }
        sides.sort_unstable();
        sides.dedup();
        for device in sides {
            if devices[device].accelerator {
                devices[device].transfers += node.transfer_time;
                devices[device].load += node.transfer_time;
            }
        }
    }
}

/// Sums of sizes carry the rounding of their order.
fn check_memory(problem: &PlacementProblem, devices: &[DeviceUse]) -> Result<(), PlacementViolation> {
    let limit = problem.devices().accelerator_memory;
    let over = devices.iter().position(|device| device.accelerator && device.memory > limit * (1.0 + 1e-12));
    over.map_or(Ok(()), |device| Err(PlacementViolation::Memory { device, needed: devices[device].memory, limit }))
}

/// Blocks of the latency model: the nodes of one pass on one accelerator, or one node on a CPU core.
fn blocks(problem: &PlacementProblem, assignment: &[usize]) -> (Vec<usize>, usize) {
    let accelerators = problem.devices().accelerators;
    let mut count = 2 * accelerators;
    let mut block = Vec::with_capacity(assignment.len());
    for (node, &device) in problem.nodes().iter().zip(assignment) {
        if device < accelerators {
            block.push(2 * device + usize::from(node.backward));
        } else {
            block.push(count);
            count += 1;
        }
    }
    (block, count)
}

fn latency(problem: &PlacementProblem, assignment: &[usize]) -> Option<f64> {
    let on_accelerator = |block: usize| block < 2 * problem.devices().accelerators;
    let (block, count) = blocks(problem, assignment);
    let mut takes = vec![0.0; count];
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (index, node) in problem.nodes().iter().enumerate() {
        let home = block[index];
        takes[home] += if on_accelerator(home) { node.accelerator_time } else { node.cpu_time };
        let mut readers: Vec<usize> = problem.successors(index).iter().map(|reader| block[*reader]).collect();
        readers.sort_unstable();
        readers.dedup();
        readers.retain(|reader| *reader != home);
        if on_accelerator(home) && !readers.is_empty() {
            takes[home] += node.transfer_time;
        }
        for reader in readers {
            before[reader].push(home);
            takes[reader] += if on_accelerator(reader) { node.transfer_time } else { 0.0 };
        }
    }
    completion(&takes, &before)
}

/// Longest path over blocks; `None` where they wait for each other.
fn completion(takes: &[f64], before: &[Vec<usize>]) -> Option<f64> {
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); takes.len()];
    for (block, waits) in before.iter().enumerate() {
        for other in waits {
            after[*other].push(block);
        }
    }
    let mut waits: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut ready: Vec<usize> = (0..takes.len()).filter(|block| waits[*block] == 0).collect();
    let (mut start, mut done, mut last) = (vec![0.0_f64; takes.len()], 0, 0.0_f64);
    while let Some(block) = ready.pop() {
        let end = start[block] + takes[block];
        (done, last) = (done + 1, last.max(end));
        for &next in &after[block] {
            start[next] = start[next].max(end);
            waits[next] -= 1;
            if waits[next] == 0 {
                ready.push(next);
            }
        }
    }
    (done == takes.len()).then_some(last)
}

/// For each device and pass: from the readers outside of the set, follow the graph; none may lead back into the set.
fn is_contiguous(problem: &PlacementProblem, assignment: &[usize]) -> bool {
    (0..problem.devices().count())
        .all(|device| [false, true].into_iter().all(|backward| is_convex(problem, assignment, (device, backward))))
}

fn is_convex(problem: &PlacementProblem, assignment: &[usize], (device, backward): (usize, bool)) -> bool {
    let inside = |node: usize| assignment[node] == device && problem.nodes()[node].backward == backward;
    // Whether a path from the set has left it before or at this node.
    let mut left = vec![false; assignment.len()];
    for &node in problem.topological_order() {
        if left[node] && inside(node) {
            return false;
        }
        if left[node] || inside(node) {
            for &reader in problem.successors(node) {
                left[reader] |= left[node] || !inside(reader);
            }
        }
    }
    true
}
