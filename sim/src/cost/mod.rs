//! The cost model: what one operator, message or collective costs on one device.
//!
//! A ladder of two rungs, simplest first: [`Roofline`] prices from a datasheet (peak, bandwidth, launch overhead),
//! [`Profiled`] from a measured [`cutplane_record::DeviceProfile`]. Both answer the same questions; [`stage`] adds the
//! answers up for a stretch of operators, and [`memory`] says what a stage keeps.

pub mod collective;
mod curve;
mod error;
mod links;
pub mod memory;
mod profiled;
mod roofline;
pub mod stage;

use cutplane_graph::{Device, DeviceGraph, DeviceId, Dtype, ModelGraph, OpId, Pass, Route};
use cutplane_plan::Optimizer;
use cutplane_units::{Bytes, Nanos};

pub use error::CostError;
pub use profiled::Profiled;
pub use roofline::Roofline;

/// Busy time of a device, split by what bounds it, because ranks that share a host slow each other down differently in
/// the two parts. The total is what the work takes alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkTime {
    /// Bound by arithmetic.
    pub compute: Nanos,
    /// Bound by memory traffic, and fixed overhead.
    pub memory: Nanos,
}

impl WorkTime {
    /// Time when nothing else runs on the host.
    pub fn alone(self) -> Nanos {
        self.compute + self.memory
    }

    /// Half of the work, rounded up.
    #[must_use]
    pub fn halved(self) -> Self {
        let half = |time: Nanos| Nanos::new(time.get().div_ceil(2));
        Self { compute: half(self.compute), memory: half(self.memory) }
    }
}

impl std::ops::Add for WorkTime {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { compute: self.compute + other.compute, memory: self.memory + other.memory }
    }
}

impl std::iter::Sum for WorkTime {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), std::ops::Add::add)
    }
}

/// Factors (at least 1) by which the two parts of a [`WorkTime`] stretch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contention {
    /// For the compute-bound part.
    pub compute: f64,
    /// For the memory-bound part.
    pub memory: f64,
}

/// The time of an all-reduce of some group by its payload.
pub type AllReduces<'c> = Box<dyn Fn(Bytes) -> Result<Nanos, CostError> + 'c>;

/// Prices for the work of a plan. One question a method; work that cannot be priced is an error, never a guess.
pub trait CostModel: Sync {
    /// Name for tables: `roofline`, `profiled`.
    fn name(&self) -> &'static str;

    /// One operator on a micro-batch of `batch` samples, alone on `device`.
    ///
    /// # Errors
    /// [`CostError`] when the model has no price for it.
    fn op(
        &self,
        model: &ModelGraph,
        op: OpId,
        pass: Pass,
        batch: u64,
        precision: Dtype,
        device: &Device,
    ) -> Result<WorkTime, CostError>;

    /// Fixed cost of starting one pass of a segment, and of the vector-Jacobian product at its boundary: `boundary` is
    /// the size of the segment's outputs that gradients come back for (zero for the last stage, which starts from the
    /// loss).
    ///
    /// # Errors
    /// As [`CostModel::op`].
    fn segment(&self, pass: Pass, boundary: Bytes, device: &Device) -> Result<WorkTime, CostError>;

    /// Time that the sender's device spends on handing over a message (a copy to a buffer, a launch).
    ///
    /// # Errors
    /// As [`CostModel::op`].
    fn send(&self, payload: Bytes, device: &Device) -> Result<Nanos, CostError>;

    /// Time that the receiver's device spends on taking a message that is there.
    ///
    /// # Errors
    /// As [`CostModel::op`].
    fn recv(&self, payload: Bytes, device: &Device) -> Result<Nanos, CostError>;

    /// Latency and bandwidth of a message on a route between two devices, alone: `(latency, time at full bandwidth)`.
    ///
    /// # Errors
    /// As [`CostModel::op`].
    fn wire(&self, payload: Bytes, route: &Route, from: &Device, to: &Device) -> Result<(Nanos, Nanos), CostError>;

    /// An all-reduce once all its devices have arrived.
    ///
    /// # Errors
    /// As [`CostModel::op`].
    fn all_reduce(&self, payload: Bytes, group: &[DeviceId], devices: &DeviceGraph) -> Result<Nanos, CostError>;

    /// The all-reduces of one group, for many payloads: what the group alone decides is looked up once.
    ///
    /// # Errors
    /// As [`CostModel::op`].
    fn all_reduces<'c>(&'c self, group: Vec<DeviceId>, devices: &'c DeviceGraph) -> Result<AllReduces<'c>, CostError> {
        Ok(Box::new(move |payload| self.all_reduce(payload, &group, devices)))
    }

    /// An optimizer step over tensors of the given numbers of elements.
    ///
    /// # Errors
    /// As [`CostModel::op`].
    fn optimizer(&self, optimizer: Optimizer, tensors: &[u64], device: &Device) -> Result<WorkTime, CostError>;

    /// Putting the inputs of a micro-batch on the device.
    ///
    /// # Errors
    /// As [`CostModel::op`].
    fn load(&self, payload: Bytes, device: &Device) -> Result<Nanos, CostError>;

    /// Slowdown of a device while `busy` devices of its host (itself included) work at once.
    fn contention(&self, device: &Device, busy: usize) -> Contention;

    /// Whether communication runs beside computation on `device`. A CPU rank is one thread and does one thing at a time.
    fn overlaps(&self, device: &Device) -> bool;
}
