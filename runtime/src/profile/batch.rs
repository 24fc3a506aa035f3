//! Measuring on a device that works on its own: many passes between two waits, as a step asks for them, and the time of
//! waiting for nothing taken off.

use std::time::{Duration, Instant};

use cutplane_graph::OpId;

use super::turn::{Bench, Sample, run_seed, seed_parts};
use crate::backend::{Backend, Residence};
use crate::error::RuntimeError;
use crate::exec::WarmUp;
use cutplane_units::Nanos;

/// Passes between two waits, at most.
const PASSES: i64 = 16;
/// What they may hold together, bytes.
const HELD: i64 = 2 << 30;
/// When the kernels of a case have been chosen: a single operator varies more than a step.
const CHOSEN: WarmUp = WarmUp { tolerance: 0.2, at_most: 6, time: Duration::MAX };

/// What `work` gives, and how long its device takes for it, ns.
pub(super) fn timed<T>(backend: &Backend, work: impl FnOnce() -> T) -> Result<(T, f64), RuntimeError> {
    backend.sync()?;
    let started = Instant::now();
    let result = work();
    backend.sync()?;
    let time = started.elapsed();
    let waiting = match backend.residence() {
        Residence::Host => 0.0,
        Residence::Device => {
            let started = Instant::now();
            backend.sync()?;
            started.elapsed().as_nanos() as f64
        }
    };
    Ok((result, (time.as_nanos() as f64 - waiting).max(0.0)))
}

impl Bench<'_> {
    /// Runs micro-batches forward and backward: `count` of them on the host, as many as fit on a device.
    pub(crate) fn samples(&mut self, count: usize) -> Result<Vec<Sample>, RuntimeError> {
        match self.backend.residence() {
            Residence::Host => self.turn(count),
            Residence::Device => Ok(vec![self.batch()?]),
        }
    }

    /// Runs the operator until its device has compiled and chosen its kernels. The host has nothing to choose.
    pub(super) fn warm_up(&mut self) -> Result<(), RuntimeError> {
        let mut times = Vec::new();
        while self.backend.residence() == Residence::Device && !CHOSEN.is_over(&times) && times.len() < CHOSEN.at_most {
            let sample = self.batch()?;
            times.push(Nanos::new((sample.forward_ns + sample.backward_ns).max(0.0) as u64));
        }
        Ok(())
    }

    /// Bytes of what one micro-batch holds.
    fn held(&self) -> i64 {
        let (model, batch) = (&self.case.model, self.case.batch);
        let op = OpId::new(0);
        let values = model.op(op).inputs.iter().map(|id| model.value(*id).ty.bytes(batch).get()).sum::<u64>();
        let internal = model.saved(op, batch).internal_elements.saturating_mul(4);
        i64::try_from(values.saturating_add(internal)).unwrap_or(i64::MAX).saturating_add(self.output_bytes())
    }

    /// One sample of the mean of several passes. The workspace of a pass cannot be told from what a pool reserves, and is
    /// given as none.
    fn batch(&mut self) -> Result<Sample, RuntimeError> {
        let count = (HELD / self.held().max(1)).clamp(1, PASSES);
        let mean = |total: f64| total / count as f64;
        let backend = self.backend;
        let in_use = || backend.pool().map_or(0, |(in_use, _)| in_use as i64);
        let inputs: Vec<_> = (0..count).map(|_| self.inputs()).collect();
        backend.sync()?;
        let before = in_use();
        let run = || inputs.into_iter().map(|inputs| self.run(inputs)).collect::<Vec<_>>();
        let (outputs, forward_ns) = timed(backend, run)?;
        let kept = (in_use() - before) / count - self.output_bytes();
        let starts: Vec<_> = outputs.into_iter().map(|output| self.start(output)).collect();
        let seed_ns = self.seeds(starts[0].rows.dims(), starts[0].share.is_some(), count)?;
        let ((), backward_ns) = timed(backend, || starts.into_iter().rev().for_each(|start| self.run_backward(start)))?;
        let backward_ns = mean(backward_ns - seed_ns + self.joins(count)?);
        Ok(Sample { forward_ns: mean(forward_ns), backward_ns, kept: kept.max(0), workspace: 0 })
    }

    /// Time of `count` seeds of the vector-Jacobian product; a loss has its own.
    fn seeds(&self, dims: [usize; 2], is_loss: bool, count: i64) -> Result<f64, RuntimeError> {
        if is_loss {
            return Ok(0.0);
        }
        let parts: Vec<_> = (0..count).map(|_| seed_parts(dims, self.pool, self.backend)).collect();
        let run = || parts.into_iter().for_each(|(leaf, value, upstream)| run_seed(&leaf, value, upstream));
        Ok(timed(self.backend, run)?.1)
    }

    /// Time of `count` sums of two gradients, beside an addition.
    fn joins(&self, count: i64) -> Result<f64, RuntimeError> {
        let Some(dims) = self.joined() else { return Ok(0.0) };
        let pairs: Vec<_> = (0..count).map(|_| (self.numbers(dims), self.numbers(dims))).collect();
        let sum = || pairs.into_iter().map(|(left, right)| left + right).collect::<Vec<_>>();
        Ok(timed(self.backend, sum)?.1)
    }
}
