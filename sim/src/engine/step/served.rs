//! Workers that train one set of parameters through a server, each at its own pace: bulk, stale and asynchronous
//! synchronisation under seeded jitter and stragglers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use cutplane_units::Nanos;
use serde::Serialize;

use super::error::StepError;
use super::noise::{Noise, WorkerClock};

/// Workers and their server. Every step of a worker pulls the parameters, computes, and pushes its gradients, which the
/// server applies at once; pulls share the server's link out, pushes its link in, first come first served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedWorkers {
    /// Workers.
    pub workers: usize,
    /// Time of a step's computation on an undisturbed worker.
    pub compute: Nanos,
    /// Time of a pull, and of a push, on the server's link alone.
    pub transfer: Nanos,
    /// Steps that a worker may be ahead of the slowest (stale synchronous: Ho et al. 2013): 0 is a barrier after every step,
    /// none lets everyone go on (asynchronous: Dean et al. 2012).
    pub bound: Option<u64>,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ServedRun {
    /// When the last update was applied.
    pub makespan: Nanos,
    /// Updates a second, all workers together.
    pub updates_per_s: f64,
    /// Updates of others that were applied between the pull and the push of an update: mean, and most.
    pub mean_staleness: f64,
    /// The most of these.
    pub most_staleness: u64,
    /// Share of the workers' time in which they wait for slower ones.
    pub waiting_share: f64,
}

/// What happens to a worker; of what happens at once, the first of these comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Its gradients are applied.
    Applied,
    /// Its gradients are there.
    Computed,
    /// It asks for the parameters.
    Asks,
}

/// Runs every worker for `steps` steps.
///
/// # Errors
/// [`StepError`] for a noise whose fields do not fit, for no workers or steps, and for more than 10^8 updates.
///
/// ```
/// use cutplane_sim::engine::step::{Noise, ServedWorkers, served};
/// use cutplane_units::Nanos;
/// // The server's link takes 10 ns a push: four workers that compute for 5 ns keep it busy.
/// let workers = ServedWorkers { workers: 4, compute: Nanos::new(5), transfer: Nanos::new(10), bound: None };
/// let run = served(&workers, &Noise::NONE, 1_000)?;
/// assert!((run.updates_per_s * 10e-9 - 1.0).abs() < 0.01);
/// # Ok::<(), cutplane_sim::engine::step::StepError>(())
/// ```
pub fn served(workers: &ServedWorkers, noise: &Noise, steps: u64) -> Result<ServedRun, StepError> {
    noise.check()?;
    let mut clocks: Vec<_> = (0..workers.workers as u64).map(|worker| WorkerClock::new(noise, worker)).collect();
    run(workers, steps, |worker, _| clocks[worker].step(workers.compute.get()))
}

/// Runs workers whose steps take the times that `steps` states, worker by worker, all of them as many steps; `transfer` and
/// `bound` are those of [`ServedWorkers`].
///
/// # Errors
/// [`StepError`] for workers with different numbers of steps, for no workers or steps, and for more than 10^8 updates.
///
/// ```
/// use cutplane_sim::engine::step::served_at;
/// use cutplane_units::Nanos;
/// let steps = [[1, 3], [3, 1]].map(|worker| worker.map(Nanos::new).to_vec());
/// let makespan = |bound| served_at(&steps, Nanos::ZERO, bound).map(|run| run.makespan.get());
/// assert_eq!((makespan(Some(0))?, makespan(None)?), (6, 4));
/// # Ok::<(), cutplane_sim::engine::step::StepError>(())
/// ```
pub fn served_at(steps: &[Vec<Nanos>], transfer: Nanos, bound: Option<u64>) -> Result<ServedRun, StepError> {
    let each = steps.first().map_or(0, Vec::len);
    if let Some(other) = steps.iter().map(Vec::len).find(|own| *own != each) {
        let problem = format!("{each} and {other} steps");
        return Err(StepError { field: "steps", problem, remedy: "state as many times for every worker" });
    }
    let workers = ServedWorkers { workers: steps.len(), compute: Nanos::ZERO, transfer, bound };
    run(&workers, each as u64, |worker, done| steps[worker][done as usize].get())
}

/// Runs every worker for `steps` steps; the step of `worker` that follows `done` others computes for `compute(worker, done)` ns.
fn run(workers: &ServedWorkers, steps: u64, compute: impl FnMut(usize, u64) -> u64) -> Result<ServedRun, StepError> {
    let updates = steps.saturating_mul(workers.workers as u64);
    if updates == 0 || updates > 100_000_000 {
        let remedy = "run at least one worker for one step, and at most 10^8 updates in all";
        return Err(StepError { field: "workers, steps", problem: updates.to_string(), remedy });
    }
    let mut run = Run::new(workers, steps, compute);
    while let Some(Reverse((time, event, worker))) = run.events.pop() {
        run.handle(time, event, worker);
    }
    Ok(run.result(updates))
}

struct Run<'a, C> {
    setting: &'a ServedWorkers,
    steps: u64,
    compute: C,
    events: BinaryHeap<Reverse<(u64, Event, usize)>>,
    /// When the server's links out and in are free, ns.
    out: u64,
    into: u64,
    /// Updates applied so far, and those that each worker's parameters hold.
    version: u64,
    pulled: Vec<u64>,
    /// Steps that each worker has done, and the fewest of these.
    done: Vec<u64>,
    slowest: u64,
    /// Workers that wait for slower ones, since when.
    held: Vec<(usize, u64)>,
    waited: u64,
    staleness: [u64; 2],
    end: u64,
}

impl<'a, C: FnMut(usize, u64) -> u64> Run<'a, C> {
    fn new(setting: &'a ServedWorkers, steps: u64, compute: C) -> Self {
        let workers = setting.workers;
        Self {
            setting,
            steps,
            compute,
            events: (0..workers).map(|worker| Reverse((0, Event::Asks, worker))).collect(),
            out: 0,
            into: 0,
            version: 0,
            pulled: vec![0; workers],
            done: vec![0; workers],
            slowest: 0,
            held: Vec::new(),
            waited: 0,
            staleness: [0; 2],
            end: 0,
        }
    }

    fn handle(&mut self, time: u64, event: Event, worker: usize) {
        let transfer = self.setting.transfer.get();
        match event {
            Event::Asks => {
                // The parameters are those of the moment when they leave.
                self.out = self.out.max(time) + transfer;
                self.pulled[worker] = self.version;
                let computed = self.out + (self.compute)(worker, self.done[worker]);
                self.events.push(Reverse((computed, Event::Computed, worker)));
            }
            Event::Computed => {
                self.into = self.into.max(time) + transfer;
                self.events.push(Reverse((self.into, Event::Applied, worker)));
            }
            Event::Applied => self.apply(time, worker),
        }
    }

    fn apply(&mut self, time: u64, worker: usize) {
        let stale = self.version - self.pulled[worker];
        self.staleness = [self.staleness[0] + stale, self.staleness[1].max(stale)];
        (self.version, self.end) = (self.version + 1, time);
        self.done[worker] += 1;
        if self.done[worker] < self.steps {
            self.held.push((worker, time));
        }
        if self.done[worker] == self.slowest + 1 {
            self.slowest = self.done.iter().copied().min().unwrap_or_default();
        }
        self.release(time);
    }

    /// Lets workers go on that are no further ahead of the slowest than they may be.
    fn release(&mut self, time: u64) {
        let most = self.setting.bound.map_or(u64::MAX, |bound| self.slowest.saturating_add(bound));
        let Self { held, done, events, waited, .. } = self;
        held.retain(|(worker, since)| {
            let goes = done[*worker] <= most;
            if goes {
                *waited += time - since;
                events.push(Reverse((time, Event::Asks, *worker)));
            }
            !goes
        });
    }

    fn result(&self, updates: u64) -> ServedRun {
        let end = self.end.max(1) as f64;
        ServedRun {
            makespan: Nanos::new(self.end),
            updates_per_s: updates as f64 / end * 1e9,
            mean_staleness: self.staleness[0] as f64 / updates as f64,
            most_staleness: self.staleness[1],
            waiting_share: self.waited as f64 / (end * self.setting.workers as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jittered(bound: Option<u64>, noise: &Noise) -> ServedRun {
        let workers = ServedWorkers { workers: 8, compute: Nanos::new(1_000_000), transfer: Nanos::new(1_000), bound };
        served(&workers, noise, 200).expect("a valid run")
    }

    #[test]
    fn equal_workers_are_as_stale_as_they_are_many() {
        let alone = ServedWorkers { workers: 4, compute: Nanos::new(100), transfer: Nanos::new(0), bound: None };
        let run = served(&alone, &Noise::NONE, 10).expect("a valid run");
        assert_eq!((run.makespan, run.most_staleness), (Nanos::new(1_000), 3));
        assert!((run.mean_staleness - 1.5).abs() < 1e-12 && run.waiting_share.abs() < 1e-12);
    }

    #[test]
    fn a_barrier_waits_for_stragglers_and_a_bound_only_for_those_left_far_behind() {
        let noise = Noise { jitter: 0.0, straggler_share: 0.2, straggler_slowdown: 4.0, seed: 5 };
        let [bulk, stale, free] = [Some(0), Some(20), None].map(|bound| jittered(bound, &noise));
        // 200 steps at the pace of the slowest of eight.
        assert!(bulk.makespan >= Nanos::new(200 * 4_000_000), "{bulk:?}");
        assert!(bulk.waiting_share > 0.4 && free.waiting_share.abs() < 1e-12, "{bulk:?} {free:?}");
        assert!(bulk.waiting_share > stale.waiting_share && stale.waiting_share > 0.0, "{stale:?}");
        // With a barrier an update misses one of each other worker at most; else a straggler misses four of each fast one.
        assert!(bulk.most_staleness <= 7 && stale.most_staleness > 7 && free.most_staleness >= stale.most_staleness);
    }

    #[test]
    fn under_jitter_alone_every_relaxation_is_faster() {
        let noise = Noise { jitter: 0.4, straggler_share: 0.0, straggler_slowdown: 1.0, seed: 11 };
        let rates = [Some(0), Some(1), Some(4), None].map(|bound| jittered(bound, &noise).updates_per_s);
        assert!(rates.windows(2).all(|pair| pair[0] < pair[1]), "{rates:?}");
        assert_eq!(jittered(Some(4), &noise), jittered(Some(4), &noise));
        assert_ne!(jittered(None, &noise), jittered(None, &Noise { seed: 12, ..noise }));
    }

    #[test]
    fn nothing_to_run_is_refused_by_name() {
        let workers = ServedWorkers { workers: 0, compute: Nanos::new(1), transfer: Nanos::new(1), bound: None };
        let refused = served(&workers, &Noise::NONE, 10).expect_err("no workers");
        assert_eq!(refused.field, "workers, steps");
        let unequal = [vec![Nanos::new(1)], vec![Nanos::new(1); 2]];
        assert_eq!(served_at(&unequal, Nanos::ZERO, None).expect_err("unequal steps").field, "steps");
    }
}
