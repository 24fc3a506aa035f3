//! Which plans are compared: the planner's choice, and named alternatives.

use anyhow::Result;
use cutplane_plan::Plan;
use cutplane_record::Timeline;
use cutplane_sim::cost::Roofline;
use cutplane_sim::planner::{PlanError, PlanOutcome, Problem, named_plan};

use crate::pricing::Pricing;
use crate::verbs::plan::{Searcher, predict, search};

/// A plan with its prediction.
pub(crate) struct Candidate {
    pub(crate) plan: Plan,
    pub(crate) predicted: Timeline,
    pub(crate) chosen: bool,
}

/// Names of the alternatives for `devices` ranks: each technique that applies, at a few sizes.
pub(crate) fn default_names(devices: usize, per_replica_batch: u64) -> Vec<String> {
    let mut names = vec!["single".to_owned()];
    let fits = |m: u64| per_replica_batch.is_multiple_of(m);
    if devices > 1 {
        names.push(format!("dp{devices}"));
        names.extend([2u64].into_iter().filter(|m| fits(*m)).map(|m| format!("dp{devices}-m{m}")));
        names.push(format!("pp{devices}-vanilla"));
        for schedule in ["fill-drain", "1f1b"] {
            names.extend([2u64, 4, 8].into_iter().filter(|m| fits(*m)).map(|m| format!("pp{devices}-{schedule}-m{m}")));
        }
    }
    if devices >= 4 && devices.is_multiple_of(2) {
        names.extend([2u64, 4].into_iter().filter(|m| fits(*m)).map(|m| format!("dp2-pp{}-1f1b-m{m}", devices / 2)));
    }
    names
}

/// Refuses names that do not fit the problem, at datasheet prices: before the machine is measured, so that a typing error
/// does not cost a minute.
pub(crate) fn refuse_bad_names(problem: &Problem<'_>, names: &[String]) -> Result<()> {
    for name in names {
        if let Err(error @ PlanError::Name { .. }) = named_plan(problem, &Roofline::new(), name) {
            return Err(error.into());
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
    let outcome = search(problem, pricing, Searcher::BEST, 60.0, 1e-3, 0)?;
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
