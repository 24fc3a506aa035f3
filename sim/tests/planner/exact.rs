//! The ladder on random problems: the ILP equals exhaustive search, and no rung is worse than the one below it.

use crate::support::{Instance, check};
use cutplane_plan::StopReason;
use cutplane_sim::planner::{
    ChainDp, EvenSplit, Exhaustive, Greedy, Ilp, PlanError, PlanOutcome, Planner, SearchBudget,
};

fn exact() -> SearchBudget<'static> {
    SearchBudget { relative_gap: 0.0, ..SearchBudget::default() }
}

fn plan(planner: &dyn Planner, instance: &Instance) -> Option<PlanOutcome> {
    match planner.plan(&instance.problem(), &instance.cost, &exact()) {
        Ok(outcome) => {
            check(&outcome.plan, &instance.model, &instance.devices);
            assert!(outcome.lower_bound.is_none_or(|bound| bound <= outcome.objective), "{outcome:?}");
            Some(outcome)
        }
        Err(PlanError::Infeasible { .. }) => None,
        Err(PlanError::EmptySpace { .. }) if !instance.limits.layer_pins.is_empty() => None,
        Err(error) => panic!("{}: {error}", planner.name()),
    }
}

/// HiGHS works to a relative tolerance of 1e-6.
fn same(a: u64, b: u64) -> bool {
    a.abs_diff(b) as f64 <= 2e-6 * a as f64 + 1.0
}

#[test]
fn ilp_equals_exhaustive_search() {
    let (mut solved, mut infeasible, mut pipelines, mut mixed, mut pinned) = (0, 0, 0, 0, 0);
    for seed in 0..700 {
        let instance = Instance::random(seed, 2..9, 3);
        let (all, ilp) = (plan(&Exhaustive, &instance), plan(&Ilp, &instance));
        let (Some(all), Some(ilp)) = (&all, &ilp) else {
            assert_eq!(all.is_none(), ilp.is_none(), "seed {seed}: {all:?} {ilp:?}");
            infeasible += 1;
            continue;
        };
        assert!(same(all.objective.get(), ilp.objective.get()), "seed {seed}: {all:?} {ilp:?}");
        assert_eq!(ilp.stop, StopReason::ProvenOptimal, "seed {seed}");
        let bound = ilp.lower_bound.expect("a bound");
        assert!(same(bound.get(), ilp.objective.get()), "seed {seed}: bound {bound:?}, {ilp:?}");
        solved += 1;
        pipelines += usize::from(all.plan.pipeline_degree() > 1);
        pinned += usize::from(!instance.limits.layer_pins.is_empty());
        let models: std::collections::BTreeSet<_> = instance.devices.devices().iter().map(|d| &d.spec.model).collect();
        mixed += usize::from(models.len() > 1);
    }
    // The generator must keep reaching all cases.
    println!("{solved} solved, {pipelines} pipelines, {mixed} with two classes, {infeasible} infeasible");
    assert!(solved >= 500 && infeasible >= 10 && pipelines >= 50 && mixed >= 50 && pinned >= 20);
}

#[test]
fn no_rung_is_worse_than_the_one_below() {
    for seed in 1000..1030 {
        let instance = Instance::random(seed, 10..22, 5);
        let chain = plan(&ChainDp, &instance);
        let ilp = plan(&Ilp, &instance);
        assert_eq!(chain.is_none(), ilp.is_none(), "seed {seed}");
        let (Some(chain), Some(ilp)) = (chain, ilp) else { continue };
        assert!(ilp.objective <= chain.objective, "seed {seed}");
        assert!(chain.lower_bound.is_some_and(|bound| bound <= ilp.objective), "seed {seed}");
        for simple in [&EvenSplit as &dyn Planner, &Greedy] {
            let simple = plan(simple, &instance);
            assert!(simple.is_none_or(|simple| chain.objective <= simple.objective), "seed {seed}");
        }
    }
}

#[test]
fn chain_dp_is_exact_with_one_class() {
    for seed in 2000..2200 {
        let instance = Instance::random(seed, 2..9, 3);
        let models: std::collections::BTreeSet<_> = instance.devices.devices().iter().map(|d| &d.spec.model).collect();
        if models.len() > 1 {
            continue;
        }
        let (all, chain) = (plan(&Exhaustive, &instance), plan(&ChainDp, &instance));
        assert_eq!(all.as_ref().map(|all| all.objective), chain.as_ref().map(|chain| chain.objective), "seed {seed}");
        assert!(chain.is_none_or(|chain| chain.stop == StopReason::ProvenOptimal), "seed {seed}");
    }
}
