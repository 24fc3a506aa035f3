//! What an answer says: memory that is too short, the best number of micro-batches, an interrupted search, meshes that do not
//! fit.

use std::sync::atomic::{AtomicBool, Ordering};

use cutplane_graph::Overrides;
use cutplane_plan::StopReason;
use cutplane_sim::network::Library;
use cutplane_sim::planner::sharding::{
    BeamSharder, IlpSharder, Mesh, ShardBudget, ShardError, ShardOutcome, ShardTable, Sharder, Tried, best_sharding,
    shard,
};
use cutplane_units::Bytes;

use super::setting::{Setting, Work};

fn gpt2() -> Setting {
    let overrides = Overrides { layers: Some(6), ..Overrides::default() };
    Setting::new("gpt2", 1024, overrides, "a100-80gb:4")
}

#[test]
fn the_smallest_limit_that_fits_is_named_and_fits() {
    let setting = gpt2();
    let with = |bytes| Work { mesh: &[4], batch: 16, micro_batches: 2, memory_limit: Some(Bytes::new(bytes)) };
    let error = setting.shard(with(100 << 20)).unwrap_err();
    let ShardError::Infeasible { limit, smallest } = error else { panic!("{error}") };
    assert_eq!(limit, Bytes::new(100 << 20));
    let found = setting.shard(with(smallest.get())).unwrap();
    assert!(found.account.memory() <= smallest.as_f64() * (1.0 + 1e-8));
    let below = (smallest.as_f64() * 0.999) as u64;
    assert!(matches!(setting.shard(with(below)), Err(ShardError::Infeasible { .. })));
}

#[test]
fn the_best_number_of_micro_batches_is_found() {
    let setting = gpt2();
    let work = Work { mesh: &[4], batch: 64, micro_batches: 1, memory_limit: Some(Bytes::new(6 << 30)) };
    setting.with(work, |problem| {
        let (sharder, budget) = (IlpSharder::default(), ShardBudget::default());
        let best = best_sharding(problem, &[1, 4, 16], &sharder, &budget).unwrap();
        assert_eq!(best.tried.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [1, 4, 16]);
        let fastest = best.tried.iter().filter_map(|(_, came)| came.seconds()).fold(f64::INFINITY, f64::min);
        assert!((best.sharding.account.seconds() - fastest).abs() < 1e-12);
        assert!(best.bound <= fastest && best.gap() <= 2e-3, "{:?}", best.tried);
        let refused =
            shard(&cutplane_sim::planner::sharding::ShardProblem { micro_batches: 7, ..*problem }, &sharder, &budget);
        assert!(matches!(refused, Err(ShardError::Batch { field: "micro_batches", .. })));
    });
}

/// Raises the flag behind its first search, as a user would.
struct Interrupts<'a>(&'a AtomicBool);

impl Sharder for Interrupts<'_> {
    fn name(&self) -> &'static str {
        "interrupts"
    }

    fn shard(&self, table: &ShardTable, budget: &ShardBudget<'_>) -> Result<ShardOutcome, ShardError> {
        let found = BeamSharder::default().shard(table, budget);
        self.0.store(true, Ordering::Relaxed);
        found
    }
}

#[test]
fn what_an_interrupted_search_did_not_try_is_said_and_bounded() {
    let setting = gpt2();
    let work = Work { mesh: &[4], batch: 64, micro_batches: 1, memory_limit: Some(Bytes::new(6 << 30)) };
    setting.with(work, |problem| {
        let flag = AtomicBool::new(false);
        let interrupted = ShardBudget { interrupt: Some(&flag), ..ShardBudget::default() };
        let counts = [16, 4, 1];
        let best = best_sharding(problem, &counts, &Interrupts(&flag), &interrupted).unwrap();
        let words: Vec<&str> = best.tried.iter().map(|(_, came)| came.word()).collect();
        assert_eq!(words, ["found", "not tried", "not tried"]);
        assert_eq!(best.stop(1e-3), StopReason::Interrupted);
        let whole = best_sharding(problem, &counts, &BeamSharder::default(), &ShardBudget::default()).unwrap();
        let fastest = whole.sharding.account.seconds();
        assert!(best.bound > 0.0 && best.bound <= fastest, "{} against {fastest}", best.bound);
        assert!(whole.tried.iter().all(|(_, came)| *came != Tried::NotTried), "{:?}", whole.tried);
    });
}

#[test]
fn meshes_that_do_not_fit_say_what_would() {
    let setting = gpt2();
    for sizes in [&[3][..], &[2, 4], &[2, 2, 1], &[]] {
        let error = Mesh::new(sizes, &setting.fabric, Library::NCCL).unwrap_err().to_string();
        assert!(error.starts_with("mesh '") && error.contains("write"), "{error}");
    }
}
