//! A guarded state that threads wait on: they look for a while, then sleep.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a wait may last, and how much of it is spent looking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Time of busy looking before the thread sleeps.
    pub(super) spin: Duration,
    /// Time after which the wait is given up; `None` waits until it is over.
    pub(super) timeout: Option<Duration>,
}

/// A state with a version that moves when the state changes, so that a looking thread need not take the lock.
#[derive(Debug)]
pub(super) struct Gate<S> {
    guarded: Mutex<Guarded<S>>,
    version: AtomicU64,
    changed: Condvar,
}

#[derive(Debug)]
struct Guarded<S> {
    state: S,
    sleepers: usize,
}

impl<S> Gate<S> {
    pub(super) fn new(state: S) -> Self {
        Self {
            guarded: Mutex::new(Guarded { state, sleepers: 0 }),
            version: AtomicU64::new(0),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Guarded<S>> {
        // Nothing below panics while it holds the lock, so a poisoned state is still whole.
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes the state without waking anybody.
    pub(super) fn look<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        look(&mut self.lock().state)
    }

    /// Changes the state; wakes all waiting threads when `change` says so.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut S) -> (R, bool)) -> R {
        let mut guarded = self.lock();
        let (result, wake) = change(&mut guarded.state);
        if wake {
            self.version.fetch_add(1, Ordering::Release);
        }
        // Waking costs a system call, so it is kept for real sleepers.
        let sleepers = wake && guarded.sleepers > 0;
        drop(guarded);
        if sleepers {
            self.changed.notify_all();
        }
        result
    }

    /// Waits until `ready` finds something; it is asked at first and after every change. `None` when time is up.
    pub(super) fn wait<R>(&self, patience: Patience, mut ready: impl FnMut(&mut S) -> Option<R>) -> Option<R> {
        let mut seen = self.version.load(Ordering::Acquire);
        if let Some(found) = self.look(&mut ready) {
            return Some(found);
        }
        let start = Instant::now();
        while start.elapsed() < patience.spin {
            let version = self.version.load(Ordering::Acquire);
            if version != seen {
                seen = version;
                if let Some(found) = self.look(&mut ready) {
                    return Some(found);
                }
            }
            std::hint::spin_loop();
        }
        self.sleep(start, patience.timeout, ready)
    }

    fn sleep<R>(
        &self,
        start: Instant,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&mut S) -> Option<R>,
    ) -> Option<R> {
        let mut guarded = self.lock();
        loop {
            if let Some(found) = ready(&mut guarded.state) {
                return Some(found);
            }
            // Without a limit the thread still looks up once a minute; it costs nothing.
            let left = timeout.map_or(Duration::from_mins(1), |limit| limit.saturating_sub(start.elapsed()));
            if left.is_zero() {
                return None;
            }
            guarded.sleepers += 1;
            guarded = self.changed.wait_timeout(guarded, left).unwrap_or_else(PoisonError::into_inner).0;
            guarded.sleepers -= 1;
        }
    }
}
