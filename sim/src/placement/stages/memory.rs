//! Which variant each layer of a stage takes: the least time that fits into memory, a knapsack.

/// A variant in a stage: its time and memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    /// Position of the variant.
    pub(super) variant: usize,
    /// Part of its time that replicas share, s.
    pub(super) shared: f64,
    /// Time of synchronising its weights once, without the factor `(d - 1) / d`, s.
    pub(super) sync: f64,
    /// Micro-batches between two of these; as many as replicas if absent.
    pub(super) between_syncs: Option<u64>,
    /// Bytes for each micro-batch in flight.
    pub(super) each: f64,
    /// Bytes whatever is in flight.
    pub(super) fixed: f64,
}

impl Choice {
    pub(super) fn seconds(&self, replicas: u64) -> f64 {
        let between = self.between_syncs.unwrap_or(replicas) as f64;
        let replicas = replicas as f64;
        self.shared / replicas + self.sync / between * (replicas - 1.0) / replicas
    }

    fn bytes(&self, in_flight: u64) -> f64 {
        self.each * in_flight as f64 + self.fixed
    }
}

/// One variant a layer, with the time of the stage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chosen {
    pub(super) seconds: f64,
    pub(super) variants: Vec<usize>,
}

/// A step from one variant of a layer to the next smaller one.
struct Swap {
    layer: usize,
    variant: usize,
    seconds: f64,
    bytes: f64,
}

/// The fastest variants that fit into `memory` bytes. Starting from the fastest of each layer, the cheapest time for a byte is
/// given up first; `relaxed` gives up only the part of the last that is needed, which bounds every choice from below (the
/// linear relaxation of the knapsack). `None` when nothing fits.
pub(super) fn choose(
    layers: &[Vec<Choice>],
    (replicas, in_flight): (u64, u64),
    memory: f64,
    relaxed: bool,
) -> Option<Chosen> {
    let mut variants = Vec::with_capacity(layers.len());
    let (mut seconds, mut over) = (0.0, -memory);
    for list in layers {
        let fastest = list.iter().min_by(|a, b| key(a, replicas, in_flight).total_cmp(&key(b, replicas, in_flight)))?;
        seconds += fastest.seconds(replicas);
        over += fastest.bytes(in_flight);
        variants.push(fastest.variant);
    }
    if over <= 0.0 {
        return Some(Chosen { seconds, variants });
    }
    let mut swaps = swaps(layers, &variants, replicas, in_flight);
    swaps.sort_by(|a, b| (a.seconds * b.bytes).total_cmp(&(b.seconds * a.bytes)));
    let mut done: Vec<&Swap> = Vec::new();
    for swap in &swaps {
        let part = if relaxed { (over / swap.bytes).min(1.0) } else { 1.0 };
        seconds += part * swap.seconds;
        over -= part * swap.bytes;
        variants[swap.layer] = swap.variant;
        done.push(swap);
        if over <= 1e-3 {
            return Some(if relaxed {
                Chosen { seconds, variants }
            } else {
                undone(layers, seconds, variants, over, &done)
            });
        }
    }
    None
}

/// Time first, memory second.
fn key(choice: &Choice, replicas: u64, in_flight: u64) -> f64 {
    // A byte weighs as nothing beside a second.
    choice.seconds(replicas) + choice.bytes(in_flight) * 1e-30
}

/// Steps along the lower convex hull of time over memory, layer by layer.
fn swaps(layers: &[Vec<Choice>], fastest: &[usize], replicas: u64, in_flight: u64) -> Vec<Swap> {
    let mut swaps = Vec::new();
    for (layer, list) in layers.iter().enumerate() {
        let Some(mut at) = list.iter().find(|choice| choice.variant == fastest[layer]) else { continue };
        loop {
            let step = |to: &Choice| Swap {
                layer,
                variant: to.variant,
                seconds: to.seconds(replicas) - at.seconds(replicas),
                bytes: at.bytes(in_flight) - to.bytes(in_flight),
            };
            let smaller = list.iter().filter(|to| to.bytes(in_flight) < at.bytes(in_flight));
            let Some(next) = smaller.min_by(|a, b| {
                let (a, b) = (step(a), step(b));
                (a.seconds * b.bytes).total_cmp(&(b.seconds * a.bytes))
            }) else {
                break;
            };
            swaps.push(step(next));
            at = next;
        }
    }
    swaps
}

/// Takes back the dearest steps that the memory left over has room for: only the last of their layer.
fn undone(layers: &[Vec<Choice>], seconds: f64, variants: Vec<usize>, over: f64, done: &[&Swap]) -> Chosen {
    let (mut seconds, mut variants, mut over) = (seconds, variants, over);
    for swap in done.iter().rev() {
        let two = layers[swap.layer].len() == 2;
        if two && variants[swap.layer] == swap.variant && over + swap.bytes <= 0.0 {
            over += swap.bytes;
            seconds -= swap.seconds;
            if let Some(other) = layers[swap.layer].iter().find(|choice| choice.variant != swap.variant) {
                variants[swap.layer] = other.variant;
            }
        }
    }
    Chosen { seconds, variants }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(variant: usize, shared: f64, fixed: f64) -> Choice {
        Choice { variant, shared, sync: 0.0, between_syncs: None, each: 0.0, fixed }
    }

    #[test]
    fn the_cheapest_time_for_a_byte_is_given_up_first() {
        let layers = [vec![choice(0, 1.0, 10.0), choice(1, 2.0, 4.0)], vec![choice(0, 1.0, 10.0), choice(1, 1.5, 5.0)]];
        let of = |memory: f64, relaxed: bool| choose(&layers, (1, 1), memory, relaxed);
        assert_eq!(of(20.0, false), Some(Chosen { seconds: 2.0, variants: vec![0, 0] }));
        assert_eq!(of(15.0, false), Some(Chosen { seconds: 2.5, variants: vec![0, 1] }));
        // One byte more than the first step frees: the second alone frees it as well.
        assert_eq!(of(14.0, false), Some(Chosen { seconds: 3.0, variants: vec![1, 0] }));
        assert_eq!(of(9.0, false), Some(Chosen { seconds: 3.5, variants: vec![1, 1] }));
        assert_eq!(of(8.9, false), None);
        let relaxed = of(17.5, true).expect("fits");
        assert!((relaxed.seconds - 2.25).abs() < 1e-12, "{relaxed:?}");
    }
}
