//! Lower bounds of a pipeline over classes, from what its operators compute.

use super::super::times::Times;

/// No pipeline has a shorter way through its stages, or a shorter period, s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Floor {
    pub(super) traverse: f64,
    pub(super) period: f64,
}

/// The floor of pipelines over `classes`: times of a micro-batch on each, and how many stages it has room for.
///
/// Every stretch of the model takes its time on the fastest class at least. For any weights `w_q` of the pieces of a model, a
/// stage on class `c` with period `B` holds pieces worth at most `B max_q w_q / t_c(q)`, so `B` is at least the sum of all
/// weights over the sum of that over the stages; the weights are the times on each class in turn. With equal layers, stages
/// hold whole numbers of them.
pub(super) fn floor(classes: &[(&Times, u64)]) -> Floor {
    let pieces: Vec<Vec<(u64, f64)>> = classes.iter().map(|(times, _)| pieces(times)).collect();
    let least = |piece: usize| pieces.iter().map(|class| class[piece].1).fold(f64::INFINITY, f64::min);
    let counts = pieces.first().map_or(0, Vec::len);
    let traverse = (0..counts).map(|piece| pieces[0][piece].0 as f64 * least(piece)).sum();
    let longest = (0..counts).map(least).fold(0.0, f64::max);
    let room: Vec<u64> = classes.iter().map(|(_, room)| *room).collect();
    let fluid = pieces.iter().map(|weights| fluid(weights, &pieces, &room)).fold(longest, f64::max);
    Floor { traverse, period: fluid.max(whole_layers(classes).unwrap_or(0.0)) }
}

/// The pieces of a model: how many, each of them.
fn pieces(times: &Times) -> Vec<(u64, f64)> {
    let runs = times.runs.iter().map(|(count, span)| (*count, span.both()));
    [(1, times.front.both()), (1, times.back.both())].into_iter().chain(runs).collect()
}

fn fluid(weights: &[(u64, f64)], pieces: &[Vec<(u64, f64)>], room: &[u64]) -> f64 {
    let total: f64 = weights.iter().map(|(count, weight)| *count as f64 * weight).sum();
    let pace = |class: &Vec<(u64, f64)>| {
        let ratios = weights.iter().zip(class).filter(|(weight, _)| weight.1 > 0.0);
        ratios.map(|(weight, time)| weight.1 / time.1).fold(0.0, f64::max)
    };
    let all: f64 = pieces.iter().zip(room).map(|(class, room)| *room as f64 * pace(class)).sum();
    if all.is_finite() && all > 0.0 { total / all } else { 0.0 }
}

/// The least period at which stages have room for all layers, when layers are alike.
fn whole_layers(classes: &[(&Times, u64)]) -> Option<f64> {
    let each = classes.iter().map(|(times, room)| match times.runs.as_slice() {
        [(layers, span)] if span.both() > 0.0 => Some((*layers, span.both(), *room)),
        _ => None,
    });
    let each: Vec<(u64, f64, u64)> = each.collect::<Option<_>>()?;
    let layers = each.first()?.0 as f64;
    let room = |period: f64| -> f64 {
        each.iter().map(|(_, layer, room)| *room as f64 * (period / layer * (1.0 + 1e-12)).floor()).sum()
    };
    let (mut low, mut high) = (0.0, layers * each.iter().map(|class| class.1).fold(0.0, f64::max));
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if room(middle) >= layers { high = middle } else { low = middle }
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::super::super::times::Span;
    use super::*;

    fn times(layers: u64, each: f64) -> Times {
        let span = |both: f64| Span { forward: both / 3.0, backward: both * 2.0 / 3.0, weight: both / 3.0 };
        let total = layers as f64 * each;
        Times { front: span(0.0), back: span(0.0), runs: vec![(layers, span(each))], total, shorter: 1.0 / 3.0 }
    }

    #[test]
    fn a_device_of_half_the_speed_carries_a_third() {
        let (fast, slow) = (times(12, 1.0), times(12, 2.0));
        let floor = floor(&[(&fast, 1), (&slow, 1)]);
        assert!((floor.period - 8.0).abs() < 1e-6 && (floor.traverse - 12.0).abs() < 1e-9, "{floor:?}");
    }

    #[test]
    fn whole_layers_bound_more_than_their_mean() {
        let (fast, slow) = (times(5, 1.0), times(5, 2.0));
        // Of 5 layers, 3 and 1 or 4 and 1 are not enough for a period below 4.
        assert!((floor(&[(&fast, 1), (&slow, 1)]).period - 4.0).abs() < 1e-6);
    }
}
