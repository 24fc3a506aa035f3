//! Which rows of the experts a rank sends and receives, which every rank finds alone from the gates of all tokens.
//!
//! Where experts are dealt to the ranks of an axis, each rank has an equal run of them and an equal run of the tokens of every
//! sample. A buffer has [`Routing::slots`] rows for each pair of ranks and sample: `[samples, ranks, slots]`, by receiver where
//! the tokens are, by sender where the experts are. The rows of one pair stand in the order of the tokens.

use std::ops::Range;

use cutplane_graph::Routing;

use super::route::Route;

/// The rows that a rank's tokens fill.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Copies of the rank's tokens, one for each choice, numbered among those of all tokens.
    pub(super) copies: Vec<usize>,
    /// The row of each of them; `None` when its expert was full.
    pub(super) places: Vec<Option<usize>>,
    /// Rows in all.
    pub(super) rows: usize,
}

/// The rows that a rank's experts compute.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// The rows, ordered by expert. Others are zero.
    pub(super) order: Vec<usize>,
    /// Number of rows of each expert of the rank.
    pub(super) counts: Vec<usize>,
}

/// A route, and who has which of its experts and tokens.
#[derive(Debug)]
pub(super) struct Deal {
    pub(super) route: Route,
    /// Ranks that the experts are dealt to; `None` when they are not.
    ranks: Option<usize>,
    /// The place of this rank among them.
    place: usize,
    own_experts: usize,
    slots: usize,
}

impl Deal {
    /// Of the rank that has the experts from `first` on.
    pub(super) fn new(routing: &Routing, route: Route, first: usize) -> Self {
        let tokens = route.chosen.len() / (route.samples * route.top_k).max(1);
        let (own_experts, slots) = (routing.own_experts() as usize, routing.slots(tokens as u64) as usize);
        let ranks = routing.dealt.map(|ranks| ranks as usize);
        Self { route, ranks, place: first / own_experts.max(1), own_experts, slots }
    }

    /// What this rank sends.
    pub(super) fn sent(&self) -> Sent {
        let Some(ranks) = self.ranks else {
            let Route { chosen, places, .. } = &self.route;
            return Sent { copies: (0..chosen.len()).collect(), places: places.clone(), rows: self.route.all_rows() };
        };
        let rows = self.route.samples * ranks * self.slots;
        let mut sent = Sent { copies: Vec::new(), places: Vec::new(), rows };
        for sample in 0..self.route.samples {
            let mut used = vec![0; ranks];
            for copy in self.copies(ranks, sample, self.place) {
                sent.copies.push(copy);
                sent.places.push(self.receiver(copy).map(|to| {
                    used[to] += 1;
                    (sample * ranks + to) * self.slots + used[to] - 1
                }));
            }
        }
        sent
    }

    /// What this rank receives. One to which nobody sends computes a row of zeros.
    pub(super) fn received(&self) -> Received {
        let Some(ranks) = self.ranks else {
            let (order, counts) = self.route.by_expert();
            return Received { order, counts };
        };
        let mut rows_of = vec![Vec::new(); self.own_experts];
        for (sample, from) in (0..self.route.samples).flat_map(|sample| (0..ranks).map(move |from| (sample, from))) {
            let mine = self.copies(ranks, sample, from).filter(|copy| self.receiver(*copy) == Some(self.place));
            for (slot, copy) in mine.enumerate() {
                let expert = self.route.chosen[copy] - self.place * self.own_experts;
                rows_of[expert].push((sample * ranks + from) * self.slots + slot);
            }
        }
        if rows_of.iter().all(Vec::is_empty) {
            rows_of[0].push(0);
        }
        Received { counts: rows_of.iter().map(Vec::len).collect(), order: rows_of.concat() }
    }

    /// The copies of the tokens of a sample that a rank has.
    fn copies(&self, ranks: usize, sample: usize, rank: usize) -> Range<usize> {
        let own = self.route.chosen.len() / (self.route.samples * ranks).max(1);
        let first = (sample * ranks + rank) * own;
        first..first + own
    }

    /// The rank whose expert takes a copy.
    fn receiver(&self, copy: usize) -> Option<usize> {
        self.route.places[copy].map(|_| self.route.chosen[copy] / self.own_experts)
    }
}

#[cfg(test)]
mod tests {
    use cutplane_graph::Routing;

    use super::{Deal, Received, Sent};
    use crate::ops::route::Route;

    /// Two samples of two tokens, one of four experts each: 3 and 0, 1 and 1.
    const CHOSEN: [usize; 4] = [3, 0, 1, 1];

    fn deal(place: usize, capacity: Option<u64>) -> Deal {
        let routing = Routing { experts: 4, top_k: 1, capacity, dealt: Some(2) };
        let mut gates = vec![0.0; 16];
        CHOSEN.iter().enumerate().for_each(|(token, expert)| gates[token * 4 + expert] = 1.0);
        Deal::new(&routing, Route::new(&routing, &gates, 2), 2 * place)
    }

    #[test]
    fn a_row_lies_where_its_receiver_looks_for_it() {
        // One slot for each sample and pair of ranks; each rank has one token of each sample.
        assert_eq!(deal(0, None).sent(), Sent { copies: vec![0, 2], places: vec![Some(1), Some(2)], rows: 4 });
        assert_eq!(deal(1, None).sent(), Sent { copies: vec![1, 3], places: vec![Some(0), Some(2)], rows: 4 });
        // The first rank's expert 0 has a row of the second rank, its expert 1 one of each.
        assert_eq!(deal(0, None).received(), Received { order: vec![1, 2, 3], counts: vec![1, 2] });
        assert_eq!(deal(1, None).received(), Received { order: vec![0], counts: vec![0, 1] });
    }

    #[test]
    fn a_copy_whose_expert_is_full_is_not_sent() {
        assert_eq!(deal(1, Some(1)).sent().places, [Some(0), None]);
        assert_eq!(deal(0, Some(1)).received(), Received { order: vec![1, 2], counts: vec![1, 1] });
    }
}
