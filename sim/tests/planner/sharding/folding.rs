//! Folding: copies alike are one node, and the bound for unequal copies holds for all assignments of all copies.

use std::time::Duration;

use cutplane_graph::Overrides;
use cutplane_sim::planner::sharding::{
    BeamSharder, Choice, ExhaustiveSharder, IlpSharder, Keep, Member, Net, Node, ShardBudget, ShardModel, ShardTable,
    Sharder,
};

use super::random::Random;
use super::setting::{Setting, Work};

/// A chain of equal blocks of two operators, folded, and with every copy a node.
fn chain(seed: u64) -> (ShardTable, ShardTable) {
    let mut random = Random(seed);
    let copies = random.below(2, 5);
    let choices: Vec<Vec<Choice>> = (0..2)
        .map(|_| {
            let one = |random: &mut Random| Choice {
                seconds: random.unit(),
                memory: (4.0 * random.unit()).round(),
                workspace: random.unit().round(),
            };
            (0..random.below(2, 4)).map(|_| one(&mut random)).collect()
        })
        .collect();
    let layouts: Vec<Vec<usize>> =
        choices.iter().map(|choices| choices.iter().map(|_| random.below(0, 2)).collect()).collect();
    let costs: [Vec<f64>; 2] = [0, 1].map(|_| (0..4).map(|_| (2.0 * random.unit()).round() * 0.3).collect());
    let bytes: Vec<f64> = (0..2).map(|_| (3.0 * random.unit()).round()).collect();
    let member = |kind: usize, node: usize| Member { node, layout: layouts[kind].clone() };
    let net = |costs: &[f64], from: Member, to: Member, count: usize| Net {
        producer: from,
        readers: vec![to],
        count: count as u64,
        targets: 2,
        cost: costs.iter().map(|cost| cost * count as f64).collect(),
    };
    let keep = |a: Member, b: Member, count: usize| Keep {
        keepers: vec![a, b],
        count: count as u64,
        bytes: bytes.iter().map(|bytes| bytes * count as f64).collect(),
    };
    let nodes = |times: usize| {
        let node = |(kind, choices): (usize, &Vec<Choice>)| Node {
            name: kind.to_string(),
            copies: times as u64,
            choices: choices
                .iter()
                .map(|one| Choice { seconds: one.seconds * times as f64, memory: one.memory * times as f64, ..*one })
                .collect(),
        };
        choices.iter().enumerate().map(node).collect::<Vec<_>>()
    };
    let folded = ShardTable {
        nodes: nodes(copies),
        nets: vec![
            net(&costs[0], member(0, 0), member(1, 1), copies),
            net(&costs[1], member(1, 1), member(0, 0), copies - 1),
        ],
        keeps: vec![keep(member(0, 0), member(1, 1), copies), keep(member(1, 1), member(0, 0), copies - 1)],
        memory_limit: f64::INFINITY,
    };
    let mut all = ShardTable { nodes: Vec::new(), nets: Vec::new(), keeps: Vec::new(), memory_limit: f64::INFINITY };
    for copy in 0..copies {
        let (first, second) = (2 * copy, 2 * copy + 1);
        all.nodes.extend(nodes(1));
        all.nets.push(net(&costs[0], member(0, first), member(1, second), 1));
        all.keeps.push(keep(member(0, first), member(1, second), 1));
        if copy > 0 {
            all.nets.push(net(&costs[1], member(1, first - 1), member(0, first), 1));
            all.keeps.push(keep(member(1, first - 1), member(0, first), 1));
        }
    }
    let least = folded.nodes.iter().map(|node| node.choices.iter().map(|c| c.memory).fold(f64::INFINITY, f64::min));
    let limit = least.sum::<f64>() + 6.0 * copies as f64 * random.unit();
    let limit = if random.chance(0.3) { f64::INFINITY } else { limit };
    (ShardTable { memory_limit: limit, ..folded }, ShardTable { memory_limit: limit, ..all })
}

#[test]
fn the_bound_for_unequal_copies_holds() {
    let budget = ShardBudget { time_limit: Duration::from_mins(1), relative_gap: 0.0, seed: 0, interrupt: None };
    let (mut checked, mut apart) = (0, 0);
    for seed in 0..150 {
        let (folded, all) = chain(seed);
        let alike = ExhaustiveSharder.shard(&folded, &budget);
        let (Ok(alike), Ok(free)) = (alike, ExhaustiveSharder.shard(&all, &budget)) else { continue };
        let repeated = alike.choice.repeat(folded.nodes[0].copies as usize);
        let unfolded = all.evaluate(&repeated);
        assert!((unfolded.seconds - alike.evaluation.seconds).abs() < 1e-9, "seed {seed}");
        assert!((unfolded.memory - alike.evaluation.memory).abs() < 1e-9, "seed {seed}");
        let found = IlpSharder { start: BeamSharder::GREEDY }.shard(&folded, &budget).unwrap();
        let bound = found.bound_of_unequal.unwrap();
        assert!(bound <= free.evaluation.seconds * (1.0 + 1e-9), "seed {seed}: {bound} {free:?}");
        assert!(free.evaluation.seconds <= alike.evaluation.seconds * (1.0 + 1e-9), "seed {seed}");
        apart += usize::from(free.evaluation.seconds < alike.evaluation.seconds * 0.999);
        checked += 1;
    }
    // Copies that differ do pay now and then, so the two bounds are two things.
    assert!(checked >= 100 && apart >= 5, "{checked} {apart}");
}

/// 12 and 96 layers are one problem: as many nodes, choices and columns.
#[test]
fn depth_costs_nothing() {
    let sizes = [12, 96].map(|layers| {
        let overrides = Overrides { layers: Some(layers), ..Overrides::default() };
        let setting = Setting::new("gpt2", 512, overrides, "a100-80gb:4");
        let work = Work { mesh: &[4], batch: 16, micro_batches: 2, memory_limit: None };
        let table = setting.with(work, |problem| ShardModel::new(problem).unwrap().table);
        let found = IlpSharder::default().shard(&table, &ShardBudget::default()).unwrap();
        (table.nodes.len(), table.assignments().to_bits(), table.nets.len(), found.variables)
    });
    assert_eq!(sizes[0], sizes[1]);
    assert!(sizes[0].3 > 100, "{sizes:?}");
}
