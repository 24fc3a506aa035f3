//! Searchers against each other on random tables.

use std::time::Duration;

use cutplane_plan::StopReason;
use cutplane_sim::planner::sharding::{
    BeamSharder, ExhaustiveSharder, IlpSharder, ShardBudget, ShardError, ShardTable, Sharder,
};

use super::random::table;

const EXACT: ShardBudget<'_> =
    ShardBudget { time_limit: Duration::from_mins(1), relative_gap: 0.0, seed: 0, interrupt: None };

/// Whether the solver's answer is the best one, up to its tolerance.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs()) + 1e-9
}

#[test]
fn the_program_equals_all_assignments() {
    let (mut solved, mut infeasible, mut improved) = (0, 0, 0);
    for seed in 0..800 {
        let table = table(seed, 2..6, 4);
        match (ExhaustiveSharder.shard(&table, &EXACT), IlpSharder { start: BeamSharder::GREEDY }.shard(&table, &EXACT))
        {
            (Ok(best), Ok(found)) => {
                assert!(same(best.evaluation.seconds, found.evaluation.seconds), "seed {seed}: {best:?} {found:?}");
                assert!(same(found.bound, best.bound) && found.bound <= best.bound * (1.0 + 1e-9), "seed {seed}");
                assert!(found.bound_of_unequal.unwrap() <= found.bound, "seed {seed}");
                assert_eq!(table.feasible(&found.choice), Some(found.evaluation), "seed {seed}");
                assert_eq!(found.stop, StopReason::ProvenOptimal, "seed {seed}");
                improved += usize::from(found.searcher == "ilp");
                solved += 1;
            }
            (Err(best), Err(found)) => {
                agree(&table, &best, &found, seed);
                infeasible += 1;
            }
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(solved >= 500 && infeasible >= 40 && improved >= 20, "{solved} {infeasible} {improved}");
}

/// Both say that nothing fits, and what would.
fn agree(table: &ShardTable, best: &ShardError, found: &ShardError, seed: u64) {
    match (best, found) {
        (ShardError::Infeasible { smallest: a, .. }, ShardError::Infeasible { smallest: b, .. }) => {
            assert_eq!(a, b, "seed {seed}");
            let enough = ShardTable { memory_limit: a.as_f64(), ..table.clone() };
            IlpSharder::default().shard(&enough, &EXACT).unwrap();
        }
        (ShardError::Infeasible { smallest, .. }, ShardError::Table { .. }) => {
            assert_eq!(smallest.get(), u64::MAX, "seed {seed}");
        }
        other => panic!("seed {seed}: {other:?}"),
    }
}

#[test]
fn the_program_is_never_worse_than_the_beam() {
    let (mut better, mut found_alone) = (0, 0);
    for seed in 0..60 {
        let table = table(9000 + seed, 8..16, 6);
        let budget = ShardBudget { relative_gap: 1e-3, ..EXACT };
        let Ok(found) = IlpSharder::default().shard(&table, &budget) else { continue };
        assert!(found.bound <= found.evaluation.seconds && found.gap() <= 1e-3 + 1e-9, "seed {seed}: {found:?}");
        for width in [1, 8, 48] {
            match (BeamSharder { width }).shard(&table, &budget) {
                Ok(beam) => {
                    assert!(beam.evaluation.seconds >= found.evaluation.seconds * (1.0 - 1e-9), "seed {seed}");
                    assert!(beam.bound <= found.evaluation.seconds * (1.0 + 1e-9), "seed {seed}");
                    better += usize::from(beam.evaluation.seconds > found.evaluation.seconds * 1.001);
                }
                Err(ShardError::NoIncumbent { .. }) => found_alone += 1,
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
    }
    assert!(better >= 10, "{better} {found_alone}");
}

/// Without a limit of memory a beam that drops nothing is exact.
#[test]
fn a_wide_beam_is_exact_where_memory_is_free() {
    for seed in 0..150 {
        let free = ShardTable { memory_limit: f64::INFINITY, ..table(5000 + seed, 2..6, 4) };
        let wide = BeamSharder { width: 1 << 20 };
        match (ExhaustiveSharder.shard(&free, &EXACT), wide.shard(&free, &EXACT)) {
            (Ok(best), Ok(found)) => assert!(same(best.evaluation.seconds, found.evaluation.seconds), "seed {seed}"),
            (Err(ShardError::Infeasible { .. }), Err(ShardError::NoIncumbent { .. })) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
    }
}

/// Time that ran out, a limit that nothing fits, and a limit that nothing was found for are three answers.
#[test]
fn endings_are_told_apart() {
    let none = ShardBudget { time_limit: Duration::ZERO, ..EXACT };
    let (mut stopped, mut nothing) = (0, 0);
    for seed in 0..40 {
        let table = table(seed, 6..9, 5);
        match IlpSharder::default().shard(&table, &none) {
            Ok(found) if found.stop == StopReason::TimeLimit => {
                assert!(
                    found.bound <= found.evaluation.seconds && found.bound_of_unequal.is_none_or(|b| b <= found.bound)
                );
                stopped += 1;
            }
            Ok(found) => assert_eq!(found.stop, StopReason::ProvenOptimal, "seed {seed}"),
            Err(ShardError::NoIncumbent { limit, .. }) => {
                assert_eq!(limit.get(), table.memory_limit.ceil() as u64, "seed {seed}");
                nothing += 1;
            }
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
    assert!(stopped >= 5 && nothing >= 2, "{stopped} {nothing}");
    let raised = std::sync::atomic::AtomicBool::new(true);
    let interrupted = ShardBudget { interrupt: Some(&raised), ..EXACT };
    let free = (0..20).map(|seed| ShardTable { memory_limit: f64::INFINITY, ..table(seed, 8..9, 6) });
    let stops = free.filter_map(|table| IlpSharder::default().shard(&table, &interrupted).ok());
    assert!(stops.filter(|found| found.stop == StopReason::Interrupted).count() >= 5);
}

#[test]
fn broken_and_large_tables_are_refused() {
    let good = table(3, 4..5, 3);
    let refused = |change: fn(&mut ShardTable)| {
        let mut table = good.clone();
        change(&mut table);
        IlpSharder::default().shard(&table, &EXACT).unwrap_err().to_string()
    };
    assert!(refused(|table| table.nodes[1].choices.clear()).contains("'n1' has no choice"));
    assert!(refused(|table| table.nodes[0].choices[0].memory = f64::NAN).contains("'n0'"));
    assert!(refused(|table| table.nets[0].producer.node = 99).contains("net 0"));
    let large = table(7, 30..31, 6);
    assert!(matches!(ExhaustiveSharder.shard(&large, &EXACT), Err(ShardError::TooLarge { .. })));
}
