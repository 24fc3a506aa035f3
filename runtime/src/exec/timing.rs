//! What the clock of a rank measures on a device that works on its own.

use std::time::Duration;

use cutplane_units::Nanos;
use serde::Serialize;

/// When a rank waits for its device before it looks at the clock. On a processor, where work is done when its call returns,
/// both are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timing {
    /// Once, at the end of the step: the step time is that of a run that nobody watches. The span of an instruction is the
    /// time in which the host asked for it; the last one lasts until the device is done.
    #[default]
    Step,
    /// After every instruction: its span is its own time. Work of one rank that would overlap is serialised, so the step
    /// takes longer than it would.
    Instruction,
}

/// When a warm-up ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    /// Two successive steps that differ by at most this share of the shorter agree.
    pub tolerance: f64,
    /// Steps after which it ends without agreement.
    pub at_most: usize,
    /// Time after which it ends without agreement.
    pub time: Duration,
}

impl Default for WarmUp {
    /// 5%, and at most 40 steps or two minutes.
    fn default() -> Self {
        Self { tolerance: 0.05, at_most: 40, time: Duration::from_mins(2) }
    }
}

impl WarmUp {
    /// Whether the last two steps agree. The first step of all never counts: it compiles kernels and chooses among them.
    pub(crate) fn is_over(&self, steps: &[Nanos]) -> bool {
        let [_, .., before, last] = steps else { return false };
        let (shorter, longer) = (before.min(last), before.max(last));
        longer.as_f64() - shorter.as_f64() <= self.tolerance * shorter.as_f64()
    }
}

/// The steps that were run before the clock was trusted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WarmedUp {
    /// Their times.
    pub steps: Vec<Nanos>,
    /// The losses of all steps taken, that after the pool was trimmed included.
    pub losses: Vec<f64>,
    /// Whether the last two agreed; otherwise the cap was reached, and what follows may still hold the choice of kernels.
    pub agreed: bool,
}

impl WarmedUp {
    /// What a record says of it, when it is worth a word.
    pub fn note(&self) -> Option<String> {
        let count = self.steps.len();
        (!self.agreed).then(|| format!("warm-up: no two successive steps of {count} agreed; timed steps may vary"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_up_ends_with_two_steps_that_agree() {
        let over =
            |steps: &[u64]| WarmUp::default().is_over(&steps.iter().map(|ns| Nanos::new(*ns)).collect::<Vec<_>>());
        assert!(!over(&[]) && !over(&[100]) && !over(&[100, 100]), "the first step is no measure");
        assert!(over(&[900, 100, 104]) && over(&[900, 104, 100]));
        assert!(!over(&[900, 100, 106]) && !over(&[100, 100, 900]));
    }
}
