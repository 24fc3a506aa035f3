//! Training plans over unlike devices: how many devices of each class, which layers and which share of the batch they take.
//!
//! Devices are counted by class, never named: that equal devices can trade places costs the search nothing. Two kinds of
//! plans are searched, and the better one is the answer:
//!
//! - **pipelines over classes**: every replica is the same pipeline under 1F1B, each of its stages lies on devices of one
//!   class, and stages hold any number of layers. Tensor, context and expert parallelism, replicas, sharding and the
//!   micro-batch are common to all stages; what is recomputed (nothing, the attention core, some layers, all) is each
//!   stage's own.
//! - **unlike replicas**: each class trains replicas of its own on a share of the batch, each class with a layout of its own
//!   from the whole space of [`search`](fn@super::search). Shares are multiples of a fraction of the batch
//!   ([`MOST_SHARES`]).
//!
//! A pipeline's step takes `T + (m - 1) B + A` as in [`crate::planner::estimate`], with stage times of
//! [`crate::estimate`]: `T` is the sum of the stages' times and of messages both ways, `B` the slowest stage or message, `A`
//! the longest synchronisation and update of a stage. Unlike replicas take the slowest class's step, and then the exchange
//! of gradients between classes.
//!
//! [`search`](fn@search) is exact over both kinds: best bound first over layouts, and for each of them a dynamic program
//! over layers and counts of devices inside windows of `B` and `A` ([`exhaustive`](fn@exhaustive) tries everything, for
//! tests). [`pareto`](fn@pareto) answers for devices against time, [`sensitivities`] says what alternatives cost, and
//! [`violations`] checks a plan and shares no code with the search.

mod bound;
mod chain;
mod check;
mod devices;
mod exhaustive;
mod infeasible;
mod pareto;
mod pipelines;
mod plan;
mod problem;
mod ranked;
mod replicas;
mod search;
mod sensitivity;
mod stages;

pub use check::violations;
pub use devices::{DeviceClass, device_classes};
pub use exhaustive::exhaustive;
pub use pareto::pareto;
pub use plan::{ClassShare, ClassStage, MIXED_FORMAT, MIXED_VERSION, MixedOutcome, MixedPlan, MixedShape};
pub use problem::{Joint, MOST_CLASSES, MOST_SHARES, MOST_STAGES, MixedClass, MixedProblem};
pub use search::search;
pub use sensitivity::sensitivities;
