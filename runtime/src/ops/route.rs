//! Which expert sees which token, decided on the host from the gates.

use burn::tensor::Tensor;
use cutplane_graph::Routing;

/// Splits a matrix into stretches of rows. It halves again and again, so that the backward pass, which fills a matrix with
/// zeros for each part, costs the matrix times the logarithm of the number of stretches.
pub(super) fn split_rows(rows: Tensor<2>, counts: &[usize]) -> Vec<Tensor<2>> {
    if counts.len() < 2 {
        return counts.iter().map(|_| rows.clone()).collect();
    }
    let (left, right) = counts.split_at(counts.len() / 2);
    let (first, others) = (left.iter().sum(), right.iter().sum());
    let mut parts = split_rows(rows.clone().narrow(0, 0, first), left);
    parts.extend(split_rows(rows.narrow(0, first, others), right));
    parts
}

/// The experts of every token of a micro-batch, and the places of the tokens among the experts' rows.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) top_k: usize,
    experts: usize,
    /// Rows of a sample.
    rows: usize,
    pub(super) samples: usize,
    /// For each token and choice its expert; choices of a token stand together.
    pub(super) chosen: Vec<usize>,
    /// For each token and choice its row, counted over all samples; `None` when the expert was full.
    pub(super) places: Vec<Option<usize>>,
    /// For each sample and expert its first row and the number of its rows.
    spans: Vec<(usize, usize)>,
}

impl Route {
    /// The route that gates `[samples, tokens, experts]` tell: each token to the experts of its largest gates, of equal ones
    /// to the first.
    pub(super) fn new(routing: &Routing, gates: &[f32], samples: usize) -> Self {
        let (experts, top_k) = (routing.experts as usize, routing.top_k as usize);
        let tokens = gates.len() / (samples * experts).max(1);
        let chosen: Vec<usize> = gates.chunks_exact(experts).flat_map(|gates| largest(gates, top_k)).collect();
        let rows = routing.rows(tokens as u64) as usize;
        let (mut places, mut spans) = (Vec::with_capacity(chosen.len()), Vec::with_capacity(samples * experts));
        for (sample, chosen) in chosen.chunks_exact((tokens * top_k).max(1)).enumerate() {
            let own = spans_of(chosen, experts, routing.capacity.map(|capacity| capacity as usize), sample * rows);
            let mut used = vec![0; experts];
            places.extend(chosen.iter().map(|expert| {
                let (first, count) = own[*expert];
                let place = used[*expert];
                used[*expert] += 1;
                (place < count).then_some(first + place)
            }));
            spans.extend(own);
        }
        Self { top_k, experts, rows, samples, chosen, places, spans }
    }

    /// Rows of all samples.
    pub(super) fn all_rows(&self) -> usize {
        self.rows * self.samples
    }

    /// The rows of all samples ordered by expert, and the number of rows of each expert.
    pub(super) fn by_expert(&self) -> (Vec<usize>, Vec<usize>) {
        let mut order = Vec::with_capacity(self.all_rows());
        let mut counts = vec![0; self.experts];
        for (expert, total) in counts.iter_mut().enumerate() {
            for (first, count) in self.spans.iter().skip(expert).step_by(self.experts) {
                order.extend(*first..first + count);
                *total += count;
            }
        }
        (order, counts)
    }
}

/// First row and number of rows of each expert for one sample.
fn spans_of(chosen: &[usize], experts: usize, capacity: Option<usize>, mut first: usize) -> Vec<(usize, usize)> {
    let mut counts = vec![capacity.unwrap_or(0); experts];
    if capacity.is_none() {
        for expert in chosen {
            counts[*expert] += 1;
        }
    }
    let span = |count: usize| {
        let span = (first, count);
        first += count;
        span
    };
    counts.into_iter().map(span).collect()
}

/// The places of the `count` largest numbers, the largest first, of equal ones the earlier first.
pub(super) fn largest(numbers: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*b].total_cmp(&numbers[*a]).then(a.cmp(b)));
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use cutplane_graph::Routing;

    use super::{Route, largest};

    #[test]
    fn equal_gates_go_to_the_first_expert() {
        assert_eq!(largest(&[0.0, 0.5, 0.5, 0.1], 2), [1, 2]);
        assert_eq!(largest(&[0.0; 4], 2), [0, 1]);
    }

    #[test]
    fn rows_are_sorted_by_expert_within_each_sample() {
        let routing = Routing { experts: 2, top_k: 1, capacity: None, dealt: None };
        let route = Route::new(&routing, &[0.1, 0.9, 0.9, 0.1, 0.2, 0.8, 0.6, 0.4], 2);
        assert_eq!(route.chosen, [1, 0, 1, 0]);
        assert_eq!(route.places, [Some(1), Some(0), Some(3), Some(2)]);
        assert_eq!(route.by_expert(), (vec![0, 2, 1, 3], vec![2, 2]));
    }

    #[test]
    fn a_full_expert_drops_the_later_tokens() {
        let routing = Routing { experts: 2, top_k: 1, capacity: Some(1), dealt: None };
        let route = Route::new(&routing, &[0.9, 0.1, 0.8, 0.2, 0.7, 0.3], 1);
        assert_eq!(route.places, [Some(0), None, None]);
        assert_eq!((route.all_rows(), route.by_expert()), (2, (vec![0, 1], vec![1, 1])));
    }
}
