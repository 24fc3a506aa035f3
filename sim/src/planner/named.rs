//! Plans by name: `single`, `dp2`, `pp2-1f1b-m8`, `dp2-pp2-1f1b-m4`.

use cutplane_plan::Plan;

use super::chain_dp::best_of;
use super::configuration::{Configuration, Placement, ScheduleKey};
use super::error::PlanError;
use super::fleet::Fleet;
use super::infeasible::infeasible;
use super::outcome::plan;
use super::prices::Prices;
use super::problem::Problem;
use super::search::{Candidate, Found, class_runs};
use super::split::even_cuts;
use crate::cost::CostModel;

/// The parts of a plan name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PlanName {
    data_degree: usize,
    stages: usize,
    schedule: Option<ScheduleKey>,
    vanilla: bool,
    micro_batches: Option<u64>,
    even: bool,
}

impl PlanName {
    /// Reads the parts, joined by `-`: `single`, `dpN`, `ppN`, a schedule (`1f1b`, `fill-drain`, `gpipe` or `vanilla`),
    /// `mN`, `even`.
    fn parse(name: &str) -> Result<Self, String> {
        let mut parsed =
            Self { data_degree: 1, stages: 1, schedule: None, vanilla: false, micro_batches: None, even: false };
        let joined = name.replace("fill-drain", "gpipe");
        let mut single = false;
        let mut seen: Vec<&str> = Vec::new();
        for part in joined.split('-') {
            let (kind, number) = part.find(|c: char| c.is_ascii_digit()).map_or((part, None), |at| {
                let (kind, digits) = part.split_at(at);
                (kind, Some(digits))
            });
            let count = || -> Result<u64, String> {
                let number = number.and_then(|digits| digits.parse::<u64>().ok()).filter(|number| *number > 0);
                number.ok_or_else(|| format!("'{part}' needs a number of at least 1, such as {kind}2"))
            };
            let slot = match part {
                "1f1b" | "gpipe" | "vanilla" => "schedule",
                "single" | "even" => part,
                _ => kind,
            };
            if seen.contains(&slot) {
                return Err(format!("'{part}' says a second time what an earlier part says"));
            }
            seen.push(slot);
            match (part, kind) {
                ("single", _) => single = true,
                ("1f1b", _) => parsed.schedule = Some(ScheduleKey::OneFOneB),
                ("gpipe", _) => parsed.schedule = Some(ScheduleKey::FillDrain),
                ("vanilla", _) => parsed.vanilla = true,
                ("even", _) => parsed.even = true,
                (_, "dp") => parsed.data_degree = usize::try_from(count()?).map_err(|error| error.to_string())?,
                (_, "pp") => parsed.stages = usize::try_from(count()?).map_err(|error| error.to_string())?,
                (_, "m") => parsed.micro_batches = Some(count()?),
                _ => return Err(format!("'{part}' is not a part of a plan name")),
            }
        }
        parsed.check(single, &seen)?;
        Ok(parsed)
    }

    fn check(&self, single: bool, seen: &[&str]) -> Result<(), String> {
        let parallel = seen.contains(&"dp") || seen.contains(&"pp");
        if single && parallel {
            return Err("'single' does not go with 'dp' or 'pp'".to_owned());
        }
        if !single && !parallel {
            return Err("says neither 'single' nor 'dp' nor 'pp'".to_owned());
        }
        let scheduled = self.schedule.is_some() || self.vanilla;
        if self.stages == 1 && scheduled {
            return Err("a schedule needs stages: add 'pp2' or leave the schedule out".to_owned());
        }
        if self.stages > 1 && !scheduled {
            return Err(format!("'pp{}' needs a schedule: 1f1b, fill-drain or vanilla", self.stages));
        }
        if self.vanilla && self.micro_batches.is_some_and(|count| count != 1) {
            return Err("'vanilla' has one micro-batch: leave the 'm' part out".to_owned());
        }
        if self.schedule.is_some() && self.micro_batches.is_none() {
            return Err("the schedule needs a number of micro-batches: add 'm8'".to_owned());
        }
        Ok(())
    }

    fn configuration(&self, placement: Placement) -> Configuration {
        // Alone, accumulation holds one micro-batch at a time.
        let default = if self.vanilla { ScheduleKey::FillDrain } else { ScheduleKey::OneFOneB };
        Configuration {
            data_degree: self.data_degree,
            stages: self.stages,
            micro_batches: self.micro_batches.unwrap_or(1),
            schedule: self.schedule.unwrap_or(default),
            placement,
        }
    }
}

/// Builds the plan that a name describes.
///
/// A name joins parts with `-`: `single`; `dpN` (data-parallel degree); `ppN` (stages) with a schedule, `1f1b`,
/// `fill-drain` (or `gpipe`), or `vanilla` (one micro-batch); `mN` (micro-batches a replica); `even` for equal numbers of
/// blocks instead of the chain DP's cuts. The plan carries the name and no search record. [`Problem::limits`] is ignored.
///
/// # Errors
/// [`PlanError::Name`] naming the part that is wrong or does not fit the problem; [`PlanError::Infeasible`]; others of
/// [`PlanError`].
pub fn named_plan(problem: &Problem<'_>, cost: &dyn CostModel, name: &str) -> Result<Plan, PlanError> {
    let refuse = |reason: String| PlanError::Name { name: name.to_owned(), problem: reason };
    let parsed = PlanName::parse(name).map_err(refuse)?;
    let prices = Prices::new(problem, cost)?;
    check_fit(problem, &prices.fleet, prices.blocks.len(), parsed.configuration(Placement::ReplicasAdjacent))
        .map_err(refuse)?;
    let single_class = prices.fleet.classes().len() == 1;
    let placements: &[Placement] = if single_class {
        &[Placement::ReplicasAdjacent, Placement::StagesAdjacent]
    } else {
        &[Placement::ReplicasAdjacent]
    };
    let mut best: Option<Found> = None;
    for placement in placements {
        let configuration = parsed.configuration(*placement);
        let found = if parsed.even { even(&prices, configuration)? } else { best_of(&prices, configuration)? };
        let faster = |known: &Found| found.as_ref().is_some_and(|new| new.estimate.total < known.estimate.total);
        if best.as_ref().is_none_or(faster) {
            best = found.or(best);
        }
    }
    let configuration = parsed.configuration(Placement::ReplicasAdjacent);
    best.map_or_else(
        || Err(infeasible(&prices, &[Candidate { configuration, bound: 0 }])?),
        |found| Ok(plan(&prices, &found, name)),
    )
}

fn check_fit(problem: &Problem<'_>, fleet: &Fleet<'_>, blocks: usize, asked: Configuration) -> Result<(), String> {
    let Configuration { data_degree, stages, micro_batches, .. } = asked;
    let batch = problem.global_batch;
    let parts = (data_degree as u64).saturating_mul(micro_batches);
    if batch == 0 || !batch.is_multiple_of(parts) {
        return Err(format!(
            "the global batch of {batch} cannot be cut into {data_degree} replicas x {micro_batches} micro-batches: \
             choose a multiple of {parts}"
        ));
    }
    let capacity: usize = fleet.capacities(data_degree).iter().sum();
    if stages > capacity {
        let wanted = data_degree.saturating_mul(stages);
        return Err(format!(
            "asks for {wanted} devices ({stages} stages of {data_degree} equal ones), the cluster has {}",
            fleet.device_count()
        ));
    }
    if stages > blocks {
        return Err(format!("'pp{stages}' asks for more stages than the model has operators ({blocks})"));
    }
    Ok(())
}

/// The equal split of a configuration, in the first order of classes in which it fits.
fn even(prices: &Prices<'_>, configuration: Configuration) -> Result<Option<Found>, PlanError> {
    let costs = prices.step_costs(configuration)?;
    let fits = |sequence: Vec<usize>| {
        let cuts = even_cuts(&costs, &sequence);
        let estimate = costs.estimate(&cuts)?;
        Some(Found { configuration, cuts, estimate })
    };
    Ok(class_runs(&costs).into_iter().find_map(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for name in ["single", "single-m4", "dp2", "dp2-m4", "pp2-vanilla", "pp2-1f1b-m8", "pp2-fill-drain-m4"] {
            let parsed = PlanName::parse(name).expect("reads");
            assert_eq!(parsed.configuration(Placement::ReplicasAdjacent).name(), name);
        }
        let gpipe = PlanName::parse("dp2-pp3-gpipe-m4-even").expect("reads");
        assert_eq!((gpipe.data_degree, gpipe.stages, gpipe.even), (2, 3, true));
        assert_eq!(gpipe.configuration(Placement::ReplicasAdjacent).name(), "dp2-pp3-fill-drain-m4");
    }

    #[test]
    fn wrong_parts_are_named() {
        let problem = |name: &str| PlanName::parse(name).expect_err("wrong");
        assert_eq!(problem("tp2"), "'tp2' is not a part of a plan name");
        assert_eq!(problem("dp"), "'dp' needs a number of at least 1, such as dp2");
        assert_eq!(problem("pp0-vanilla"), "'pp0' needs a number of at least 1, such as pp2");
        assert_eq!(problem("dp2-dp4"), "'dp4' says a second time what an earlier part says");
        assert_eq!(problem("m4"), "says neither 'single' nor 'dp' nor 'pp'");
        assert_eq!(problem("single-dp2"), "'single' does not go with 'dp' or 'pp'");
        assert_eq!(problem("pp2-m4"), "'pp2' needs a schedule: 1f1b, fill-drain or vanilla");
        assert_eq!(problem("pp2-1f1b"), "the schedule needs a number of micro-batches: add 'm8'");
        assert_eq!(problem("pp2-vanilla-m2"), "'vanilla' has one micro-batch: leave the 'm' part out");
        assert_eq!(problem("dp2-1f1b-m2"), "a schedule needs stages: add 'pp2' or leave the schedule out");
        assert_eq!(problem(""), "'' is not a part of a plan name");
    }
}
