//! What the direct links of a machine carry: packed trees against rings, for every subset of its devices.

use cutplane_graph::{DeviceGraph, DeviceId, LinkKind};
use cutplane_sim::network::topology::{Topology, find_rings};
use cutplane_zoo::topology::{Machine, machine, machines};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `links`.
pub(super) struct Links;

impl Kind for Links {
    fn name(&self) -> &'static str {
        "links"
    }

    fn about(&self) -> &'static str {
        "packed trees against rings over the NVLinks of a machine, of one subset of its devices or all of a size"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("machine", "a machine of the catalogue: dgx-1p, dgx-1v"),
            ("devices", "positions of the devices in the machine: [0, 1, 4]"),
            ("subset_size", "all subsets of so many devices, in place of 'devices'"),
            ("fall_back_gb_per_s", "what a library reaches over PCIe when no ring fits, GB/s of buffer"),
            ("operation", "broadcast or all-reduce"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("tree_gb_per_s", "GB/s", "bytes of the buffer a second over packed trees; of subsets, the mean"),
            ("ring_gb_per_s", "GB/s", "over the most rings that share no link, or the fall-back; of subsets, the mean"),
            ("gain", "-", "trees over rings; of subsets, the geometric mean"),
            ("largest_gain", "-", "trees over rings, of the subset that gains most"),
            ("smallest_gain", "-", "trees over rings, of the subset that gains least"),
            ("without_ring", "-", "share of the subsets that have trees but no ring"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let machine = known(ask.text("machine")?)?;
        let spec = machine.cluster().map_err(|error| error.to_string())?;
        let graph = DeviceGraph::build(spec).map_err(|error| error.to_string())?;
        let broadcast = match ask.text_or("operation", "all-reduce")? {
            "broadcast" => true,
            "all-reduce" => false,
            other => return Err(format!("'operation' is '{other}': write broadcast or all-reduce")),
        };
        let fall_back = ask.number("fall_back_gb_per_s")?;
        let mut found = Vec::new();
        for group in groups(ask, graph.devices().len())? {
            let topology = Topology::of(&group, LinkKind::Nvlink, &graph).map_err(|error| error.to_string())?;
            found.extend(Rates::of(&topology, machine, broadcast, fall_back));
        }
        if found.is_empty() {
            return Err("'devices': NVLinks do not join them: name devices that they do".to_owned());
        }
        Ok(Answer::exact(value(metric, &found), "least cuts and ring search over the links"))
    }
}

fn known(name: &str) -> Result<&'static Machine, String> {
    let names = || machines().iter().map(|machine| machine.name.as_str()).collect::<Vec<_>>().join(", ");
    machine(name).ok_or_else(|| format!("'machine' is '{name}': there are {}", names()))
}

/// The subsets asked for.
fn groups(ask: &Ask<'_>, devices: usize) -> Result<Vec<Vec<DeviceId>>, String> {
    let ids = |positions: &mut dyn Iterator<Item = usize>| positions.map(DeviceId::new).collect::<Vec<_>>();
    if let Some(list) = ask.list("devices")? {
        if let Some(wrong) = list.iter().find(|at| at.fract() != 0.0 || !(0.0..devices as f64).contains(*at)) {
            return Err(format!("'devices': {wrong} is no position from 0 to {}", devices - 1));
        }
        return Ok(vec![ids(&mut list.iter().map(|at| *at as usize))]);
    }
    let size = ask.count("subset_size")? as u32;
    let subsets = (0_u64..1 << devices).filter(|mask| mask.count_ones() == size);
    Ok(subsets.map(|mask| ids(&mut (0..devices).filter(|at| mask >> at & 1 == 1))).collect())
}

/// Rates of one subset, GB/s.
struct Rates {
    tree: f64,
    ring: f64,
    has_ring: bool,
}

impl Rates {
    /// `None` where the links do not join all devices.
    fn of(topology: &Topology, machine: &Machine, broadcast: bool, fall_back: f64) -> Option<Self> {
        let tree = if broadcast { topology.broadcast_rate(0) } else { topology.all_reduce_rate() };
        let rings = find_rings(topology, machine.nvlink_gb_per_s * 1e9).bus_bandwidth();
        let ranks = topology.len() as f64;
        let carried = if broadcast { rings } else { rings * ranks / (2.0 * (ranks - 1.0)) };
        let ring = if rings > 0.0 { carried / 1e9 } else { fall_back };
        (tree > 0.0).then_some(Self { tree: tree / 1e9, ring, has_ring: rings > 0.0 })
    }

    /// A library that packs trees would fall back too.
    fn gain(&self) -> f64 {
        self.tree / self.ring
    }
}

fn value(metric: &str, found: &[Rates]) -> f64 {
    let mean = |of: fn(&Rates) -> f64| found.iter().map(of).sum::<f64>() / found.len() as f64;
    match metric {
        "tree_gb_per_s" => mean(|rates| rates.tree),
        "ring_gb_per_s" => mean(|rates| rates.ring),
        "gain" => mean(|rates| rates.gain().ln()).exp(),
        "largest_gain" => found.iter().map(Rates::gain).fold(0.0, f64::max),
        "smallest_gain" => found.iter().map(Rates::gain).fold(f64::INFINITY, f64::min),
        _ => mean(|rates| f64::from(u8::from(!rates.has_ring))),
    }
}
