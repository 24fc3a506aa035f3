//! Random problems, and all assignments of small ones.

use cutplane_graph::placement::{PlacementDevices, PlacementNode, PlacementProblem};
use cutplane_sim::placement::{Evaluation, evaluate};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn time(&mut self, most: usize) -> f64 {
        self.below(10 * most) as f64 / 10.0
    }
}

/// A random problem with `nodes` forward nodes; every second one with colours, every third one with a mirrored backward pass.
pub(crate) fn random(seed: u64, nodes: usize) -> PlacementProblem {
    let mut random = Random(seed);
    let mut all: Vec<PlacementNode> = (0..nodes)
        .map(|id| PlacementNode {
            id: id as i64,
            on_accelerator: random.below(8) > 0,
            cpu_time: random.time(40),
            accelerator_time: random.time(10),
            transfer_time: random.time(5),
            size: random.below(5) as f64,
            backward: false,
            color: (seed.is_multiple_of(2) && random.below(3) == 0).then(|| random.below(2) as i64),
        })
        .collect();
    let mut edges = Vec::new();
    for to in 1..nodes {
        for from in (0..to).rev().take(5) {
            if random.below(3) == 0 {
                edges.push((from as i64, to as i64));
            }
        }
    }
    if seed.is_multiple_of(3) {
        let shift = nodes as i64;
        let back: Vec<(i64, i64)> = edges.iter().map(|(from, to)| (to + shift, from + shift)).collect();
        for node in 0..nodes {
            let color = all[node].color.unwrap_or(100 + node as i64);
            all[node].color = Some(color);
            let id = all[node].id + shift;
            all.push(PlacementNode { id, backward: true, transfer_time: random.time(5), ..all[node].clone() });
        }
        edges.extend(back);
        edges.push((shift - 1, 2 * shift - 1));
    }
    let accelerators = 1 + random.below(2);
    let devices = PlacementDevices {
        accelerators,
        cpus: usize::from(random.below(6) > 0),
        accelerator_memory: 4.0 + random.below(3 * nodes) as f64,
    };
    PlacementProblem::new(devices, all, &edges).expect("a valid problem")
}

/// Whether the devices can be put in an order: forward edges as they are, backward edges turned round.
fn in_order(problem: &PlacementProblem, assignment: &[usize]) -> bool {
    let mut open: Vec<usize> = (0..problem.devices().count()).collect();
    let mut edges = Vec::new();
    for (source, node) in problem.nodes().iter().enumerate() {
        for &reader in problem.successors(source) {
            let (from, to) = (assignment[source], assignment[reader]);
            if node.backward == problem.nodes()[reader].backward && from != to {
                edges.push(if node.backward { (to, from) } else { (from, to) });
            }
        }
    }
    loop {
        let first = |device: &usize| !edges.iter().any(|(from, to)| to == device && open.contains(from));
        match open.iter().position(first) {
            Some(position) => open.remove(position),
            None => return open.is_empty(),
        };
    }
}

/// What all assignments of a small problem are worth at best: free, contiguous, latency; `None` where none fits.
#[derive(Debug)]
pub(crate) struct Best {
    pub(crate) free: Option<f64>,
    pub(crate) contiguous: Option<f64>,
    pub(crate) latency: Option<f64>,
}

/// Tries every assignment.
pub(crate) fn best(problem: &PlacementProblem) -> Best {
    let mut best = Best { free: None, contiguous: None, latency: None };
    let (count, devices) = (problem.nodes().len(), problem.devices().count());
    let mut classes: Vec<i64> = Vec::new();
    let class: Vec<usize> = (0..count)
        .map(|node| {
            let name = problem.nodes()[node].color.unwrap_or(1000 + node as i64);
            classes.iter().position(|known| *known == name).unwrap_or_else(|| {
                classes.push(name);
                classes.len() - 1
            })
        })
        .collect();
    for number in 0..devices.pow(classes.len() as u32) {
        let device = |class: usize| number / devices.pow(class as u32) % devices;
        let assignment: Vec<usize> = class.iter().map(|class| device(*class)).collect();
        let Ok(Evaluation { max_load, latency, contiguous, .. }) = evaluate(problem, &assignment) else { continue };
        let keep = |best: &mut Option<f64>, value: f64| *best = Some(best.map_or(value, |known| known.min(value)));
        keep(&mut best.free, max_load);
        if in_order(problem, &assignment) {
            assert!(contiguous, "an order of devices makes their parts convex");
            keep(&mut best.contiguous, max_load);
        }
        if let Some(latency) = latency {
            keep(&mut best.latency, latency);
        }
    }
    best
}
