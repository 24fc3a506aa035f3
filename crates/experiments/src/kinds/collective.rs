//! Textbook forms of collectives, and those of a library on a named cluster.

use cutplane_graph::DeviceGraph;
use cutplane_sim::network::{Collective, Fabric, Group, Library, closed_form, time};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `collective`.
pub(super) struct Formula;

impl Kind for Formula {
    fn name(&self) -> &'static str {
        "collective"
    }

    fn about(&self) -> &'static str {
        "one exchange: a textbook form on a uniform network, or a library's choice on a cluster"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            (
                "algorithm",
                "ring, tree, halving-doubling, hierarchical, parameter-server, broadcast, or nccl on a cluster",
            ),
            ("ranks", "ranks that take part"),
            ("bytes", "bytes of the whole buffer"),
            ("latency_us", "latency of a hop, us"),
            ("gb_per_s", "bandwidth of a rank in one direction, GB/s"),
            ("server_gb_per_s", "of a server's card, GB/s; that of a rank if absent"),
            ("across_gb_per_s", "of a rank between nodes, GB/s (hierarchical)"),
            ("ranks_per_node", "ranks of a node (hierarchical, nccl)"),
            ("servers", "parameter servers"),
            ("cluster", "a cluster of the catalogue (nccl)"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("seconds", "s", "time of the exchange"),
            ("algorithm_gb_per_s", "GB/s", "bytes of the buffer over the time"),
            ("bus_gb_per_s", "GB/s", "2 (p - 1) / p of it: what the busiest rank moves"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let (ranks, bytes) = (ask.count("ranks")? as usize, ask.number("bytes")?);
        let (seconds, spread) = seconds(ask, ranks, bytes)?;
        let rate = bytes / seconds / 1e9;
        let of = |seconds: f64| match metric {
            "seconds" => seconds,
            "algorithm_gb_per_s" => bytes / seconds / 1e9,
            _ => rate * 2.0 * (ranks as f64 - 1.0) / ranks as f64,
        };
        let basis = if spread.is_some() { "network model" } else { "textbook form" };
        let (low, high) = spread.map_or((None, None), |(low, high)| (Some(of(low)), Some(of(high))));
        let ends = if metric == "seconds" { (low, high) } else { (None, None) };
        Ok(Answer { value: of(seconds), low: ends.0, high: ends.1, basis: basis.to_owned() })
    }
}

fn seconds(ask: &Ask<'_>, ranks: usize, bytes: f64) -> Result<(f64, Option<(f64, f64)>), String> {
    let algorithm = ask.text("algorithm")?;
    if algorithm == "nccl" {
        let devices = cutplane_zoo::cluster(ask.text("cluster")?).map_err(|error| error.to_string())?;
        let devices = DeviceGraph::build(devices).map_err(|error| error.to_string())?;
        let fabric = Fabric::of_devices(&devices).map_err(|error| error.to_string())?;
        let each = ask.count_or("ranks_per_node", fabric.node().min(ranks) as u64)? as usize;
        let group = Group::new(ranks, each).map_err(|error| error.to_string())?;
        let found = time(Collective::AllReduce, bytes, &group, &fabric, &Library::NCCL);
        return Ok((found.seconds, Some((found.low, found.high))));
    }
    let (alpha, bandwidth) = (ask.number_or("latency_us", 0.0)? * 1e-6, ask.number("gb_per_s")? * 1e9);
    if bandwidth <= 0.0 {
        return Err(format!("'gb_per_s' is {}: write a bandwidth above zero", bandwidth / 1e9));
    }
    let seconds = match algorithm {
        "ring" => closed_form::ring_all_reduce(ranks, bytes, alpha, bandwidth),
        "tree" => closed_form::double_tree_all_reduce(ranks, bytes, alpha, bandwidth),
        "halving-doubling" => closed_form::halving_doubling(ranks, bytes, alpha, bandwidth),
        "broadcast" => closed_form::chain_broadcast(ranks, bytes, alpha, bandwidth),
        "parameter-server" => {
            let server = ask.number_or("server_gb_per_s", bandwidth / 1e9)? * 1e9;
            closed_form::parameter_server(ranks, ask.count("servers")? as usize, bytes, alpha, bandwidth, server)
        }
        "hierarchical" => {
            let each = ask.count("ranks_per_node")? as usize;
            let across = ask.number("across_gb_per_s")? * 1e9;
            closed_form::hierarchical_all_reduce(each, ranks / each, bytes, alpha, bandwidth, across)
        }
        other => return Err(format!("'algorithm' is '{other}': it is not known; see 'cutplane experiments kinds'")),
    };
    Ok((seconds, None))
}
