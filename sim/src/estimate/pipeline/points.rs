//! The devices of a pipeline that a longest path may turn at: the ends of the runs of equal devices. Whatever a path weighs
//! is linear in its turning points between those.

use super::Devices;

/// A device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// Its run.
    pub(super) run: usize,
    /// Devices before it.
    pub(super) at: u64,
}

/// First and last device of every run, and those devices of `also` that lie within one, in order.
pub(super) fn points(devices: &[Devices], also: &[u64]) -> Vec<Point> {
    let mut points = Vec::with_capacity(2 * devices.len() + also.len());
    let mut first = 0;
    for (run, alike) in devices.iter().enumerate() {
        let last = first + alike.count - 1;
        points.push(Point { run, at: first });
        points.extend(also.iter().filter(|at| (first + 1..last).contains(at)).map(|at| Point { run, at: *at }));
        if last > first {
            points.push(Point { run, at: last });
        }
        first = last + 1;
    }
    points
}
