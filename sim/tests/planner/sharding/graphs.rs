//! Small graphs of real operators: the program against all assignments, and tables against the account of the whole model.

use cutplane_graph::{Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpKind, Overrides, TensorType};
use cutplane_sim::planner::sharding::{
    Account, BeamSharder, ExhaustiveSharder, IlpSharder, ShardBudget, ShardModel, ShardTable, Sharder,
};

use super::random::Random;
use super::setting::{Setting, Work};

/// A few operators in a row, now and then with a sum over an earlier value.
fn graph(random: &mut Random, operators: usize) -> ModelGraph {
    let mut builder = ModelGraphBuilder::new("random");
    let (length, mut width) = (64 << random.below(0, 4), 256 << random.below(0, 4));
    let ty = |width: u64| TensorType::batched(&[length, width], Dtype::F32);
    let mut value = builder.input("x", InputRole::Features, ty(width)).unwrap();
    let mut last = None;
    for at in 0..operators {
        let name = format!("op{at}");
        let before = value;
        value = match (random.below(0, 4), last) {
            (0, Some(other)) if builder.type_of(other) == builder.type_of(value) => {
                builder.op(&name, OpKind::Add, &[value, other]).unwrap()
            }
            (1, _) => builder.op(&name, OpKind::layer_norm(width, 1e-5), &[value]).unwrap(),
            _ => {
                let outputs = if random.chance(0.5) { width } else { 256 << random.below(0, 5) };
                let value = builder.op(&name, OpKind::linear(width, outputs), &[value]).unwrap();
                width = outputs;
                value
            }
        };
        last = Some(before);
    }
    builder.output(value).build().unwrap()
}

#[test]
fn the_program_equals_all_assignments_of_real_operators() {
    let budget = ShardBudget { relative_gap: 0.0, ..ShardBudget::default() };
    let (mut solved, mut two_axes) = (0, 0);
    for seed in 0..70 {
        let mut random = Random(700 + seed);
        let flat = random.chance(0.6);
        let operators = if flat { random.below(2, 5) } else { 2 };
        let setting = Setting::of_graph(graph(&mut random, operators), "a100-80gb:4");
        let batch = 4 << random.below(0, 5);
        let mesh: &[usize] = if flat { &[4] } else { &[2, 2] };
        let work = Work { mesh, batch, micro_batches: 1 << random.below(0, 3), memory_limit: None };
        let model = setting.with(work, |problem| ShardModel::new(problem).unwrap());
        let free = model.table.evaluate(&vec![0; model.table.nodes.len()]);
        let limit = if random.chance(0.3) { f64::INFINITY } else { free.memory * (0.15 + 0.5 * random.unit()) };
        let table = ShardTable { memory_limit: limit, ..model.table };
        let sharder = IlpSharder { start: BeamSharder::GREEDY };
        match (ExhaustiveSharder.shard(&table, &budget), sharder.shard(&table, &budget)) {
            (Ok(best), Ok(found)) => {
                let (best, found) = (best.evaluation.seconds, found.evaluation.seconds);
                assert!(found <= best * (1.0 + 2e-6) && found >= best, "seed {seed}: {best} {found}");
                solved += 1;
                two_axes += usize::from(!flat);
            }
            (Err(best), Err(found)) => assert_eq!(best, found, "seed {seed}"),
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(solved >= 45 && two_axes >= 12, "{solved} {two_axes}");
}

/// Any assignment costs in the folded table what it costs operator by operator, not only the best one.
#[test]
fn tables_agree_with_the_account_of_the_whole_model() {
    let overrides = |layers| Overrides { layers: Some(layers), ..Overrides::default() };
    let cases = [
        ("gpt2", 256, overrides(3), [1, 8]),
        ("bert-base", 128, overrides(2), [2, 4]),
        ("llama-2-7b", 256, overrides(3), [2, 4]),
        ("mixtral-8x7b", 256, overrides(2), [2, 4]),
        ("t5-small", 128, overrides(2), [4, 2]),
        ("resnet50", 1, Overrides::default(), [2, 4]),
    ];
    for (model, sequence, overrides, mesh) in cases {
        let setting = Setting::new(model, sequence, overrides, "dgx-a100:1");
        let work = Work { mesh: &mesh, batch: 32, micro_batches: 2, memory_limit: None };
        setting.with(work, |problem| {
            let model = ShardModel::new(problem).unwrap();
            let mut random = Random(11);
            for _ in 0..20 {
                let choice: Vec<usize> = compatible(&model.table, &mut random);
                let strategies = model.strategies_of(&choice);
                let account = Account::new(problem, |op| strategies[op.index()]);
                let found = model.table.evaluate(&choice);
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.max(b);
                assert!(near(found.seconds, account.seconds()), "{}: {found:?} {account:?}", problem.graph.name());
                assert!(near(found.memory, account.memory()), "{}: {found:?} {account:?}", problem.graph.name());
            }
        });
    }
}

/// A random assignment in which what must agree does.
fn compatible(table: &ShardTable, random: &mut Random) -> Vec<usize> {
    let mut choice: Vec<usize> = table.nodes.iter().map(|node| random.below(0, node.choices.len())).collect();
    for net in table.nets.iter().filter(|net| net.cost.iter().any(|cost| cost.is_infinite())) {
        let given = net.producer.layout[choice[net.producer.node]];
        for reader in &net.readers {
            let suits = |layout: &usize| net.between(given, *layout).is_finite();
            choice[reader.node] = reader.layout.iter().position(suits).expect("some choice agrees");
        }
    }
    choice
}
