//! Several jobs on one device: time slices, packing, tick-tock.

/// Share of a device's time that jobs get when they alternate in slices of `slice` seconds and each change copies `bytes`
/// bytes over a bus of `bus` bytes/s (Gandiva; Xiao et al. 2018).
pub fn useful_share(slice: f64, bytes: f64, bus: f64) -> f64 {
    slice / (slice + bytes / bus)
}

/// What a job asks of a device while it has it alone, as shares of each resource.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Of the multiprocessors.
    pub compute: f64,
    /// Of the memory bandwidth.
    pub bandwidth: f64,
    /// Of the memory.
    pub memory: f64,
}

/// How much longer jobs take side by side: `max(1, sum of shares)` over the resources; `None` when they do not fit.
pub fn packing_slowdown(jobs: &[Demand]) -> Option<f64> {
    let sum = |share: fn(&Demand) -> f64| jobs.iter().map(share).sum::<f64>();
    (sum(|job| job.memory) <= 1.0).then(|| sum(|job| job.compute).max(sum(|job| job.bandwidth)).max(1.0))
}

/// Whether two jobs that both slow down by `slowdown` end sooner side by side than one after the other: below 2.
pub fn packing_pays(slowdown: f64) -> bool {
    slowdown < 2.0
}

/// Pairs of jobs, each on one device, with the least sum of slowdowns, by trying all pairings (for up to a dozen jobs); an
/// odd one stays alone. Jobs that do not fit together are not paired.
pub fn best_pairs(jobs: &[Demand]) -> (f64, Vec<(usize, Option<usize>)>) {
    let everyone: Vec<usize> = (0..jobs.len()).collect();
    pairs_of(jobs, &everyone)
}

fn pairs_of(jobs: &[Demand], left: &[usize]) -> (f64, Vec<(usize, Option<usize>)>) {
    let Some((&first, rest)) = left.split_first() else { return (0.0, Vec::new()) };
    let alone = |(sum, mut pairs): (f64, Vec<_>)| {
        pairs.push((first, None));
        // A device of its own costs as much as waiting for another job to end.
        (sum + 2.0, pairs)
    };
    let mut best = alone(pairs_of(jobs, rest));
    for (at, &other) in rest.iter().enumerate() {
        let Some(slowdown) = packing_slowdown(&[jobs[first], jobs[other]]) else { continue };
        let remaining: Vec<usize> =
            rest.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, job)| *job).collect();
        let (sum, mut pairs) = pairs_of(jobs, &remaining);
        if sum + slowdown < best.0 {
            pairs.push((first, Some(other)));
            best = (sum + slowdown, pairs);
        }
    }
    best
}

/// Memory of a wave of training: its forward pass fills activations, its backward pass frees them. Two waves half a step
/// apart (Wavelet's tick-tock; Wang et al. 2021) peak when one is full and the other empty; waves in phase need twice that.
pub fn tick_tock_peak(resident: f64, activations: f64, offset: bool) -> f64 {
    2.0 * resident + if offset { activations } else { 2.0 * activations }
}
