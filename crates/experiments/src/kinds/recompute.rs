//! What a memory budget for activations costs in recomputation.

use cutplane_graph::{DeviceGraph, ModelGraph, Overrides};
use cutplane_sim::graph_step::{GraphCalibration, Mode, Numerics, Speeds, operator_charges};
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::rematerialise::{ForwardValue, Kept, cheapest, everything, uniform};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `recompute-budget`.
pub(super) struct RecomputeBudget;

impl Kind for RecomputeBudget {
    fn name(&self) -> &'static str {
        "recompute-budget"
    }

    fn about(&self) -> &'static str {
        "the activations that a model keeps within a budget, chosen by mixed-integer programming or evenly"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("model", "built-in model, see 'cutplane models'"),
            ("image", "replaces the height and width of the input"),
            ("cluster", "the device: v100-16gb"),
            ("stack", "framework of the graph step model, pytorch if absent"),
            ("batch", "samples of a step"),
            ("budget", "share of the memory of keeping everything"),
            ("strategy", "ilp, or uniform: every n-th value"),
            ("time_limit_s", "seconds of search, 10 if absent"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("overhead", "-", "time of what is computed again over the time of both passes"),
            ("peak_gib", "GiB", "memory of activations at its peak"),
            ("kept", "-", "share of the values that are kept"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let (values, both) = values(ask)?;
        let share = ask.number("budget")?;
        if !(share > 0.0 && share <= 1.0) {
            return Err(format!("'budget' is {share}: write a share above 0, at most 1"));
        }
        let budget = everything(&values) * share;
        let found: Kept = match ask.text_or("strategy", "ilp")? {
            "ilp" => cheapest(&values, budget, ask.number_or("time_limit_s", 10.0)?),
            "uniform" => uniform(&values, budget),
            other => return Err(format!("'strategy' is '{other}': write ilp or uniform")),
        }
        .map_err(|error| format!("'budget': {error}"))?;
        let value = match metric {
            "overhead" => found.repeated_seconds / both,
            "peak_gib" => found.peak_bytes / f64::from(1 << 30),
            _ => found.keeps.iter().filter(|kept| **kept).count() as f64 / found.keeps.len() as f64,
        };
        let basis = if found.proven { "proven optimal among choices that repeat a value once" } else { "not proven" };
        Ok(Answer::exact(value, basis))
    }
}

/// The values of the forward pass, and the time of both passes, s.
fn values(ask: &Ask<'_>) -> Result<(Vec<ForwardValue>, f64), String> {
    let image = ask.get("image").map(|_| ask.count("image")).transpose()?;
    let source =
        cutplane_zoo::source_from_argument(ask.text("model")?, None, Overrides { image, ..Overrides::default() })
            .map_err(|error| error.to_string())?;
    let graph = cutplane_zoo::build(&source).map_err(|error| error.to_string())?;
    let devices = cutplane_zoo::cluster(ask.text("cluster")?).map_err(|error| error.to_string())?;
    let devices = DeviceGraph::build(devices).map_err(|error| error.to_string())?;
    let gpu = GpuModel::from_spec(&devices.devices()[0].spec);
    let (batch, name) = (ask.count("batch")?, ask.text_or("stack", "pytorch")?);
    let calibration = GraphCalibration::known();
    let stack = calibration.stack(name).ok_or_else(|| format!("'stack' is '{name}': it is not known"))?;
    let numerics = Numerics::single(false).on(&gpu);
    let charges =
        operator_charges(&graph, batch, &gpu, numerics, stack, Mode::Training).map_err(|error| error.to_string())?;
    let speeds: Speeds = calibration.speeds(stack, &gpu, numerics);
    let both = charges.iter().map(|op| speeds.device(op.forward + op.backward)).sum();
    let readers = last_readers(&graph);
    let value = |at: usize| ForwardValue {
        seconds: speeds.device(charges[at].forward),
        bytes: (charges[at].output_elements * numerics.activation_bytes) as f64,
        last_reader: readers[at],
    };
    Ok(((0..charges.len()).map(value).collect(), both))
}

/// The last operator that reads what each operator writes.
fn last_readers(graph: &ModelGraph) -> Vec<usize> {
    let mut readers: Vec<usize> = (0..graph.ops().len()).collect();
    for value in graph.values() {
        let Some(producer) = value.producer else { continue };
        let last = value.consumers.iter().map(|id| id.index()).max().unwrap_or(0);
        readers[producer.index()] = readers[producer.index()].max(last);
    }
    readers
}
