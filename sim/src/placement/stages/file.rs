//! Workload files of the Piper benchmark: JSON, see <https://github.com/msr-fiddle/piper>. Other fields are ignored.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{LayerVariant, StagedLayer, StagesError, StagesProblem};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    max_devices: u64,
    max_memory_per_device: f64,
    bandwidth: f64,
    mbs_in_batch: u64,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
struct Node {
    id: i64,
    #[serde(default)]
    name: String,
    #[serde(rename = "TMPCs")]
    variants: BTreeMap<u64, Vec<Variant>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Variant {
    id: String,
    time_per_sample: f64,
    parameter_size: f64,
    memory_usage_a: f64,
    memory_usage_b: f64,
    sync_time_fw: BTreeMap<i64, f64>,
    sync_time_bw: BTreeMap<i64, f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edge {
    source_id: i64,
    dest_id: i64,
    communication_cost: f64,
}

/// Reads a workload file.
///
/// # Errors
/// [`StagesError`], naming the file and the field.
pub fn read_stages_problem(path: &Path) -> Result<StagesProblem, StagesError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| StagesError::Io { path: path.to_owned(), source })?;
    stages_problem_from_str(&path.display().to_string(), &text)
}

/// Reads a workload's text; `origin` names it in messages.
///
/// # Errors
/// As [`read_stages_problem`].
pub fn stages_problem_from_str(origin: &str, text: &str) -> Result<StagesProblem, StagesError> {
    let file: File =
        serde_json::from_str(text).map_err(|source| StagesError::Json { origin: origin.to_owned(), source })?;
    let ids = Ids::new(origin, &file.nodes)?;
    let layer = |node: &Node| -> Result<StagedLayer, StagesError> {
        let variant = |own: &Variant| -> Result<LayerVariant, StagesError> {
            Ok(LayerVariant {
                name: own.id.clone(),
                seconds: own.time_per_sample,
                weight_bytes: own.parameter_size,
                bytes_per_micro_batch: own.memory_usage_a,
                bytes: own.memory_usage_b,
                sync_in: ids.keyed(&own.sync_time_fw)?,
                sync_out: ids.keyed(&own.sync_time_bw)?,
            })
        };
        let degree = |(degree, list): (&u64, &Vec<Variant>)| {
            Ok((*degree, list.iter().map(variant).collect::<Result<Vec<_>, StagesError>>()?))
        };
        let variants = node.variants.iter().map(degree).collect::<Result<_, StagesError>>()?;
        Ok(StagedLayer { name: format!("{} {}", node.name, node.id), variants })
    };
    let edge = |edge: &Edge| Ok((ids.at(edge.source_id)?, ids.at(edge.dest_id)?, edge.communication_cost));
    let problem = StagesProblem {
        devices: file.max_devices,
        memory: file.max_memory_per_device,
        bandwidth: file.bandwidth,
        micro_batches: Some(file.mbs_in_batch),
        layers: file.nodes.iter().map(layer).collect::<Result<_, _>>()?,
        edges: file.edges.iter().map(edge).collect::<Result<_, _>>()?,
    };
    problem.check()?;
    Ok(problem)
}

/// Positions of nodes by their ids.
struct Ids<'a> {
    origin: &'a str,
    positions: BTreeMap<i64, usize>,
}

impl<'a> Ids<'a> {
    fn new(origin: &'a str, nodes: &[Node]) -> Result<Self, StagesError> {
        let mut positions = BTreeMap::new();
        for (position, node) in nodes.iter().enumerate() {
            if positions.insert(node.id, position).is_some() {
                let problem = "is there twice: give every node its own id".to_owned();
                return Err(StagesError::Field {
                    origin: origin.to_owned(),
                    field: format!("node {}", node.id),
                    problem,
                });
            }
        }
        Ok(Self { origin, positions })
    }

    fn at(&self, id: i64) -> Result<usize, StagesError> {
        let unknown = || StagesError::Field {
            origin: self.origin.to_owned(),
            field: format!("node {id}"),
            problem: "is named, but not there: add it".to_owned(),
        };
        self.positions.get(&id).copied().ok_or_else(unknown)
    }

    fn keyed(&self, amounts: &BTreeMap<i64, f64>) -> Result<BTreeMap<usize, f64>, StagesError> {
        amounts.iter().map(|(id, amount)| Ok((self.at(*id)?, *amount))).collect()
    }
}
