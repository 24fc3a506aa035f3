//! Orders of groups that keep everything behind what comes before it.

use super::groups::Groups;

/// A small seeded generator (SplitMix64, Steele et al., OOPSLA 2014): equal seeds give equal searches on every machine.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `count`, which must not be 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// From 0 up to 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The order in which `key` of a group, then time of readiness decide; `newest` first or oldest first.
pub(super) fn ready_order(groups: &Groups, newest: bool, key: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut waits = vec![0_usize; groups.count()];
    groups.later.iter().flatten().for_each(|group| waits[*group] += 1);
    let mut ready: Vec<usize> = (0..groups.count()).filter(|group| waits[*group] == 0).collect();
    let mut order = Vec::with_capacity(groups.count());
    while !ready.is_empty() {
        let keys = ready.iter().map(|group| key(*group));
        let mut best = (0, f64::INFINITY);
        for (position, key) in keys.enumerate() {
            if key < best.1 || (newest && key <= best.1) {
                best = (position, key);
            }
        }
        let group = ready.remove(best.0);
        order.push(group);
        for &next in &groups.later[group] {
            waits[next] -= 1;
            if waits[next] == 0 {
                ready.push(next);
            }
        }
    }
    order
}

/// A random order that keeps the groups of each device together, devices as they follow each other in a contiguous split.
pub(super) fn segment_order(groups: &Groups, device: &[usize], random: &mut Random) -> Vec<usize> {
    // Groups are numbered along an order; a device is ready when nothing outside comes before any of its groups.
    let devices = groups.devices.count();
    let mut waits = vec![0_usize; devices];
    let crossing = |group: usize| groups.later[group].iter().filter(move |next| device[**next] != device[group]);
    for group in 0..groups.count() {
        crossing(group).for_each(|next| waits[device[*next]] += 1);
    }
    let mut rank = vec![0.0; devices];
    let mut ready: Vec<usize> = (0..devices).filter(|device| waits[*device] == 0).collect();
    let mut members = vec![Vec::new(); devices];
    device.iter().enumerate().for_each(|(group, device)| members[*device].push(group));
    let mut at = 0.0;
    while !ready.is_empty() {
        let next = ready.swap_remove(random.below(ready.len()));
        at += 1.0;
        rank[next] = at;
        for other in members[next].iter().flat_map(|group| crossing(*group)).map(|group| device[*group]) {
            waits[other] -= 1;
            if waits[other] == 0 {
                ready.push(other);
            }
        }
    }
    let keys: Vec<f64> = device.iter().map(|device| rank[*device] + random.unit()).collect();
    ready_order(groups, false, |group| keys[group])
}
