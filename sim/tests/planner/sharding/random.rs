//! Random tables.

use cutplane_sim::planner::sharding::{Choice, Keep, Member, Net, Node, ShardTable};

/// A generator of pseudo-random numbers (splitmix64, Steele et al. 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From `low` up to, not including, `high`.
    pub(crate) fn below(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low) as u64) as usize
    }

    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

fn member(random: &mut Random, nodes: &[Node], node: usize, layouts: usize) -> Member {
    let layout = nodes[node].choices.iter().map(|_| random.below(0, layouts)).collect();
    Member { node, layout }
}

fn choice(random: &mut Random) -> Choice {
    Choice {
        seconds: (10.0 * random.unit()).round() / 8.0,
        memory: 1e9 * (8.0 * random.unit()).round(),
        workspace: 1e9 * (2.0 * random.unit()).round(),
    }
}

fn net(random: &mut Random, nodes: &[Node]) -> Net {
    let (given, targets) = (random.below(1, 4), random.below(1, 4));
    let readers = random.below(1, 4);
    let readers = (0..readers).map(|_| {
        let node = random.below(0, nodes.len());
        member(random, nodes, node, targets)
    });
    let readers: Vec<Member> = readers.collect();
    let producer = random.below(0, nodes.len());
    let producer = member(random, nodes, producer, given);
    let copies = readers.iter().chain([&producer]).map(|member| nodes[member.node].copies).min().unwrap();
    let cost = |random: &mut Random| match random.below(0, 24) {
        0 => f64::INFINITY,
        1..9 => 0.0,
        _ => random.unit(),
    };
    let cost = (0..given * targets).map(|_| cost(random)).collect();
    Net { producer, readers, count: copies, targets, cost }
}

fn keep(random: &mut Random, nodes: &[Node]) -> Keep {
    let layouts = random.below(1, 4);
    let keepers: Vec<Member> = (0..random.below(1, 4))
        .map(|_| {
            let node = random.below(0, nodes.len());
            member(random, nodes, node, layouts)
        })
        .collect();
    let count = keepers.iter().map(|keeper| nodes[keeper.node].copies).min().unwrap();
    Keep { keepers, count, bytes: (0..layouts).map(|_| 1e9 * (6.0 * random.unit()).round()).collect() }
}

/// A table of so many nodes, of up to `most` choices each; every second one with a memory limit.
pub(crate) fn table(seed: u64, nodes: std::ops::Range<usize>, most: usize) -> ShardTable {
    let mut random = Random(seed);
    let count = random.below(nodes.start, nodes.end);
    let nodes: Vec<Node> = (0..count)
        .map(|at| Node {
            name: format!("n{at}"),
            copies: random.below(1, 4) as u64,
            choices: (0..random.below(1, most + 1)).map(|_| choice(&mut random)).collect(),
        })
        .collect();
    let nets = (0..random.below(1, 2 * count)).map(|_| net(&mut random, &nodes)).collect();
    let keeps = (0..random.below(0, count)).map(|_| keep(&mut random, &nodes)).collect();
    let mut table = ShardTable { nodes, nets, keeps, memory_limit: f64::INFINITY };
    if random.chance(0.6) {
        let any = |random: &mut Random| -> Vec<usize> {
            table.nodes.iter().map(|node| random.below(0, node.choices.len())).collect()
        };
        let sizes: Vec<f64> = (0..8).map(|_| table.evaluate(&any(&mut random)).memory).collect();
        let (least, mean) = (sizes.iter().copied().fold(f64::INFINITY, f64::min), sizes.iter().sum::<f64>() / 8.0);
        table.memory_limit = least * (0.8 + 0.4 * random.unit()) + 0.2 * (mean - least) * random.unit();
    }
    table
}
