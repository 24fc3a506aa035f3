//! Gradients that travel in buckets beside the pass that completes them.
//!
//! Compute work is fluid: while a bucket travels, a pass progresses at `1 / slowdown` (multiprocessors and bandwidth that
//! the collective takes).

use serde::Serialize;

use super::program::Gradients;

/// A bucket on its way; ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct BucketSpan {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) chunk: u16,
}

/// What a pass meets of earlier traffic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overlap {
    pub(super) slowdown: f64,
    /// When the buckets before have arrived.
    pub(super) busy_until: u64,
}

/// Runs `work` ns of a pass from `start`; returns when it ends, and when the last bucket so far has arrived.
pub(super) fn beside(
    start: u64,
    work: u64,
    gradients: Gradients,
    overlap: Overlap,
    chunk: usize,
    mut spans: Option<&mut Vec<BucketSpan>>,
) -> (u64, u64) {
    let (mut now, mut busy) = (start, overlap.busy_until);
    let (mut passes, mut traffic) =
        (Parts::of(work, gradients.buckets), Parts::of(gradients.time.get(), gradients.buckets));
    for _ in 0..gradients.buckets {
        now = progressed(now, passes.next(), busy, overlap.slowdown);
        let from = now.max(busy);
        busy = from + traffic.next();
        if let Some(spans) = &mut spans {
            spans.push(BucketSpan { start: from, end: busy, chunk: chunk as u16 });
        }
    }
    if gradients.buckets == 0 {
        now = progressed(now, work, busy, overlap.slowdown);
    }
    (now, busy)
}

/// Equal parts of a whole number: the first `i` of `n` are the whole part of `i / n` of it.
struct Parts {
    each: u64,
    left: u64,
    count: u64,
    /// What whole numbers have left over so far, less than `count`.
    over: u64,
}

impl Parts {
    fn of(total: u64, count: u64) -> Self {
        let divisor = count.max(1);
        Self { each: total / divisor, left: total % divisor, count, over: 0 }
    }

    fn next(&mut self) -> u64 {
        self.over += self.left;
        if self.over < self.count {
            return self.each;
        }
        self.over -= self.count;
        self.each + 1
    }
}

/// When `work` ns from `now` on are done while traffic runs until `busy`.
fn progressed(now: u64, work: u64, busy: u64, slowdown: f64) -> u64 {
    if busy <= now {
        return now + work;
    }
    let stretched = (work as f64 * slowdown).ceil() as u64;
    if now + stretched <= busy {
        return now + stretched;
    }
    // What is left when the traffic ends goes on at full speed.
    let done = ((busy - now) as f64 / slowdown).floor() as u64;
    busy + work.saturating_sub(done)
}

#[cfg(test)]
mod tests {
    use cutplane_units::Nanos;

    use super::*;

    fn run(work: u64, time: u64, buckets: u64, slowdown: f64, busy_until: u64) -> (u64, u64) {
        let gradients = Gradients { time: Nanos::new(time), buckets };
        beside(100, work, gradients, Overlap { slowdown, busy_until }, 0, None)
    }

    #[test]
    fn traffic_that_fits_leaves_its_last_bucket_behind() {
        // Ready at 350, 600, 850, 1100; 100 each, at no cost for the pass.
        assert_eq!(run(1000, 400, 4, 1.0, 0), (1100, 1200));
        // Each of the first three costs the pass 100 (1 - 1 / 2) ns.
        assert_eq!(run(1000, 400, 4, 2.0, 0), (1250, 1350));
    }

    #[test]
    fn parts_add_up_to_the_share_so_far() {
        for (total, parts) in [(10, 4), (3, 7), (0, 5), (1_000_003, 17), (12, 12)] {
            let (mut each, mut sum) = (Parts::of(total, parts), 0);
            for index in 1..=parts {
                sum += each.next();
                assert_eq!(sum, total * index / parts, "{total} {parts} {index}");
            }
        }
    }

    #[test]
    fn traffic_that_does_not_fit_sets_the_end() {
        assert_eq!(run(400, 4000, 4, 1.0, 0), (500, 100 + 100 + 4000));
        // All but the first quarter of the pass runs beside it, at half speed.
        assert_eq!(run(400, 4000, 4, 2.0, 0), (100 + 100 + 600, 100 + 100 + 4000));
    }

    #[test]
    fn earlier_traffic_slows_a_pass_until_it_has_arrived() {
        assert_eq!(run(1000, 0, 0, 2.0, 300), (1200, 300));
        assert_eq!(run(50, 0, 0, 2.0, 300), (200, 300));
        assert_eq!(run(1000, 0, 0, 2.0, 50), (1100, 50));
    }
}
