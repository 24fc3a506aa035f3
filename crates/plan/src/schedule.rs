//! Pipeline schedules as lists of slots.

use crate::plan::Schedule;

/// One pass of one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Forward pass of a micro-batch.
    Forward(u64),
    /// Backward pass of a micro-batch.
    Backward(u64),
}

/// The order in which stage `stage` of `stages` works through `micro_batches`.
///
/// Fill-drain runs the backwards in reverse order of the forwards. 1F1B starts with `stages - 1 - stage` forwards.
///
/// ```
/// use cutplane_plan::{Schedule, Slot::{Backward as B, Forward as F}, schedule_slots};
/// assert_eq!(schedule_slots(Schedule::OneFOneB, 0, 2, 3), [F(0), F(1), B(0), F(2), B(1), B(2)]);
/// assert_eq!(schedule_slots(Schedule::OneFOneB, 1, 2, 3), [F(0), B(0), F(1), B(1), F(2), B(2)]);
/// ```
pub fn schedule_slots(schedule: Schedule, stage: usize, stages: usize, micro_batches: u64) -> Vec<Slot> {
    match schedule {
        Schedule::FillDrain => {
            (0..micro_batches).map(Slot::Forward).chain((0..micro_batches).rev().map(Slot::Backward)).collect()
        }
        Schedule::OneFOneB => {
            let warm_up = micro_batches.min((stages - 1 - stage) as u64);
            let steady = (warm_up..micro_batches).flat_map(|i| [Slot::Forward(i), Slot::Backward(i - warm_up)]);
            let cool_down = (micro_batches - warm_up..micro_batches).map(Slot::Backward);
            (0..warm_up).map(Slot::Forward).chain(steady).chain(cool_down).collect()
        }
    }
}
