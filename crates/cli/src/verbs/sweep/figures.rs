//! The figures of a sweep.

use std::path::Path;

use anyhow::Result;
use cutplane_report::{
    CURVES_SIZE, Curve, Curves, DeviceMap, HeatMap, MappedDevice, MappedHost, Stack, Stacks, curves, device_map,
    device_map_size, heat_map, heat_map_size, save, stacks, stacks_size,
};
use cutplane_sim::network::{Collective, Group, Library, explain};
use cutplane_sim::planner::layouts::{Candidate, label};

use super::{GIB, Point, Sweep, memory_of, parts_of};
use crate::layouts::Question;
use crate::verbs::models::grouped;

/// Most bars that stay readable.
const MOST_BARS: usize = 16;

/// Draws what the grid can show; returns the names.
pub(super) fn draw(folder: &Path, sweep: &Sweep, points: &[Point], last: &Question) -> Result<Vec<String>> {
    let found: Vec<(&Point, &Candidate)> =
        points.iter().filter_map(|point| Some((point, point.found.as_ref().ok()?))).collect();
    let mut drawn = Vec::new();
    if found.is_empty() {
        return Ok(drawn);
    }
    let title = format!("{} on {}", last.graph.name(), sweep.cluster);
    if sweep.devices.len() > 1 {
        let name = if sweep.batch_per_device.is_some() { "weak-scaling" } else { "strong-scaling" };
        scaling(&folder.join(name), &title, name, &best_of_each(&found))?;
        pareto(&folder.join("pareto"), &title, &found, last)?;
        drawn.extend([name.to_owned(), "pareto".to_owned()]);
    }
    if sweep.vary.len() > 1 {
        map(&folder.join("heat-map"), &title, sweep, &found)?;
        drawn.push("heat-map".to_owned());
    }
    bars(folder, &title, &found, last)?;
    bandwidth(&folder.join("bus-bandwidth"), last)?;
    let best = found.iter().filter(|(point, _)| Some(&point.devices) == sweep.devices.last());
    if let Some((_, best)) = best.min_by(|a, b| a.1.seconds().total_cmp(&b.1.seconds())) {
        placed(&folder.join("devices"), &title, best, last)?;
        drawn.push("devices".to_owned());
    }
    drawn.extend(["step", "memory", "bus-bandwidth"].map(str::to_owned));
    Ok(drawn)
}

/// The fastest point of each number of devices, fewest first.
fn best_of_each<'a>(found: &[(&'a Point, &'a Candidate)]) -> Vec<(u64, &'a Candidate)> {
    let mut best: Vec<(u64, &Candidate)> = Vec::new();
    for (point, candidate) in found {
        match best.iter_mut().find(|(devices, _)| *devices == point.devices) {
            Some((_, known)) if candidate.seconds() < known.seconds() => *known = candidate,
            Some(_) => {}
            None => best.push((point.devices, candidate)),
        }
    }
    best.sort_by_key(|(devices, _)| *devices);
    best
}

fn scaling(stem: &Path, title: &str, name: &str, best: &[(u64, &Candidate)]) -> Result<()> {
    let predicted = best.iter().map(|(devices, found)| (*devices as f64, found.estimate.tokens_per_second())).collect();
    let labels = best.iter().map(|(_, found)| short(found)).collect();
    let curve = Curve { name: "best layout".to_owned(), predicted, given: Vec::new(), labels };
    let figure = Curves {
        title: &format!("{title}: {}", name.replace('-', " ")),
        subtitle: "predicted; labels name the layout",
        x_title: "devices",
        y_title: "tokens a second",
        log_x: true,
        log_y: true,
        bytes: false,
        ideal: true,
        given_name: "measured",
        curves: &[curve],
    };
    save(stem, CURVES_SIZE, |canvas| curves(canvas, &figure))?;
    Ok(())
}

/// `tp 2 pp 4 dp 8`.
fn short(found: &Candidate) -> String {
    let layout = &found.layout;
    format!("tp {} pp {} dp {}", layout.tp, layout.pp, layout.dp)
}

/// Time against what a step costs, dollars where the price of a device is known, else device-seconds: the front that no
/// other point beats in both, and the other points.
fn pareto(stem: &Path, title: &str, found: &[(&Point, &Candidate)], last: &Question) -> Result<()> {
    let price = last.asked.dollars_per_device_hour;
    let cost = |devices: u64, found: &Candidate| devices as f64 * found.seconds() * price.map_or(1.0, |p| p / 3600.0);
    let mut points: Vec<(f64, f64, u64)> =
        found.iter().map(|(point, found)| (found.seconds(), cost(point.devices, found), point.devices)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut front = Curve { name: "best of both".to_owned(), ..Curve::default() };
    let mut least = f64::INFINITY;
    for (seconds, cost, devices) in points {
        if cost < least {
            least = cost;
            front.predicted.push((seconds, cost));
            front.labels.push(format!("{devices} devices"));
        } else {
            front.given.push((seconds, cost));
        }
    }
    let figure = Curves {
        title: &format!("{title}: time against cost"),
        subtitle: "predicted; each point of the grid is the best layout with its decisions fixed",
        x_title: "time of a step (s)",
        y_title: if price.is_some() { "dollars a step" } else { "device-seconds a step" },
        log_x: true,
        log_y: false,
        bytes: false,
        ideal: false,
        given_name: "beaten in both",
        curves: &[front],
    };
    save(stem, CURVES_SIZE, |canvas| curves(canvas, &figure))?;
    Ok(())
}

/// Throughput on the last number of devices over the first two varied decisions, the best of the others.
fn map(stem: &Path, title: &str, sweep: &Sweep, found: &[(&Point, &Candidate)]) -> Result<()> {
    let (x, y) = (&sweep.vary[0], &sweep.vary[1]);
    let mut cells: Vec<(usize, usize, f64)> = Vec::new();
    for (point, candidate) in found.iter().filter(|(point, _)| Some(&point.devices) == sweep.devices.last()) {
        let place = |at: usize, values: &[String]| values.iter().position(|value| *value == point.pins[at].1);
        let (Some(column), Some(row)) = (place(0, &x.values), place(1, &y.values)) else { continue };
        let value = candidate.estimate.tokens_per_second();
        match cells.iter_mut().find(|cell| (cell.0, cell.1) == (column, row)) {
            Some(cell) => cell.2 = cell.2.max(value),
            None => cells.push((column, row, value)),
        }
    }
    let texts: Vec<String> = cells.iter().map(|cell| grouped(cell.2.round() as u64)).collect();
    let devices = sweep.devices.last().copied().unwrap_or_default();
    let figure = HeatMap {
        title: &format!("{title}, {devices} devices: tokens a second"),
        subtitle: "predicted; hatched: nothing fits or divides",
        x_title: &x.name,
        y_title: &y.name,
        columns: &x.values,
        rows: &y.values,
        cells: &cells,
        texts: &texts,
    };
    save(stem, heat_map_size(x.values.len(), y.values.len()), |canvas| heat_map(canvas, &figure))?;
    Ok(())
}

/// The points that bars show, and what is said of them: all, or the fastest on the last number of devices.
fn shown<'a>(found: &[(&'a Point, &'a Candidate)]) -> (Vec<(&'a Point, &'a Candidate)>, String) {
    let mut shown = found.to_vec();
    let Some(devices) = found.last().map(|(point, _)| point.devices).filter(|_| found.len() > MOST_BARS) else {
        return (shown, "predicted".to_owned());
    };
    shown.retain(|(point, _)| point.devices == devices);
    if shown.len() <= MOST_BARS {
        return (shown, format!("predicted; on {devices} devices"));
    }
    shown.sort_by(|a, b| a.1.seconds().total_cmp(&b.1.seconds()));
    shown.truncate(MOST_BARS);
    (shown, format!("predicted; the fastest on {devices} devices"))
}

/// Where the step and the memory of the fullest device go.
fn bars(folder: &Path, title: &str, found: &[(&Point, &Candidate)], last: &Question) -> Result<()> {
    let (shown, subtitle) = shown(found);
    let alike = shown.iter().all(|(point, _)| point.devices == shown[0].0.devices && !point.pins.is_empty());
    let names =
        |parts: Vec<(&'static str, f64)>| -> Vec<String> { parts.into_iter().map(|part| part.0.to_owned()).collect() };
    let stack = |of: fn(&Candidate) -> Vec<(&'static str, f64)>| -> Vec<Stack> {
        let one = |(point, candidate): &(&Point, &Candidate)| Stack {
            name: if alike { point.pins_text() } else { point.name() },
            values: of(candidate).into_iter().map(|part| part.1).collect(),
        };
        shown.iter().map(one).collect()
    };
    let (steps, memories) = (stack(parts_of), stack(memory_of));
    let time = Stacks {
        title: &format!("{title}: where a step goes"),
        subtitle: &subtitle,
        y_title: "time (s)",
        parts: &names(parts_of(shown[0].1)),
        stacks: &steps,
        limit: None,
    };
    save(&folder.join("step"), stacks_size(shown.len()), |canvas| stacks(canvas, &time))?;
    let memory = Stacks {
        title: &format!("{title}: memory of the fullest device"),
        subtitle: &subtitle,
        y_title: "GiB",
        parts: &names(memory_of(shown[0].1)),
        stacks: &memories,
        limit: Some((last.device.memory().as_f64() / GIB, "memory of a device")),
    };
    save(&folder.join("memory"), stacks_size(shown.len()), |canvas| stacks(canvas, &memory))?;
    Ok(())
}

/// Bus bandwidth of an all-reduce against the size of its message, for groups of each power of two.
fn bandwidth(stem: &Path, last: &Question) -> Result<()> {
    let fabric = &last.fabric;
    let mut all = Vec::new();
    let mut ranks = 2;
    while ranks <= fabric.ranks() {
        if let Ok(group) = Group::new(ranks, fabric.node().min(ranks)) {
            let at = |power: i32| {
                let bytes = 2f64.powi(power);
                let found = explain(Collective::AllReduce, bytes, &group, fabric, &Library::NCCL);
                (bytes, found.bus_bandwidth / 1e9)
            };
            let predicted = (12..=32).step_by(2).map(at).collect();
            all.push(Curve { name: format!("{ranks} devices"), predicted, ..Curve::default() });
        }
        ranks *= 2;
    }
    let figure = Curves {
        title: &format!("All-reduce on {}", fabric.name()),
        subtitle: "predicted bus bandwidth, as nccl-tests define it",
        x_title: "message",
        y_title: "GB/s",
        log_x: true,
        log_y: false,
        bytes: true,
        ideal: false,
        given_name: "measured",
        curves: &all,
    };
    save(stem, CURVES_SIZE, |canvas| curves(canvas, &figure))?;
    Ok(())
}

/// The devices with the best layout on them: tensor parallelism innermost, then context, data, pipeline.
fn placed(stem: &Path, title: &str, best: &Candidate, last: &Question) -> Result<()> {
    let (layout, node) = (&best.layout, last.fabric.node().max(1));
    let used = layout.devices() as usize;
    let (tp, cp, dp) = (layout.tp as usize, layout.cp as usize, layout.dp as usize);
    let device = |rank: usize| MappedDevice {
        text: format!("dp {} tp {}", rank / (tp * cp) % dp, rank % tp),
        stage: rank / (tp * cp * dp),
    };
    let host = |at: usize| MappedHost {
        name: format!("host {at}"),
        devices: (at * node..((at + 1) * node).min(used)).map(device).collect(),
    };
    let hosts: Vec<MappedHost> = (0..used.div_ceil(node)).map(host).collect();
    let levels = last.fabric.levels().iter().find(|level| level.interconnect.crosses_nodes());
    let network = levels.map_or("none".to_owned(), |level| {
        format!("{:?}, {} x {:.0} Gb/s a host", level.interconnect, level.ports, level.bandwidth * 8e-9)
    });
    let subtitle = label(layout);
    let figure = DeviceMap {
        title: &format!("{title}: the best layout"),
        subtitle: &subtitle,
        network: &network,
        hosts: &hosts,
    };
    save(stem, device_map_size(&hosts), |canvas| device_map(canvas, &figure))?;
    Ok(())
}
