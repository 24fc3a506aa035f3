//! The ladder of searchers for throughput.

use cutplane_graph::placement::PlacementProblem;

use super::annealing::{Schedule, anneal};
use super::bottleneck::bottleneck_bound;
use super::error::PlaceError;
use super::feasible::too_tight;
use super::groups::Groups;
use super::ideal_dp::{Searched, search};
use super::lattice::Lattice;
use super::orders::{Random, ready_order, segment_order};
use super::race::race;
use super::relax::{balance_bound, upper_load};
use super::watch::Watch;
use super::{Answer, PlaceOptions};

/// Most ideals that are listed.
const MOST_IDEALS: usize = 400_000;

/// Random orders that are tried before all ideals are.
const RANDOM_ORDERS: usize = 4;

/// Searches below this fraction of the incumbent: smaller gains are rounding.
const BETTER: f64 = 1.0 - 1e-9;

/// Most moves of one descent, and moves for each place that a group may have.
const MOVES: usize = 1_500_000;
const MOVES_A_PLACE: usize = 3000;

/// Rounds of descents without a better split after which annealing ends.
const PATIENCE: usize = 6;

/// Orders without a better split after which a contiguous search without proof ends.
const IDLE_ORDERS: usize = 200;

/// First temperatures of the rounds, in turn.
const HOT: [f64; 3] = [0.002, 0.01, 0.05];

/// A split of the groups.
#[derive(Clone, Debug)]
pub(super) struct Split {
    pub(super) device: Vec<usize>,
    pub(super) load: f64,
    pub(super) searcher: &'static str,
}

/// The best contiguous split.
pub(super) fn contiguous(
    problem: &PlacementProblem,
    options: &PlaceOptions<'_>,
    watch: &Watch<'_>,
) -> Result<Answer, PlaceError> {
    let groups = Groups::of_order(problem);
    let (best, proven) = contiguous_split(&groups, options.seed, watch);
    let best = match best {
        Some(best) if !proven => along_random_orders(&groups, best, options, watch),
        Some(best) => best,
        None if proven => {
            let enough = |wider: &Groups| along_orders(wider, &mut Random::new(options.seed), watch).is_some();
            return Err(too_tight(&groups, "contiguous", enough));
        }
        None => return Err(watch.nothing("give it one CPU core (maxCPUs 1)")),
    };
    let floor = || balance_bound(&groups).max(bottleneck_bound(&groups, &watch.patient()));
    let bound = if proven { best.load } else { floor() };
    Ok(Answer {
        assignment: groups.spread(&best.device),
        bound,
        searcher: best.searcher,
        exhausted: !watch.must_stop(),
    })
}

/// The best contiguous split of the groups, and whether that is proven; none and proven: there is none.
pub(super) fn contiguous_split(groups: &Groups, seed: u64, watch: &Watch<'_>) -> (Option<Split>, bool) {
    let best = along_orders(groups, &mut Random::new(seed), watch);
    let target = best.as_ref().map_or_else(|| upper_load(groups), |best| best.load * BETTER);
    let Some(lattice) = Lattice::full(groups, MOST_IDEALS, watch) else { return (best, false) };
    match search(groups, &lattice, target, watch) {
        Searched::Found(device, load) => (Some(Split { device, load, searcher: "ideal-dp" }), true),
        Searched::NothingBelow => (best, true),
        Searched::GaveUp => (best, false),
    }
}

/// The best split along a few orders.
fn along_orders(groups: &Groups, random: &mut Random, watch: &Watch<'_>) -> Option<Split> {
    let mut best: Option<Split> = None;
    for turn in 0..RANDOM_ORDERS + 2 {
        if best.is_some() && watch.must_stop() {
            break;
        }
        let order = match turn {
            0 => ready_order(groups, true, |_| 0.0),
            1 => ready_order(groups, false, |_| 0.0),
            _ => {
                let keys: Vec<f64> = (0..groups.count()).map(|_| random.unit()).collect();
                ready_order(groups, false, |group| keys[group])
            }
        };
        // The first split is worth more than the limit of time.
        let watch = if best.is_none() { watch.patient() } else { *watch };
        best = along(groups, &order, best, &watch);
    }
    best
}

/// The best split along an order, if it is better than the known one.
fn along(groups: &Groups, order: &[usize], best: Option<Split>, watch: &Watch<'_>) -> Option<Split> {
    let target = best.as_ref().map_or_else(|| upper_load(groups), |best| best.load * BETTER);
    match search(groups, &Lattice::chain(groups, order), target, watch) {
        Searched::Found(device, load) => Some(Split { device, load, searcher: "chain-dp" }),
        _ => best,
    }
}

/// Where there are too many ideals: orders that keep the parts of the best split together, shuffled inside each part. The
/// best split along such an order is never worse.
fn along_random_orders(groups: &Groups, first: Split, options: &PlaceOptions<'_>, watch: &Watch<'_>) -> Split {
    let mut random = Random::new(options.seed ^ 1);
    let floor = balance_bound(groups) / (1.0 - options.relative_gap).max(f64::MIN_POSITIVE);
    let (mut best, mut idle) = (first, 0);
    while idle < IDLE_ORDERS && !watch.must_stop() && best.load > floor {
        let order = segment_order(groups, &best.device, &mut random);
        idle += 1;
        if let Some(better) = along(groups, &order, Some(best.clone()), watch).filter(|better| better.load < best.load)
        {
            (best, idle) = (better, 0);
        }
    }
    best
}

/// The best split, contiguous or not.
pub(super) fn free(
    problem: &PlacementProblem,
    options: &PlaceOptions<'_>,
    watch: &Watch<'_>,
) -> Result<Answer, PlaceError> {
    let (ordered, groups) = (Groups::of_order(problem), Groups::of_classes(problem));
    let (first, _) = contiguous_split(&ordered, options.seed, &watch.part(0.2));
    let first = first.map(|split| Split { device: by_class(&groups, &ordered, &split.device), ..split });
    let floor = balance_bound(&groups).max(bottleneck_bound(&groups, &watch.part(0.1)));
    let near_enough = floor / (1.0 - options.relative_gap).max(f64::MIN_POSITIVE);
    let first = first.map(|split| improve(&groups, split, options.seed, near_enough, &watch.part(0.4)));
    let (best, bound) = match first {
        Some(split) if split.load <= near_enough => (Some(split), floor),
        first => race(&groups, first, floor, options, watch)?,
    };
    match best {
        Some(best) => {
            let assignment = groups.spread(&best.device);
            Ok(Answer {
                assignment,
                bound,
                searcher: best.searcher,
                exhausted: cfg!(not(feature = "ilp")) && !watch.must_stop(),
            })
        }
        None if bound.is_infinite() => {
            let wider = |wider: &Groups| along_orders(wider, &mut Random::new(options.seed), watch).is_some();
            Err(too_tight(&groups, "", wider))
        }
        None => Err(watch.nothing("give it one CPU core (maxCPUs 1)")),
    }
}

/// Anneals on two threads until rounds bring nothing more.
fn improve(groups: &Groups, first: Split, seed: u64, near_enough: f64, watch: &Watch<'_>) -> Split {
    let mut best = first;
    let (mut round, mut idle) = (0, 0);
    let moves = (MOVES_A_PLACE * groups.count() * groups.devices.count()).min(MOVES);
    while idle < PATIENCE && best.load > near_enough && !watch.must_stop() {
        let schedule = Schedule { moves, hot: HOT[round % HOT.len()], cold: 1e-5 };
        let start = &best.device;
        let walk = |walker: u64| {
            let mut random = Random::new(seed.wrapping_mul(1_000_003) ^ (2 * round as u64 + walker));
            anneal(groups, start, schedule, &mut random, watch)
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| walk(1));
            (walk(0), other.join())
        });
        (round, idle) = (round + 1, idle + 1);
        for (device, load) in other.into_iter().chain([one]) {
            if load < best.load * BETTER {
                best = Split { device, load, searcher: "annealing" };
                idle = 0;
            }
        }
    }
    best
}

/// A split of ordered groups as a split of classes.
pub(super) fn by_class(classes: &Groups, ordered: &Groups, device: &[usize]) -> Vec<usize> {
    let mut of_class = vec![0; classes.count()];
    for (class, group) in classes.of_node.iter().zip(&ordered.of_node) {
        of_class[*class] = device[*group];
    }
    of_class
}
