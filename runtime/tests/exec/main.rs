//! The executor: every plan trains as the unpartitioned model does; failures end a run; timelines are whole.

use cutplane_runtime::memory::TrackingAllocator;

#[global_allocator]
static ALLOCATOR: TrackingAllocator = TrackingAllocator::system();

mod card;
mod equality;
mod executions;
mod experts;
mod failures;
mod families;
mod generated;
#[cfg(feature = "mpi")]
mod mpi;
mod plans;
mod precision;
mod resume;
mod served;
mod timelines;
