//! Sharding by operator: one strategy a node on a mesh of one or two axes, chosen by an integer program.
//!
//! A strategy is a rule of splitting along each axis ([`cutplane_graph::sharding`]: batch, column, row, heads, sequence,
//! context, expert, vocabulary, ...) and what of the state of the parameters is sharded over the ranks that hold them alike
//! (ZeRO). Minimised is the time of a step: computation on the shapes that the rules leave, exchanges inside operators,
//! resharding of values and gradients between operators, synchronisation of parameters, update; one after the other, nothing
//! overlaps. A device must hold parameters, gradients, optimizer state, kept activations and workspace. The program is that
//! of intra-operator parallelism in Alpa (Zheng et al. 2022, section 4.2) in its local-polytope form.
//!
//! Equal blocks are folded ([`mod@cutplane_graph::fold`]): all copies of an operator are one node of the table and are treated
//! alike, so depth costs nothing. The optimum ranges over the plans that do so; a linear program over the fractions of copies
//! gives a bound for all others beside it.
//!
//! | searcher | proves |
//! |---|---|
//! | [`BeamSharder`] (with one state: greedy) | nothing |
//! | `IlpSharder` (feature `ilp`) | a bound; which memory limit is the smallest that fits |
//! | [`ExhaustiveSharder`] | optimality; refuses large tables |

mod account;
mod beam;
mod build;
mod error;
mod exchange;
mod exhaustive;
mod fold;
#[cfg(feature = "ilp")]
mod ilp;
mod mesh;
mod outcome;
mod plan;
mod price;
mod problem;
mod strategy;
mod table;

pub use account::{Account, AxisTraffic};
pub use beam::BeamSharder;
pub use build::ShardModel;
pub use error::ShardError;
pub use exhaustive::{ExhaustiveSharder, MOST_ASSIGNMENTS};
#[cfg(feature = "ilp")]
pub use ilp::IlpSharder;
pub use mesh::{AXES, Axes, Mesh};
pub use outcome::{ShardOutcome, Sharder};
pub use plan::{BestSharding, ShardedBlock, ShardedOperator, Sharding, Tried, best_sharding, shard, zero_word};
pub use problem::{ShardBudget, ShardProblem};
pub use strategy::{Strategy, split_word};
pub use table::{Choice, Evaluation, Keep, MEMORY_TOLERANCE, Member, Net, Node, ShardTable};
