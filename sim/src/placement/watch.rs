//! When to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::PlaceError;

/// A deadline and a flag that the user raises.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch<'a> {
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    pub(super) interrupt: Option<&'a AtomicBool>,
}

impl<'a> Watch<'a> {
    /// Starts now.
    pub(super) fn new(limit: Duration, interrupt: Option<&'a AtomicBool>) -> Self {
        let started = Instant::now();
        // A limit beyond what the clock can count is none that matters.
        let deadline = started.checked_add(limit).unwrap_or(started + Duration::from_secs(1 << 30));
        Self { started, deadline, interrupt }
    }

    pub(super) fn interrupted(&self) -> bool {
        self.interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    pub(super) fn must_stop(&self) -> bool {
        self.interrupted() || Instant::now() >= self.deadline
    }

    /// Time that is left.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The same without a limit of time.
    pub(super) fn patient(&self) -> Self {
        Self { deadline: Instant::now() + Duration::from_secs(1 << 30), ..*self }
    }

    /// Nothing was found: by interruption or by the limit of time.
    pub(super) fn nothing(&self, remedy: &str) -> PlaceError {
        if self.interrupted() {
            return PlaceError::Interrupted;
        }
        PlaceError::NoneFound { seconds: self.started.elapsed().as_secs_f64(), remedy: remedy.to_owned() }
    }

    /// The same, but with only this fraction of the time that is left.
    pub(super) fn part(&self, fraction: f64) -> Self {
        Self { deadline: Instant::now() + self.left().mul_f64(fraction.clamp(0.0, 1.0)), ..*self }
    }
}
