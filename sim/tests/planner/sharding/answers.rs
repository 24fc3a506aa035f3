//! What an answer says: memory that is too short, the best number of micro-batches, meshes that do not fit.

use cutplane_graph::Overrides;
use cutplane_sim::network::Library;
use cutplane_sim::planner::sharding::{IlpSharder, Mesh, ShardBudget, ShardError, best_sharding, shard};
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
        let fastest = best.tried.iter().filter_map(|(_, seconds)| *seconds).fold(f64::INFINITY, f64::min);
        assert!((best.sharding.account.seconds() - fastest).abs() < 1e-12);
        assert!(best.bound <= fastest && best.gap() <= 2e-3, "{:?}", best.tried);
        let refused =
            shard(&cutplane_sim::planner::sharding::ShardProblem { micro_batches: 7, ..*problem }, &sharder, &budget);
        assert!(matches!(refused, Err(ShardError::Batch { field: "micro_batches", .. })));
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
