//! Workloads of the public device-placement benchmark: JSON graphs with given costs.
//!
//! Format (fields in brackets may be absent): `maxSizePerFPGA`, `maxFPGAs`, `maxCPUs`, `nodes` of `id`, `supportedOnFpga`,
//! `cpuLatency`, `fpgaLatency` (absent or null is allowed where no accelerator can run the node), `[isBackwardNode]`,
//! `[colorClass]`, `[size]`; `edges` of `sourceId`, `destId`, `cost`. Flags are booleans or 0 and 1. Other fields are ignored.
//! Source: <https://github.com/msr-fiddle/dnn-partitioning>.

use std::collections::BTreeMap;
use std::path::Path;

use cutplane_graph::placement::{PlacementDevices, PlacementNode, PlacementProblem};
use serde_json::{Map, Value};

use crate::error::ZooError;

/// Largest workload file read, bytes: the benchmark's are under 1 MB.
const LARGEST_FILE: u64 = 512 << 20;

/// Reads a workload file.
///
/// # Errors
/// [`ZooError`], naming the file, the node, the field and the remedy; files of the Piper benchmark are refused by name.
pub fn read_placement(path: &Path) -> Result<PlacementProblem, ZooError> {
    let io = |source| ZooError::Io { path: path.to_owned(), source };
    let origin = path.display().to_string();
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > LARGEST_FILE {
        let problem = format!("is {length} bytes long");
        return Err(refusal(&origin, "(whole file)", problem, "give a workload of at most 512 MiB"));
    }
    placement_from_str(&origin, &std::fs::read_to_string(path).map_err(io)?)
}

/// Reads a workload's text; `origin` names it in messages.
///
/// # Errors
/// As [`read_placement`].
pub fn placement_from_str(origin: &str, text: &str) -> Result<PlacementProblem, ZooError> {
    let value: Value =
        serde_json::from_str(text).map_err(|source| ZooError::Json { origin: origin.to_owned(), source })?;
    let file = Fields::new(origin, String::new(), &value)?;
    file.refuse_piper()?;
    let devices = PlacementDevices {
        accelerators: file.count("maxFPGAs")?,
        cpus: file.count("maxCPUs")?,
        accelerator_memory: file.amount("maxSizePerFPGA")?,
    };
    let (edges, costs) = edges(&file)?;
    let nodes = nodes(&file, &costs)?;
    PlacementProblem::new(devices, nodes, &edges)
        .map_err(|source| ZooError::Placement { origin: origin.to_owned(), source })
}

/// Pairs of ids, and the cost of moving each source's output.
type Edges = (Vec<(i64, i64)>, BTreeMap<i64, f64>);

fn edges(file: &Fields<'_>) -> Result<Edges, ZooError> {
    let mut pairs = Vec::new();
    let mut costs: BTreeMap<i64, f64> = BTreeMap::new();
    for (position, edge) in file.list("edges")?.iter().enumerate() {
        let edge = Fields::new(file.origin, format!("edges[{position}]"), edge)?;
        let (source, target) = (edge.id("sourceId")?, edge.id("destId")?);
        let cost = edge.amount("cost")?;
        let known = *costs.entry(source).or_insert(cost);
        if (known - cost).abs() > 1e-9 * known.max(cost) {
            let problem = format!("is {cost}, but another edge from node {source} costs {known}");
            let remedy = "all edges from one node move the same output: give them one cost";
            return Err(edge.refuse("cost", problem, remedy));
        }
        pairs.push((source, target));
    }
    Ok((pairs, costs))
}

fn nodes(file: &Fields<'_>, costs: &BTreeMap<i64, f64>) -> Result<Vec<PlacementNode>, ZooError> {
    let mut nodes = Vec::new();
    for (position, node) in file.list("nodes")?.iter().enumerate() {
        let mut node = Fields::new(file.origin, format!("nodes[{position}]"), node)?;
        let id = node.id("id")?;
        node.place = format!("node {id}");
        let on_accelerator = node.flag("supportedOnFpga", None)?;
        nodes.push(PlacementNode {
            id,
            on_accelerator,
            cpu_time: node.amount("cpuLatency")?,
            accelerator_time: if on_accelerator { node.amount("fpgaLatency")? } else { 0.0 },
            transfer_time: costs.get(&id).copied().unwrap_or(0.0),
            size: if node.map.contains_key("size") { node.amount("size")? } else { 0.0 },
            backward: node.flag("isBackwardNode", Some(false))?,
            color: node.map.get("colorClass").filter(|v| !v.is_null()).map(|_| node.id("colorClass")).transpose()?,
        });
    }
    Ok(nodes)
}

/// An object of the file, and where it stands.
struct Fields<'a> {
    origin: &'a str,
    place: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn new(origin: &'a str, place: String, value: &'a Value) -> Result<Self, ZooError> {
        let Some(map) = value.as_object() else {
            let field = if place.is_empty() { "(whole file)" } else { &place };
            return Err(refusal(origin, field, format!("is {}", kind(value)), "give an object"));
        };
        Ok(Self { origin, place, map })
    }

    fn refuse(&self, field: &str, problem: String, remedy: &str) -> ZooError {
        let place = if self.place.is_empty() { field.to_owned() } else { format!("{}: {field}", self.place) };
        refusal(self.origin, &place, problem, remedy)
    }

    fn refuse_piper(&self) -> Result<(), ZooError> {
        match ["maxDevices", "mbsInBatch", "maxMemoryPerDevice"].into_iter().find(|key| self.map.contains_key(*key)) {
            Some(key) if !self.map.contains_key("maxFPGAs") => {
                let problem = "belongs to the Piper benchmark, which has no single cost per node".to_owned();
                Err(self.refuse(
                    key,
                    problem,
                    "give a throughput or latency workload, one with maxFPGAs and cpuLatency",
                ))
            }
            _ => Ok(()),
        }
    }

    fn get(&self, field: &str, wanted: &str) -> Result<&'a Value, ZooError> {
        self.map.get(field).ok_or_else(|| self.refuse(field, "is missing".to_owned(), &format!("add {wanted}")))
    }

    fn list(&self, field: &str) -> Result<&'a [Value], ZooError> {
        let value = self.get(field, "a list")?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(field, value, "a list"))
    }

    fn wrong(&self, field: &str, value: &Value, wanted: &str) -> ZooError {
        self.refuse(field, format!("is {}", kind(value)), &format!("give {wanted}"))
    }

    fn amount(&self, field: &str) -> Result<f64, ZooError> {
        let wanted = "a finite number, 0 or more";
        let value = self.get(field, wanted)?;
        // Larger numbers would overflow in sums.
        value.as_f64().filter(|v| (0.0..=1e100).contains(v)).ok_or_else(|| self.wrong(field, value, wanted))
    }

    fn id(&self, field: &str) -> Result<i64, ZooError> {
        let value = self.get(field, "a whole number")?;
        whole(value).ok_or_else(|| self.wrong(field, value, "a whole number"))
    }

    fn count(&self, field: &str) -> Result<usize, ZooError> {
        let wanted = "a whole number, 0 or more";
        let value = self.get(field, wanted)?;
        whole(value).and_then(|v| usize::try_from(v).ok()).ok_or_else(|| self.wrong(field, value, wanted))
    }

    fn flag(&self, field: &str, default: Option<bool>) -> Result<bool, ZooError> {
        let value = match (self.map.get(field), default) {
            (None, Some(default)) => return Ok(default),
            _ => self.get(field, "true or false")?,
        };
        let number = whole(value).filter(|v| (0..=1).contains(v)).map(|v| v == 1);
        value.as_bool().or(number).ok_or_else(|| self.wrong(field, value, "true, false, 1 or 0"))
    }
}

/// A whole number, also one written as `3.0`.
fn whole(value: &Value) -> Option<i64> {
    let float = || value.as_f64().filter(|v| v.fract() == 0.0 && v.abs() < 9e15).map(|v| v as i64);
    value.as_i64().or_else(float)
}

/// A value in messages: short ones as they are, long ones by type.
fn kind(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.len() > 40 => "a text".to_owned(),
        short => short.to_string(),
    }
}

fn refusal(origin: &str, field: &str, problem: String, remedy: &str) -> ZooError {
    ZooError::Field { origin: origin.to_owned(), field: field.to_owned(), problem, remedy: remedy.to_owned() }
}
