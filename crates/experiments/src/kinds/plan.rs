//! Plans by name or searched, lowered to programs and run in virtual time.

use cutplane_graph::{DeviceGraph, Dtype, Overrides};
use cutplane_plan::{Optimizer, Plan, lower, verify};
use cutplane_record::Timeline;
use cutplane_sim::cost::Roofline;
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::engine::simulate;
use cutplane_sim::planner::{ChainDp, Planner, Problem, SearchBudget, SearchSpace, named_plan};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `plan`.
pub(super) struct NamedPlan;

impl Kind for NamedPlan {
    fn name(&self) -> &'static str {
        "plan"
    }

    fn about(&self) -> &'static str {
        "one plan of a built-in model on a cluster, lowered to a program and simulated instruction by instruction"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("model", "built-in model, see 'cutplane models'"),
            ("layers", "replaces the number of layers"),
            ("hidden", "replaces the hidden size"),
            ("heads", "replaces the number of attention heads"),
            ("vocab", "replaces the vocabulary, or the number of classes"),
            ("seq", "tokens of a sample"),
            ("cluster", "a cluster of the catalogue, or a file beside the definition"),
            ("plan", "its name, such as pp2-1f1b-m8, or 'best' for the search's"),
            ("batch", "samples of a step"),
            ("optimizer", "adamw or sgd"),
            ("precision", "f32, bf16 or f16"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("step_s", "s", "time of a step"),
            ("samples_per_s", "samples/s", "samples over it"),
            ("memory_gib", "GiB", "peak memory of the fullest rank"),
            ("first_stage_layers", "layers", "repeated layers of the first stage"),
            ("stages", "-", "stages of the plan"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let source = source(ask)?;
        let model = cutplane_zoo::build(&source).map_err(|error| error.to_string())?;
        let cluster = ask.text("cluster")?;
        let named =
            if has_suffix(cluster, ".toml") { ask.file("cluster")?.display().to_string() } else { cluster.to_owned() };
        let devices = cutplane_zoo::cluster(&named).map_err(|error| error.to_string())?;
        let devices = DeviceGraph::build(devices).map_err(|error| error.to_string())?;
        let problem = Problem {
            model: &model,
            model_source: source,
            devices: &devices,
            memory: MemoryModel::Framework,
            global_batch: ask.count("batch")?,
            optimizer: optimizer(ask)?,
            precision: precision(ask)?,
            limits: SearchSpace::default(),
        };
        let plan = plan(&problem, ask.text("plan")?)?;
        let basis = format!("plan {} at datasheet prices, simulated", plan.name);
        let timeline = timeline(&problem, &plan)?;
        Ok(Answer::exact(value(metric, &problem, &plan, &timeline), basis))
    }
}

fn has_suffix(text: &str, suffix: &str) -> bool {
    text.to_ascii_lowercase().ends_with(suffix)
}

fn source(ask: &Ask<'_>) -> Result<cutplane_graph::ModelSource, String> {
    let given = |name: &str| -> Result<Option<u64>, String> { ask.get(name).map(|_| ask.count(name)).transpose() };
    let overrides = Overrides {
        layers: given("layers")?,
        hidden: given("hidden")?,
        heads: given("heads")?,
        vocab: given("vocab")?,
        ..Overrides::default()
    };
    cutplane_zoo::source_from_argument(ask.text("model")?, given("seq")?, overrides).map_err(|error| error.to_string())
}

fn optimizer(ask: &Ask<'_>) -> Result<Optimizer, String> {
    match ask.text_or("optimizer", "adamw")? {
        "adamw" => Ok(Optimizer::AdamW),
        "sgd" => Ok(Optimizer::Sgd),
        other => Err(format!("'optimizer' is '{other}': write adamw or sgd")),
    }
}

fn precision(ask: &Ask<'_>) -> Result<Dtype, String> {
    match ask.text_or("precision", "f32")? {
        "f32" => Ok(Dtype::F32),
        "bf16" => Ok(Dtype::Bf16),
        "f16" => Ok(Dtype::F16),
        other => Err(format!("'precision' is '{other}': write f32, bf16 or f16")),
    }
}

fn plan(problem: &Problem<'_>, name: &str) -> Result<Plan, String> {
    let cost = Roofline::new();
    if name == "best" {
        let outcome = ChainDp.plan(problem, &cost, &SearchBudget::default());
        return outcome.map(|outcome| outcome.plan).map_err(|error| error.to_string());
    }
    named_plan(problem, &cost, name).map_err(|error| error.to_string())
}

fn timeline(problem: &Problem<'_>, plan: &Plan) -> Result<Timeline, String> {
    let verified = verify(plan, problem.model, problem.devices)
        .map_err(|violations| violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let program = lower(&verified).map_err(|error| error.to_string())?;
    simulate(&verified, &program, &Roofline::new(), problem.memory).map_err(|error| error.to_string())
}

fn value(metric: &str, problem: &Problem<'_>, plan: &Plan, timeline: &Timeline) -> f64 {
    let seconds = timeline.makespan().as_f64() * 1e-9;
    match metric {
        "step_s" => seconds,
        "samples_per_s" => problem.global_batch as f64 / seconds,
        "memory_gib" => {
            timeline.peak_memory.iter().map(|bytes| bytes.as_f64()).fold(0.0, f64::max) / f64::from(1 << 30)
        }
        "first_stage_layers" => layers(problem, plan, 0),
        _ => plan.stages.len() as f64,
    }
}

/// Repeated layers of a stage.
fn layers(problem: &Problem<'_>, plan: &Plan, stage: usize) -> f64 {
    let ops = problem.model.ops();
    let own = plan.stages.get(stage).map(|stage| stage.ops.clone()).unwrap_or_default();
    let mut layers: Vec<u32> = own.iter().filter_map(|op| ops.get(op.index())?.layer).collect();
    layers.dedup();
    layers.len() as f64
}
