//! Rings over direct links, as NCCL searches them: Hamiltonian cycles that use every link once at most.

use super::Topology;

/// Steps after which a ring search keeps the best found.
const MOST_STEPS: usize = 400_000;

/// Rings through all devices of a topology.
#[derive(Clone, Debug, PartialEq)]
pub struct RingSearch {
    /// Each ring as an order of the devices; a ring runs in both directions, on the two directions of its links.
    pub rings: Vec<Vec<usize>>,
    /// Bandwidth of one link in one direction, bytes/s: of each ring in each direction.
    pub link: f64,
    /// Whether the search proved that no more rings fit.
    pub proved: bool,
}

impl RingSearch {
    /// Bus bandwidth of all rings together, bytes/s; zero when there is no ring.
    ///
    /// A ring of two devices uses one link in both directions, so it has no second direction to run in.
    pub fn bus_bandwidth(&self) -> f64 {
        let directions = if self.rings.first().is_some_and(|ring| ring.len() == 2) { 1.0 } else { 2.0 };
        self.rings.len() as f64 * directions * self.link
    }
}

/// Searches the most rings that share no link; `link` is the bandwidth of one link in one direction, bytes/s, which tells
/// how many links join two devices.
pub fn find_rings(topology: &Topology, link: f64) -> RingSearch {
    let devices = topology.len();
    let count = |from: usize, to: usize| (topology.capacity(from, to) / link + 1e-6) as usize;
    let links: Vec<Vec<usize>> = (0..devices).map(|from| (0..devices).map(|to| count(from, to)).collect()).collect();
    if devices == 2 {
        return RingSearch { rings: vec![vec![0, 1]; links[0][1]], link, proved: true };
    }
    let ceiling = links.iter().map(|row| row.iter().sum::<usize>() / 2).min().unwrap_or(0);
    let mut search = Search { links, best: Vec::new(), current: Vec::new(), ceiling, steps: 0 };
    search.extend(&mut vec![0]);
    let proved = search.steps < MOST_STEPS || search.best.len() == ceiling;
    RingSearch { rings: search.best, link, proved }
}

struct Search {
    links: Vec<Vec<usize>>,
    best: Vec<Vec<usize>>,
    current: Vec<Vec<usize>>,
    /// No device has links for more rings.
    ceiling: usize,
    steps: usize,
}

impl Search {
    fn done(&self) -> bool {
        self.best.len() == self.ceiling || self.steps >= MOST_STEPS
    }

    /// Extends the ring under way in every manner.
    fn extend(&mut self, ring: &mut Vec<usize>) {
        self.steps += 1;
        let Some(last) = ring.last().copied() else { return };
        if ring.len() == self.links.len() {
            if self.links[last][0] > 0 {
                self.close(ring.clone());
            }
            return;
        }
        let mut next: Vec<usize> = (1..self.links.len()).filter(|to| self.links[last][*to] > 0).collect();
        // Wide pairs first: their links are the ones that must be used several times.
        next.sort_by_key(|to| std::cmp::Reverse(self.links[last][*to]));
        for to in next {
            if self.done() {
                return;
            }
            if !ring.contains(&to) {
                self.use_link(last, to);
                ring.push(to);
                self.extend(ring);
                ring.pop();
                self.free_link(last, to);
            }
        }
    }

    /// Keeps a whole ring and looks for the next.
    fn close(&mut self, ring: Vec<usize>) {
        let last = ring[ring.len() - 1];
        self.use_link(last, 0);
        self.current.push(ring);
        if self.current.len() > self.best.len() {
            self.best = self.current.clone();
        }
        if !self.done() {
            self.extend(&mut vec![0]);
        }
        self.current.pop();
        self.free_link(last, 0);
    }

    fn use_link(&mut self, from: usize, to: usize) {
        self.links[from][to] -= 1;
        self.links[to][from] -= 1;
    }

    fn free_link(&mut self, from: usize, to: usize) {
        self.links[from][to] += 1;
        self.links[to][from] += 1;
    }
}
