//! What communication costs: closed forms of collectives on nested domains, and searches on irregular topologies.
//!
//! - [`Fabric`] describes the interconnect level by level; [`Group`] says which ranks take part; [`Library`] which software
//!   moves the bytes. [`time`] answers in a closed form without allocating; [`explain`] says how the answer came about.
//! - [`topology`] packs trees and searches rings over direct links; [`ring_slowdowns`] shares routed links fairly.
//! - [`fit`](mod@fit) calibrates a fabric on measured rows, with priors.
//! - [`traffic`] counts what the parallel axes send; [`closed_form`] holds the textbook formulas by themselves.
//!
//! ```
//! use cutplane_sim::network::{Collective, Fabric, Group, Interconnect, Level, Library, time};
//! let fabric = Fabric::new("dgx-a100 x4", vec![
//!     Level::new(Interconnect::NvSwitch(3), 8, 300e9),
//!     Level::new(Interconnect::InfiniBand, 32, 25e9).ports(8),
//! ])?;
//! let inside = time(Collective::AllReduce, 1e9, &Group::new(8, 8)?, &fabric, &Library::NCCL);
//! let across = time(Collective::AllReduce, 1e9, &Group::new(32, 8)?, &fabric, &Library::NCCL);
//! assert!(inside.seconds < across.seconds);
//! # Ok::<(), cutplane_sim::network::NetworkError>(())
//! ```

pub mod closed_form;
mod collective;
mod error;
mod fabric;
mod fair;
pub mod fit;
mod from_devices;
mod group;
mod library;
mod messages;
mod nccl;
mod path;
pub mod topology;
pub mod traffic;

pub use collective::Collective;
pub use error::NetworkError;
pub use fabric::{Fabric, Interconnect, Level, MOST_LEVELS};
pub use fair::{Use, max_min_rates, ring_slowdowns, ring_use};
pub use group::Group;
pub use library::{Library, LibraryKind};
pub use nccl::{Algorithm, Protocol};

use messages::ByMessages;
use nccl::{Nccl, Way};
use path::Path;

/// A predicted time with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// The prediction, s.
    pub seconds: f64,
    /// Lower end of what holds about nine of ten measurements, s.
    pub low: f64,
    /// Upper end of it, s.
    pub high: f64,
    /// Whether the question lies outside of what the model was checked on.
    pub extrapolates: bool,
}

/// How a collective is carried out, and what its time is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explanation {
    /// The algorithm chosen.
    pub algorithm: Algorithm,
    /// The protocol chosen.
    pub protocol: Protocol,
    /// The prediction.
    pub predicted: Predicted,
    /// Part of it that does not grow with the message, s.
    pub latency: f64,
    /// Part of it that does, s.
    pub transfer: f64,
    /// Bus bandwidth as nccl-tests define it, bytes/s: what the busiest rank moves over the time; 0 for one rank.
    pub bus_bandwidth: f64,
    /// The level whose bandwidth binds a ring, if any level is used.
    pub narrowest: Option<Interconnect>,
}

/// Predicted time of one collective of `bytes` bytes (see [`Collective`] for whose) among `group` on `fabric`.
///
/// A group of one rank takes no time. A group larger than the fabric is priced as if the outermost level went on, and is
/// marked as extrapolated; so is a message above 8 GiB.
pub fn time(collective: Collective, bytes: f64, group: &Group, fabric: &Fabric, library: &Library) -> Predicted {
    explain(collective, bytes, group, fabric, library).predicted
}

/// As [`time`], with the choice that was made.
pub fn explain(collective: Collective, bytes: f64, group: &Group, fabric: &Fabric, library: &Library) -> Explanation {
    let path = Path::of(group, fabric, library);
    let way = cheapest(collective, bytes, group, &path, library);
    let busy = way.seconds();
    // One message waits for nobody but its sender.
    let floor = if collective == Collective::SendRecv { 0.0 } else { library.call_floor };
    let seconds = if busy > 0.0 { busy.max(floor) } else { 0.0 };
    let moved = collective.bus_factor(group.ranks) * bytes;
    Explanation {
        algorithm: way.algorithm,
        protocol: way.protocol,
        predicted: with_interval(seconds, bytes, &path),
        latency: way.latency,
        transfer: way.transfer,
        bus_bandwidth: if seconds > 0.0 { moved / seconds } else { 0.0 },
        narrowest: path.narrowest().map(|level| level.interconnect),
    }
}

/// All-reduce in three steps (Cho et al. 2019), as hybrid sharding does: reduce-scatter inside each node, all-reduce of a
/// share of the buffer between the nodes for every rank of a node at once, all-gather inside each node.
pub fn hierarchical_all_reduce(bytes: f64, group: &Group, fabric: &Fabric, library: &Library) -> Predicted {
    let each = group.ranks_per_node.max(1);
    let inside = Group { ranks: each, ..*group };
    let across = Group { ranks: group.nodes(), ranks_per_node: 1, simultaneous: each * group.simultaneous, ..*group };
    let steps = [
        time(Collective::ReduceScatter, bytes, &inside, fabric, library),
        time(Collective::AllReduce, bytes / each as f64, &across, fabric, library),
        time(Collective::AllGather, bytes, &inside, fabric, library),
    ];
    let sum = |part: fn(&Predicted) -> f64| steps.iter().map(part).sum();
    Predicted {
        seconds: sum(|step| step.seconds),
        low: sum(|step| step.low),
        high: sum(|step| step.high),
        extrapolates: steps.iter().any(|step| step.extrapolates),
    }
}

fn cheapest(collective: Collective, bytes: f64, group: &Group, path: &Path<'_>, library: &Library) -> Way {
    let servers = match collective {
        Collective::ParameterServer { servers, colocated } => Some((servers, colocated)),
        _ => None,
    };
    if bytes <= 0.0 || (group.ranks < 2 && servers.is_none_or(|(_, colocated)| colocated)) {
        return nccl::nothing(Algorithm::Direct);
    }
    match (servers, library.kind, library.messages()) {
        (Some((servers, colocated)), _, costs) => {
            let costs = costs.unwrap_or(library::GRPC_MESSAGES);
            messages::parameter_server(servers, colocated, bytes, group, path, costs)
        }
        (None, LibraryKind::Nccl { major, minor }, _) => {
            Nccl { path, group, version: (major, minor) }.best(collective, bytes)
        }
        (None, _, Some(costs)) => ByMessages { path, group, costs }.best(collective, bytes),
        (None, _, None) => nccl::nothing(Algorithm::Direct),
    }
}

/// Spread of measurements around the model, from the public rows: 1.25 inside nodes, 1.5 between them, where cards and
/// switches differ, and 2.5 for messages below 256 KiB, which hosts disturb.
fn with_interval(seconds: f64, bytes: f64, path: &Path<'_>) -> Predicted {
    let crosses = path.used().any(|(level, _)| level.interconnect.crosses_nodes());
    let spread = if bytes < 262_144.0 {
        2.5
    } else if crosses {
        1.5
    } else {
        1.25
    };
    let extrapolates = path.outside || bytes > 8.0 * (1u64 << 30) as f64;
    Predicted { seconds, low: seconds / spread, high: seconds * spread, extrapolates }
}
