//! Pipelines whose stages differ in replication: of a workload file with profiled variants, or of a built-in model.

use std::collections::BTreeMap;

use cutplane_graph::{Device, DeviceGraph, Dtype, ModelGraph, OpId, Overrides, Pass};
use cutplane_sim::cost::{CostModel, Roofline};
use cutplane_sim::placement::stages::{
    LayerVariant, StagedLayer, StagedPlan, StagesProblem, read_stages_problem, search_stages,
};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `stages`.
pub(super) struct Stages;

const GIB: f64 = 1_073_741_824.0;

impl Kind for Stages {
    fn name(&self) -> &'static str {
        "stages"
    }

    fn about(&self) -> &'static str {
        "the best pipeline of stages that are each replicated on their own, of a Piper workload or of a built-in model"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("file", "workload file of the Piper benchmark, below the folders that the definition needs"),
            ("model", "built-in model in place of a file, at datasheet prices"),
            ("device", "device of the catalogue that the model is priced on (model)"),
            ("batch", "samples of a micro-batch (model)"),
            ("devices", "number of devices; the file's if absent"),
            ("memory_gib", "memory of a device, GiB; the file's or the catalogue's if absent"),
            ("gb_per_s", "bandwidth of a device towards the others, GB/s; the file's if absent"),
            ("workload", "name of the workload, for tables and figures"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("seconds", "s", "time of a micro-batch in the slowest stage"),
            ("gap", "-", "what is left between it and the proven bound, over it"),
            ("gain", "-", "time of data parallelism over all devices over it"),
            ("stages", "-", "stages"),
            ("first_replicas", "-", "replicas of the first stage"),
            ("last_replicas", "-", "replicas of the last stage"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let problem = problem(ask)?;
        let found = search_stages(&problem).map_err(|error| error.to_string())?;
        let value = match metric {
            "seconds" => found.seconds,
            "gap" => 1.0 - found.bound / found.seconds,
            "gain" => data_parallel(&problem) / found.seconds,
            "stages" => found.stages.len() as f64,
            "first_replicas" => found.stages.first().map_or(0.0, |stage| stage.replicas as f64),
            _ => found.stages.last().map_or(0.0, |stage| stage.replicas as f64),
        };
        Ok(Answer::exact(value, told(&found)))
    }
}

/// `15-1, at most 0.00% from optimal`: replicas of the stages, with their tensor-parallel degrees where above one.
fn told(found: &StagedPlan) -> String {
    let degrees = found.stages.iter().map(|stage| match stage.tensor {
        1 => stage.replicas.to_string(),
        tensor => format!("{}x{tensor}", stage.replicas),
    });
    let gap = 100.0 * (1.0 - found.bound / found.seconds);
    format!("{}, at most {gap:.2}% from optimal", degrees.collect::<Vec<_>>().join("-"))
}

/// The time of one stage that holds all layers, replicated over all devices; memory is not asked for.
fn data_parallel(problem: &StagesProblem) -> f64 {
    let whole = |layer: &StagedLayer| {
        let all = layer.variants.get(&1).into_iter().flatten();
        all.map(|own| (own.seconds, own.weight_bytes)).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default()
    };
    let (seconds, bytes) = problem.layers.iter().map(whole).fold((0.0, 0.0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
    let replicas = problem.devices as f64;
    let between = problem.micro_batches.map_or(replicas, |count| count as f64);
    seconds / replicas + 4.0 * bytes * (replicas - 1.0) / (replicas * between * problem.bandwidth)
}

fn problem(ask: &Ask<'_>) -> Result<StagesProblem, String> {
    let mut problem = match (ask.get("file"), ask.get("model")) {
        (Some(_), None) => read_stages_problem(&ask.file("file")?).map_err(|error| error.to_string())?,
        (None, Some(_)) => of_model(ask)?,
        _ => return Err("'file', 'model': give one of them".to_owned()),
    };
    problem.devices = ask.count_or("devices", problem.devices)?;
    problem.memory = ask.number_or("memory_gib", problem.memory / GIB)? * GIB;
    problem.bandwidth = ask.number_or("gb_per_s", problem.bandwidth / 1e9)? * 1e9;
    Ok(problem)
}

/// A chain of parts of a model that a single value joins, each on one device, weights synchronised in PipeDream's rounds.
fn of_model(ask: &Ask<'_>) -> Result<StagesProblem, String> {
    let source = cutplane_zoo::source_from_argument(ask.text("model")?, None, Overrides::default());
    let model = cutplane_zoo::build(&source.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    let devices = cutplane_zoo::cluster(&format!("{}:1", ask.text("device")?)).map_err(|error| error.to_string())?;
    let devices = DeviceGraph::build(devices).map_err(|error| error.to_string())?;
    let (device, batch) = (&devices.devices()[0], ask.count("batch")?);
    let parts = parts(&model);
    let layer = |ops: &Vec<OpId>| part(&model, ops, batch, device);
    let layers = parts.iter().map(layer).collect::<Result<Vec<_>, String>>()?;
    let crossing = |ops: &Vec<OpId>| ops.last().map_or(0.0, |op| output_bytes(&model, *op, batch));
    let edges = parts.iter().enumerate().skip(1).map(|(at, _)| (at - 1, at, crossing(&parts[at - 1]))).collect();
    Ok(StagesProblem {
        devices: ask.count("devices")?,
        memory: device.spec.memory().as_f64(),
        bandwidth: ask.number("gb_per_s")? * 1e9,
        micro_batches: None,
        layers,
        edges,
    })
}

/// The operators, cut wherever only the value of the operator before is read later.
fn parts(model: &ModelGraph) -> Vec<Vec<OpId>> {
    let ids: Vec<OpId> = model.op_ids().collect();
    let mut parts = vec![Vec::new()];
    for (at, op) in ids.iter().enumerate() {
        if let Some(part) = parts.last_mut() {
            part.push(*op);
        }
        let crosses = |before: &&OpId| {
            let readers = &model.value(model.op(**before).output).consumers;
            readers.iter().any(|reader| reader.index() > at)
        };
        let crossing: Vec<&OpId> = ids[..=at].iter().filter(crosses).collect();
        if at + 1 < ids.len() && crossing == [op] {
            parts.push(Vec::new());
        }
    }
    parts
}

fn output_bytes(model: &ModelGraph, op: OpId, batch: u64) -> f64 {
    model.value(model.op(op).output).ty.bytes(batch).as_f64()
}

/// Both passes in f32; weights with their gradients and momentum, activations and stashed weights of each micro-batch.
fn part(model: &ModelGraph, ops: &[OpId], batch: u64, device: &Device) -> Result<StagedLayer, String> {
    let mut own = LayerVariant {
        name: "f32".to_owned(),
        seconds: 0.0,
        weight_bytes: 0.0,
        bytes_per_micro_batch: 0.0,
        bytes: 0.0,
        sync_in: BTreeMap::new(),
        sync_out: BTreeMap::new(),
    };
    for op in ops {
        for pass in [Pass::Forward, Pass::Backward] {
            let time = Roofline::new().op(model, *op, pass, batch, Dtype::F32, device);
            own.seconds += time.map_err(|error| error.to_string())?.alone().as_f64() * 1e-9;
        }
        let used = model.op(*op).params.iter();
        let weights: f64 = used.map(|param| model.param(*param).bytes().as_f64()).sum();
        own.weight_bytes += weights;
        own.bytes_per_micro_batch += weights + output_bytes(model, *op, batch);
        own.bytes += 2.0 * weights;
    }
    let name = ops.first().map_or(String::new(), |op| model.op(*op).name.clone());
    Ok(StagedLayer { name, variants: BTreeMap::from([(1, vec![own])]) })
}
