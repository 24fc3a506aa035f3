//! Which plans are compared: the planner's choice, and named alternatives.

use anyhow::Result;
use cutplane_plan::Plan;
use cutplane_record::Timeline;
use cutplane_sim::cost::Roofline;
use cutplane_sim::planner::{PlanError, PlanOutcome, Problem, named_plan};

use crate::context;
use crate::limits::SearchArgs;
use crate::pricing::Pricing;
use crate::verbs::plan::{Searcher, predict, search};

/// A plan with its prediction.
pub(crate) struct Candidate {
    pub(crate) plan: Plan,
    pub(crate) predicted: Timeline,
    pub(crate) chosen: bool,
}

/// Names of the alternatives for `devices` ranks: each technique at a few sizes, as far as they divide the batch.
pub(crate) fn default_names(devices: usize, global_batch: u64) -> Vec<String> {
    let mut names = vec!["single".to_owned()];
    let divides = |replicas: usize, m: u64| global_batch.is_multiple_of(replicas as u64 * m);
    let mut add = |replicas: usize, m: u64, name: String| {
        if divides(replicas, m) {
            names.push(name);
        }
    };
    if devices > 1 {
        add(devices, 1, format!("dp{devices}"));
        add(devices, 2, format!("dp{devices}-m2"));
        add(1, 1, format!("pp{devices}-vanilla"));
        for (schedule, m) in ["fill-drain", "1f1b"].iter().flat_map(|s| [2, 4, 8].map(|m| (s, m))) {
            add(1, m, format!("pp{devices}-{schedule}-m{m}"));
        }
    }
    if devices >= 4 && devices.is_multiple_of(2) {
        for m in [2, 4] {
            add(2, m, format!("dp2-pp{}-1f1b-m{m}", devices / 2));
        }
    }
    names
}

/// Refuses names that do not fit the problem or give no valid plan, at datasheet prices: before the machine is measured, so
/// that a typing error does not cost a minute.
pub(crate) fn refuse_bad_names(problem: &Problem<'_>, names: &[String]) -> Result<()> {
    for name in names {
        match named_plan(problem, &Roofline::new(), name) {
            Ok(plan) => context::verified(&plan, problem.model, problem.devices).map(drop)?,
            Err(error @ PlanError::Name { .. }) => return Err(error.into()),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Plans and predicts the planner's choice and every alternative in `names`; an alternative that is the same plan as the
/// choice is not repeated.
pub(crate) fn candidates(
    problem: &Problem<'_>,
    pricing: &Pricing,
    names: &[String],
) -> Result<(Vec<Candidate>, PlanOutcome)> {
    let outcome = search(problem, pricing, Searcher::BEST, &SearchArgs::default())?;
    let mut list: Vec<Candidate> = Vec::with_capacity(names.len() + 1);
    for name in names {
        let plan = named_plan(problem, pricing.cost(), name)?;
        let repeated = list.iter().any(|other| other.plan.digest() == plan.digest());
        if !repeated {
            list.push(candidate(problem, pricing, plan)?);
        }
    }
    let digest = outcome.plan.digest();
    if let Some(same) = list.iter_mut().find(|other| other.plan.digest() == digest) {
        same.chosen = true;
        same.plan.search.clone_from(&outcome.plan.search);
    } else {
        let chosen = candidate(problem, pricing, outcome.plan.clone())?;
        list.insert(0, Candidate { chosen: true, ..chosen });
    }
    Ok((list, outcome))
}

fn candidate(problem: &Problem<'_>, pricing: &Pricing, plan: Plan) -> Result<Candidate> {
    let predicted = predict(&plan, problem.model, problem.devices, pricing)?;
    Ok(Candidate { plan, predicted, chosen: false })
}

#[cfg(test)]
mod tests {
    use super::default_names;

    #[test]
    fn only_names_that_divide_the_batch_are_offered() {
        assert_eq!(default_names(1, 7), ["single"]);
        assert_eq!(default_names(2, 3), ["single", "pp2-vanilla"]);
        let names = default_names(2, 8);
        assert_eq!((names.len(), names[1].as_str(), names[9].as_str()), (10, "dp2", "pp2-1f1b-m8"));
        assert!(default_names(4, 8).contains(&"dp2-pp2-1f1b-m4".to_owned()));
        assert!(!default_names(4, 4).contains(&"dp2-pp2-1f1b-m4".to_owned()));
    }
}
