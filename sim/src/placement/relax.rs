//! Lower bounds from relaxations that need no solver.

use super::groups::Groups;

/// Most accelerator time that CPU cores can take over with `budget` of CPU time: the fractional knapsack.
pub(super) fn host_relief(groups: &Groups, budget: f64) -> f64 {
    if budget <= 0.0 && groups.devices.cpus == 0 {
        return 0.0;
    }
    let (gain, price) = (&groups.accelerator_time, &groups.cpu_time);
    let mut candidates: Vec<(f64, usize)> = (0..groups.count())
        .filter(|group| groups.on_accelerator[*group] && gain[*group] > 0.0)
        .map(|group| (gain[group] / price[group], group))
        .collect();
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut left, mut relief) = (budget, 0.0);
    for (_, group) in candidates {
        if price[group] > left {
            return relief + gain[group] * left / price[group];
        }
        relief += gain[group];
        left -= price[group];
    }
    relief
}

/// No split has a smaller largest load: transfers left out, groups divisible over devices, but no group faster than its own
/// faster device.
pub(super) fn balance_bound(groups: &Groups) -> f64 {
    let fastest = |group: usize| {
        let accelerator = groups.on_accelerator[group] && groups.devices.accelerators > 0;
        let cpu = if groups.devices.cpus > 0 { groups.cpu_time[group] } else { f64::INFINITY };
        if accelerator { groups.accelerator_time[group].min(cpu) } else { cpu }
    };
    let largest = (0..groups.count()).map(fastest).fold(0.0, f64::max);
    let (mut low, mut high) = (largest, largest.max(upper_load(groups)));
    if !low.is_finite() || is_possible(groups, low) {
        return low;
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        *(if is_possible(groups, middle) { &mut high } else { &mut low }) = middle;
    }
    low
}

/// Whether the balance of time allows a largest load of `target`.
fn is_possible(groups: &Groups, target: f64) -> bool {
    let devices = &groups.devices;
    let sum = |on: bool, times: &[f64]| -> f64 {
        (0..groups.count()).filter(|group| groups.on_accelerator[*group] == on).map(|group| times[group]).sum()
    };
    let capacity = devices.cpus as f64 * target - sum(false, &groups.cpu_time);
    let relief = if devices.cpus == 0 { 0.0 } else { host_relief(groups, capacity.max(0.0)) };
    let on_cpu_fits = capacity >= -1e-12 * target || sum(false, &groups.cpu_time) == 0.0;
    let left = sum(true, &groups.accelerator_time) - relief;
    on_cpu_fits && left <= devices.accelerators as f64 * target * (1.0 + 1e-12)
}

/// More than any split's largest load, and more than 0.
pub(super) fn upper_load(groups: &Groups) -> f64 {
    let time: f64 = groups.accelerator_time.iter().chain(&groups.cpu_time).sum();
    let transfers: f64 = groups.nets.iter().map(|net| net.cost).sum();
    2.0 * (time + transfers) + 1.0
}
