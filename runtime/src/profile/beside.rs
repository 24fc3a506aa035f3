//! Operators beside busy neighbours: how much the other ranks of a host slow each operator down.
//!
//! In a plan the ranks do much the same at much the same time, so the neighbours run the operator that is measured, over and
//! over, on cores of their own. What fits the caches of a core is not slowed down; what streams from memory is.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cases::Case;
use super::tables::median;
use super::turn::{Bench, Pool, Sample};
use crate::backend::{Backend, run_rank};
use crate::error::RuntimeError;

/// Times that all cases are gone through: what disturbs the machine for seconds falls on one of them.
const PASSES: usize = 3;

/// The time factor of each case when `ranks` of a host run it at once. `progress` is told the share that is done.
///
/// # Errors
/// [`RuntimeError::Thread`] when a rank cannot be started; [`RuntimeError::Device`].
pub(super) fn factors(
    cases: &[Case],
    backend: &Backend,
    ranks: usize,
    progress: &mut (dyn FnMut(f32) + Send),
) -> Result<Vec<f64>, RuntimeError> {
    let stage = Stage { gate: Barrier::new(ranks), over: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let neighbour = |core| run_rank(core, backend, || stage.neighbour(cases, backend));
        let neighbours: Vec<_> = (1..ranks).map(|core| scope.spawn(move || neighbour(core))).collect();
        let factors = run_rank(0, backend, || stage.measured(cases, backend, progress))?;
        for neighbour in neighbours {
            neighbour.join().expect("the work of a rank does not panic")?;
        }
        factors
    })
}

/// Where the ranks meet: at the beginning and at the end of every time together.
struct Stage {
    gate: Barrier,
    /// Whether the measured rank has what it wants.
    over: AtomicBool,
}

impl Stage {
    /// Runs every case until the measured rank is done with it.
    fn neighbour(&self, cases: &[Case], backend: &Backend) {
        let pool = Pool::new();
        for case in std::iter::repeat_n(cases, PASSES).flatten() {
            let mut bench = Bench::new(case, backend, &pool, None);
            self.gate.wait();
            while !self.over.load(Ordering::Relaxed) {
                bench.warm_turn();
            }
            self.gate.wait();
        }
    }

    fn measured(
        &self,
        cases: &[Case],
        backend: &Backend,
        progress: &mut (dyn FnMut(f32) + Send),
    ) -> Result<Vec<f64>, RuntimeError> {
        let pool = Pool::new();
        let mut ratios = vec![Vec::with_capacity(PASSES); cases.len()];
        let mut outcome = Ok(());
        for (index, case) in std::iter::repeat_n(cases, PASSES).flatten().enumerate() {
            progress(index as f32 / (PASSES * cases.len()) as f32);
            let mut bench = Bench::new(case, backend, &pool, None);
            // The neighbours wait at the gate for every case, so an error is kept until the end.
            match self.turn(&mut bench) {
                Ok([alone, together]) => ratios[index % cases.len()].push(together / alone),
                Err(error) => outcome = Err(error),
            }
        }
        outcome.map(|()| ratios.iter().map(|ratios| median(ratios).0).collect())
    }

    /// Time of a micro-batch alone, and beside the neighbours, ns.
    fn turn(&self, bench: &mut Bench<'_>) -> Result<[f64; 2], RuntimeError> {
        let alone = bench.samples(1);
        self.over.store(false, Ordering::Relaxed);
        self.gate.wait();
        let together = bench.samples(1);
        self.over.store(true, Ordering::Relaxed);
        self.gate.wait();
        let time = |samples: Vec<Sample>| {
            samples.iter().map(|sample| sample.forward_ns + sample.backward_ns.max(0.0)).sum::<f64>().max(1.0)
        };
        Ok([time(alone?), time(together?)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::{TINY, all};
    use super::*;

    #[test]
    fn every_case_has_a_factor_for_any_number_of_ranks() {
        let cases = all(&TINY).expect("well formed");
        for ranks in 1..=3 {
            let mut told = Vec::new();
            let factors = factors(&cases, &Backend::cpu(), ranks, &mut |done| told.push(done)).expect("measures");
            assert_eq!((factors.len(), told.len()), (cases.len(), PASSES * cases.len()));
            assert!(factors.iter().all(|factor| factor.is_finite() && *factor > 0.0), "{factors:?}");
        }
    }
}
