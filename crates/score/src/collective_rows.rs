//! Rows of the workload `collective`: the network's closed forms on the interconnect that the row names.

use cutplane_sim::network::{Collective, Explanation, Fabric, Group, Library, explain};

use crate::fabrics::{Machine, catalogue_fabric, machine_of};
use crate::metric::{Bandwidth, Metric, Quantity};
use crate::prediction::{Origin, RowPrediction, Skip};
use crate::row::Workload;

/// Floor of an isolated call where no rows of the machine told it, us: the middle of the machines that were fitted.
const USUAL_FLOOR_US: f64 = 40.0;

/// What a collective row asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CollectiveQuestion<'a> {
    /// Column `hardware`.
    pub hardware: &'a str,
    /// Column `op`.
    pub op: &'a str,
    /// Column `message_bytes`.
    pub bytes: f64,
    /// Column `gpus`: ranks.
    pub ranks: usize,
    /// Column `gpus_per_node`.
    pub ranks_per_node: Option<usize>,
    /// Column `framework`: which library moved the bytes.
    pub framework: &'a str,
    /// Column `metric_name`.
    pub metric: &'a str,
    /// Column `metric_unit`.
    pub unit: &'a str,
    /// The interconnect and the floor of a call where the row's other columns or a profile tell them; machines of
    /// `data/fabrics.toml` and the catalogue otherwise.
    pub stated: Option<&'a StatedFabric>,
}

/// An interconnect that a row or a profile states.
#[derive(Clone, Debug, PartialEq)]
pub struct StatedFabric {
    /// The interconnect.
    pub fabric: Fabric,
    /// Shortest isolated call, us; `None` for the framework's usual.
    pub floor_us: Option<f64>,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a collective row means to the network model.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectiveSetting {
    /// The operation.
    pub collective: Collective,
    /// Who takes part.
    pub group: Group,
    /// On which interconnect.
    pub fabric: Fabric,
    /// Where the interconnect comes from.
    pub origin: Origin,
    /// By which software, with the floor of its calls.
    pub library: Library,
}

impl CollectiveQuestion<'_> {
    /// Reads what the question means.
    ///
    /// # Errors
    /// [`Skip`] for an operation or hardware that is not known, and for ranks that the nodes do not divide.
    pub fn setting(&self) -> Result<CollectiveSetting, Skip> {
        let collective = collective_of(self.op)?;
        let known = machine_of(self.hardware);
        let (fabric, origin) = match self.stated {
            Some(stated) => (stated.fabric.clone(), stated.origin.clone()),
            None => fabric_of(self.hardware, known)?,
        };
        let known = known.filter(|_| self.stated.is_none());
        let node = known.and_then(Machine::usual_ranks_per_node).unwrap_or(fabric.node());
        let group = Group::new(self.ranks, self.ranks_per_node.unwrap_or(node.min(self.ranks)))
            .map_err(|error| Skip::new("impossible-group", error.to_string()))?;
        let floor = self.stated.and_then(|stated| stated.floor_us).unwrap_or_else(|| floor_us(self.framework, known));
        let library = library_of(self.framework).isolated(floor * 1e-6);
        Ok(CollectiveSetting { collective, group, fabric, origin, library })
    }
}

/// Predicts a collective row in the row's own unit.
///
/// # Errors
/// [`Skip`] for an operation, metric, unit or hardware that is not known, and for ranks that the nodes do not divide.
pub fn predict_collective(question: &CollectiveQuestion<'_>) -> Result<RowPrediction, Skip> {
    let CollectiveSetting { collective, group, fabric, origin, library } = question.setting()?;
    let explained = explain(collective, question.bytes, &group, &fabric, &library);
    let mut prediction = in_unit(question, &explained)?;
    prediction.extrapolates = explained.predicted.extrapolates;
    let way = format!("{:?} {:?}", explained.algorithm, explained.protocol);
    prediction.note("algorithm and protocol", way, Origin::Assumed);
    prediction.note("bus bandwidth", format!("{:.1} GB/s", explained.bus_bandwidth / 1e9), origin.clone());
    prediction.note("interconnect", fabric.name(), origin.clone());
    prediction.note("floor of a call", format!("{:.1} us", library.call_floor * 1e6), origin);
    Ok(prediction)
}

fn collective_of(op: &str) -> Result<Collective, Skip> {
    // What stands in brackets is the algorithm.
    let head = op.split('(').next().unwrap_or(op);
    let plain: String = head.chars().filter(char::is_ascii_alphanumeric).collect();
    Ok(match plain.to_ascii_lowercase().as_str() {
        "allreduce" => Collective::AllReduce,
        "allgather" => Collective::AllGather,
        "reducescatter" => Collective::ReduceScatter,
        "broadcast" => Collective::Broadcast,
        "reduce" => Collective::Reduce,
        "alltoall" => Collective::AllToAll,
        "sendrecv" | "p2p" => Collective::SendRecv,
        "gather" | "scatter" => Collective::Gather,
        _ => return Err(Skip::new("unknown-collective", op)),
    })
}

fn fabric_of(hardware: &str, known: Option<&'static Machine>) -> Result<(Fabric, Origin), Skip> {
    let unknown = || Skip::new("unknown-hardware", format!("'{hardware}' is no machine or device of the catalogue"));
    match known {
        Some(machine) => {
            let fabric = machine.fabric().map_err(|error| Skip::new("impossible-fabric", error.to_string()))?;
            let rows = "a seeded tenth of vidur_collectives (data/fabrics.toml)".into();
            Ok((fabric, if machine.fitted { Origin::Calibrated { rows } } else { Origin::Assumed }))
        }
        None => catalogue_fabric(hardware).map(|(fabric, _)| (fabric, Origin::Datasheet)).ok_or_else(unknown),
    }
}

/// Isolated calls from a framework have a floor; benchmarks that keep a queue of calls filled do not.
fn floor_us(framework: &str, known: Option<&Machine>) -> f64 {
    match known {
        Some(machine) => machine.floor_us,
        None if framework.contains("torch") => USUAL_FLOOR_US,
        None => 0.0,
    }
}

/// The library that a framework column names; NCCL where it names none.
fn library_of(framework: &str) -> Library {
    let lower = framework.to_ascii_lowercase();
    let has = |word: &str| lower.contains(word);
    match () {
        () if has("nccl") => nccl_version(&lower).map_or(Library::NCCL, |(major, minor)| Library::nccl(major, minor)),
        () if has("mlsl") => Library::MLSL,
        // Buffers of accelerators pass through host memory.
        () if has("baidu") || has("osu") => Library::STAGED_MPI,
        () if has("gloo") => Library::GLOO,
        () if has("grpc") => Library::GRPC,
        () if has("mpi") => Library::MPI,
        () => Library::NCCL,
    }
}

/// `nccl 2.18.3` gives `(2, 18)`.
fn nccl_version(framework: &str) -> Option<(u8, u8)> {
    let (_, after) = framework.split_once("nccl")?;
    let digits = after.trim_start_matches([' ', '-', 'v']);
    let mut parts = digits.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn in_unit(question: &CollectiveQuestion<'_>, explained: &Explanation) -> Result<RowPrediction, Skip> {
    let predicted = explained.predicted;
    let metric = Metric::parse(question.metric, question.unit, Workload::Collective)?;
    let moved = match metric.quantity {
        Quantity::CollectiveTime => {
            let of = |seconds: f64| metric.in_unit(seconds);
            return Ok(RowPrediction::new(of(predicted.seconds), of(predicted.low), of(predicted.high)));
        }
        Quantity::CollectiveBandwidth { of: Bandwidth::Bus } => explained.bus_bandwidth * predicted.seconds,
        Quantity::CollectiveBandwidth { of: Bandwidth::Algorithm } => question.bytes,
        Quantity::CollectiveBandwidth { of: Bandwidth::AllRanks } => question.bytes * question.ranks as f64,
        _ => return Err(Skip::new("unknown-metric", question.metric)),
    };
    if predicted.seconds <= 0.0 {
        return Err(Skip::new("impossible-group", "one rank has no bandwidth"));
    }
    let rate = |seconds: f64| metric.in_unit(moved / seconds);
    Ok(RowPrediction::new(rate(predicted.seconds), rate(predicted.high), rate(predicted.low)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test may panic, and units are exact")]
mod tests {
    use super::*;

    const QUESTION: CollectiveQuestion<'_> = CollectiveQuestion {
        hardware: "H100 80GB HBM3",
        op: "all_reduce",
        bytes: 1e9,
        ranks: 16,
        ranks_per_node: Some(8),
        framework: "nccl-tests 2.19",
        metric: "time",
        unit: "ms",
        stated: None,
    };

    #[test]
    fn one_question_in_every_unit() {
        let answer = |metric, unit| {
            predict_collective(&CollectiveQuestion { metric, unit, ..QUESTION }).unwrap().predicted.unwrap()
        };
        let seconds = answer("time", "s");
        assert_eq!((answer("time (median)", "ms"), answer("latency", "us")), (seconds * 1e3, seconds * 1e6));
        assert!((answer("algbw", "GB/s") - 1.0 / seconds).abs() < 1e-9);
        assert!((answer("busbw", "GB/s") - 1.875 / seconds).abs() < 1e-9);
    }

    #[test]
    fn an_interval_of_a_bandwidth_is_turned_round() {
        let answer = predict_collective(&CollectiveQuestion { metric: "busbw", unit: "GB/s", ..QUESTION }).unwrap();
        assert!(answer.low < answer.predicted && answer.predicted < answer.high);
    }

    #[test]
    fn what_cannot_be_represented_is_skipped_by_name() {
        let reason = |question| predict_collective(&question).unwrap_err().reason;
        assert_eq!(reason(CollectiveQuestion { op: "scan", ..QUESTION }), "unknown-collective");
        assert_eq!(reason(CollectiveQuestion { hardware: "Quantum 9", ..QUESTION }), "unknown-hardware");
        assert_eq!(reason(CollectiveQuestion { ranks: 12, ..QUESTION }), "impossible-group");
        assert_eq!(reason(CollectiveQuestion { metric: "jitter", ..QUESTION }), "unknown-metric");
        assert_eq!(reason(CollectiveQuestion { unit: "days", ..QUESTION }), "unknown-unit");
    }

    #[test]
    fn libraries_are_read_from_the_framework() {
        assert_eq!(library_of("NCCL 2.0 MPI"), Library::nccl(2, 0));
        assert_eq!(library_of("nccl v2.21.5"), Library::nccl(2, 21));
        assert_eq!(library_of("torch.distributed NCCL"), Library::NCCL);
        assert_eq!(library_of("Baidu RingAllReduce"), Library::STAGED_MPI);
        assert_eq!(library_of("Intel MLSL"), Library::MLSL);
        assert_eq!(library_of(""), Library::NCCL);
    }
}
