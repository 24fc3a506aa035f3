//! Several stages a group of devices.

use cutplane_plan::{OpSet, Plan, Stage};

use super::name::PlanName;
use crate::cost::CostModel;
use crate::cost::stage::OpPrices;
use crate::planner::error::PlanError;
use crate::planner::prices::Prices;

/// Cuts the plan anew into `p v` stages, of which group `i` of `p` has every `p`-th.
pub(super) fn interleave(
    plan: &mut Plan,
    prices: &Prices<'_>,
    cost: &dyn CostModel,
    parsed: &PlanName,
) -> Result<(), PlanError> {
    let pieces = parsed.stages * parsed.stages_a_rank;
    let ends = if parsed.even {
        (1..=pieces).map(|piece| (prices.blocks.len() * piece).div_ceil(pieces)).collect()
    } else {
        equal_times(&block_times(prices, cost, plan.micro_batch_size())?, pieces)
    };
    let groups: Vec<Vec<String>> = plan.stages.iter().map(|stage| stage.devices.clone()).collect();
    let firsts = std::iter::once(0).chain(ends.iter().copied());
    let stage = |(index, (first, end)): (usize, (usize, &usize))| {
        let ops = prices.blocks.ops(first, *end);
        Stage { ops: OpSet::range(ops.start, ops.end), devices: groups[index % groups.len()].clone() }
    };
    plan.stages = firsts.zip(&ends).enumerate().map(stage).collect();
    Ok(())
}

/// Forward and backward time of every block, alone on a device of the first class, ns.
fn block_times(prices: &Prices<'_>, cost: &dyn CostModel, batch: u64) -> Result<Vec<u64>, PlanError> {
    let problem = prices.problem;
    let ops = OpPrices::new(cost, problem.model, batch, problem.precision, prices.fleet.sample(0))?;
    let time = |block: usize| {
        let range = prices.blocks.ops(block, block + 1);
        let (forward, backward) = ops.interval(range.start, range.end);
        (forward + backward).alone().get()
    };
    Ok((0..prices.blocks.len()).map(time).collect())
}

/// The ends of `parts` stretches, none empty, of which the longest is as short as can be. There are at least as many times
/// as parts.
fn equal_times(times: &[u64], parts: usize) -> Vec<usize> {
    let count = times.len();
    let mut sums = vec![0];
    for time in times {
        sums.push(sums[sums.len() - 1] + time);
    }
    // The longest of the stretches that end at each place, and where the last of them begins, by number of stretches.
    let mut longest: Vec<u64> = sums.clone();
    let mut begins: Vec<Vec<usize>> = vec![vec![0; count + 1]];
    for part in 2..=parts {
        let mut next = vec![u64::MAX; count + 1];
        let mut begin = vec![0; count + 1];
        for end in part..=count {
            for first in part - 1..end {
                let worst = longest[first].max(sums[end] - sums[first]);
                if worst < next[end] {
                    (next[end], begin[end]) = (worst, first);
                }
            }
        }
        longest = next;
        begins.push(begin);
    }
    let mut ends = vec![count];
    for begin in begins.iter().skip(1).rev() {
        ends.push(begin[ends[ends.len() - 1]]);
    }
    ends.reverse();
    ends
}

#[cfg(test)]
mod tests {
    use super::equal_times;

    #[test]
    fn the_longest_stretch_is_as_short_as_can_be() {
        assert_eq!(equal_times(&[5, 1, 1, 1, 5, 1], 3), [1, 4, 6]);
        assert_eq!(equal_times(&[1, 1, 1, 1], 4), [1, 2, 3, 4]);
        assert_eq!(equal_times(&[9, 1, 1], 1), [3]);
        // No stretch is empty, even where one operator outweighs the rest.
        assert_eq!(equal_times(&[0, 0, 100, 0], 2).len(), 2);
    }
}
