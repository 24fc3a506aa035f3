//! A row as a job of the graph step model: network, device, numbers, batch, exchange.

use cutplane_graph::{DeviceSpec, ModelGraph};
use cutplane_sim::graph_step::{
    Exchange, GradientGroup, GraphCalibration, GraphStack, GraphStepError, Mode, Numerics, OperatorCharge, Replica,
    data_parallel, operator_charges,
};
use cutplane_sim::kernel::{GpuModel, Precision, Standing};
use cutplane_sim::network::{Fabric, Library};

use super::network::{Network, network};
use super::plan::Plan;
use crate::metric::{Metric, Quantity, StepPart};
use crate::parse::words::{number_after, says};
use crate::parse::{self, Products, Server, SoftwareFamily};
use crate::prediction::{Origin, Skip, TraceEntry};
use crate::profile::Profile;
use crate::row::Row;
use crate::training_rows::memory::graph::fitting_batch;

/// A row that can be priced with any numbers of its stack.
#[derive(Debug)]
pub(crate) struct GraphRow {
    pub(crate) network: Network,
    pub(crate) gpu: GpuModel,
    pub(crate) stack: &'static GraphStack,
    pub(crate) numerics: Numerics,
    pub(crate) micro_batch: u64,
    pub(crate) micro_batches: u64,
    pub(crate) replicas: u64,
    pub(crate) devices: u64,
    pub(crate) extrapolates: bool,
    pub(crate) trace: Vec<TraceEntry>,
    charges: Vec<OperatorCharge>,
    fabric: Fabric,
    exchange: Exchange,
    plan: Option<Plan>,
}

impl GraphRow {
    /// Reads a row; its kernels are priced once.
    pub(crate) fn of(row: &Row, metric: &Metric, name: &str, profile: &Profile) -> Result<Self, Skip> {
        let network = network(row, name)?;
        let device = parse::device(&row.hardware)?;
        let fabric = parse::fabric(row, device)?;
        let mut trace = fabric.trace;
        let (stack, library) = stack(row)?;
        let numerics = numerics(row)?;
        let (replicas, stages) = replicas(row)?;
        let (micro_batch, micro_batches) = batch(row, &network.graph, device, replicas, numerics, &mut trace)?;
        let gpu = profile.gpu(device);
        let mode = match metric.quantity {
            Quantity::Step { part: StepPart::Evaluation, .. } => Mode::Evaluation,
            _ => Mode::Training,
        };
        let numerics = Numerics { update_bytes: network.update_bytes, ..numerics.on(&gpu) };
        let charges =
            operator_charges(&network.graph, micro_batch, &gpu, numerics, stack, mode).map_err(|e| unpriced(&e))?;
        let plan = Plan::of(row, &network.graph, stages, micro_batches)?;
        Ok(Self {
            extrapolates: gpu.standing() != Standing::Measured,
            devices: replicas * stages,
            exchange: exchange(row, library)?,
            fabric: fabric.fabric,
            network,
            gpu,
            stack,
            numerics,
            micro_batch,
            micro_batches,
            replicas,
            trace,
            charges,
            plan,
        })
    }

    /// Time that the metric counts, or that its items take, s.
    pub(crate) fn seconds(
        &self,
        metric: &Metric,
        calibration: &GraphCalibration,
        stack: &GraphStack,
    ) -> Result<f64, Skip> {
        let part = match metric.quantity {
            Quantity::Step { one_layer: true, .. } => {
                return Err(Skip::new("unsupported-metric", "a network of unlike operators has no typical layer"));
            }
            Quantity::Step { part, .. } => part,
            _ => StepPart::Whole,
        };
        let speeds = calibration.speeds(stack, &self.gpu, self.numerics);
        let replica = Replica::of(&self.charges, self.micro_batches, self.numerics, &self.gpu, stack, speeds);
        if let Some(plan) = &self.plan {
            let passes = plan.seconds(self, &self.charges, stack, speeds).map_err(|error| unpriced(&error))?;
            return Ok(passes + replica.update / plan.stages() as f64 + replica.fixed);
        }
        match part {
            StepPart::Forward | StepPart::Evaluation => Ok(replica.forward_end + replica.fixed),
            StepPart::Backward => Ok(replica.backward_end - replica.forward_end),
            StepPart::ForwardBackward => Ok(replica.backward_end + replica.fixed),
            StepPart::Whole => {
                let parallel = GradientGroup {
                    replicas: self.replicas,
                    fabric: &self.fabric,
                    exchange: self.exchange,
                    gradient_bytes: self.numerics.gradient_bytes,
                    deviation: self.network.deviation,
                };
                data_parallel(&replica, &parallel, stack).map_err(|error| unpriced(&error))
            }
        }
    }

    /// Bytes a second from a device to its neighbour, one message alone.
    pub(super) fn link(&self) -> f64 {
        let level = self.fabric.levels().first();
        level.map_or(f64::INFINITY, |level| {
            level.achieved.unwrap_or(level.bandwidth * Library::NCCL.share_of_message(level.interconnect))
        })
    }
}

fn unpriced(error: &GraphStepError) -> Skip {
    Skip::new("unsupported-graph-step", error.to_string())
}

/// The stack of a row, and its library of collectives.
fn stack(row: &Row) -> Result<(&'static GraphStack, Library), Skip> {
    let software = parse::software(&row.framework);
    let text = row.framework.to_ascii_lowercase();
    let compiled = parse::precision(&row.precision)?.is_some_and(|precision| precision.compiled);
    let examples = says(&row.url_or_repo_path.to_ascii_lowercase(), &["deeplearningexamples"]);
    let (name, library) = match software.family {
        SoftwareFamily::Torch7 if says(&row.notes.to_ascii_lowercase(), &["cudnn none"]) => {
            ("torch7-unfolding", Library::nccl(2, 1))
        }
        SoftwareFamily::Torch7 => ("torch7", Library::nccl(2, 1)),
        SoftwareFamily::PytorchPipeline => ("torchgpipe", Library::nccl(2, 4)),
        SoftwareFamily::Pytorch if software.version.first() == Some(&0) => ("pytorch-0", Library::nccl(2, 1)),
        SoftwareFamily::Pytorch if says(&text, &["ngc"]) => ("pytorch-ngc", Library::NCCL),
        SoftwareFamily::Pytorch if examples => ("pytorch-examples", Library::NCCL),
        SoftwareFamily::Pytorch => ("pytorch", Library::NCCL),
        SoftwareFamily::TensorFlow1 if says(&text, &["tf_cnn_benchmarks"]) => {
            ("tensorflow-benchmarks", Library::nccl(2, 1))
        }
        SoftwareFamily::TensorFlow1 | SoftwareFamily::TensorFlow2 if compiled => ("tensorflow-xla", Library::NCCL),
        SoftwareFamily::TensorFlow1 | SoftwareFamily::TensorFlow2 if examples => ("tensorflow-examples", Library::NCCL),
        SoftwareFamily::TensorFlow1 | SoftwareFamily::TensorFlow2 if says(&text, &["horovod"]) => {
            ("horovod", Library::nccl(2, 3))
        }
        SoftwareFamily::TensorFlow1 | SoftwareFamily::TensorFlow2 => ("tensorflow", Library::nccl(2, 3)),
        SoftwareFamily::Mxnet => ("mxnet", Library::NCCL),
        SoftwareFamily::Paddle => ("paddle", Library::NCCL),
        SoftwareFamily::Caffe => ("caffe2", Library::nccl(2, 1)),
        other => return Err(Skip::new("unsupported-software", format!("'{}' ({other:?})", row.framework))),
    };
    let known = GraphCalibration::known().stack(name).ok_or_else(|| Skip::new("unsupported-software", name))?;
    Ok((known, library))
}

fn numerics(row: &Row) -> Result<Numerics, Skip> {
    let Some(precision) = parse::precision(&row.precision)? else { return Ok(Numerics::single(false)) };
    let mixed = precision.autocast || says(&row.precision.to_ascii_lowercase(), &["mixed", "amp"]);
    let half = |products| Numerics { casts_weights: mixed, ..Numerics::mixed(products) };
    match precision.products {
        Products::F32 => Ok(Numerics::single(false)),
        Products::Tf32 | Products::F32OrTf32 => Ok(Numerics::single(true)),
        Products::F16 => Ok(half(Precision::F16)),
        Products::Bf16 => Ok(half(Precision::Bf16)),
        _ => Err(Skip::new("unsupported-precision", format!("'{}'", row.precision))),
    }
}

/// Replicas and pipeline stages.
fn replicas(row: &Row) -> Result<(u64, u64), Skip> {
    if let Some((axis, degree)) = [("tp", row.tp), ("cp", row.cp), ("ep", row.ep)]
        .into_iter()
        .find_map(|(axis, degree)| Some((axis, degree.filter(|degree| *degree > 1)?)))
    {
        return Err(Skip::new("unsupported-layout", format!("{axis} {degree} over a graph of unlike operators")));
    }
    let stages = row.pp.unwrap_or(1).max(1);
    let gpus = row.gpus.or(row.dp.map(|dp| dp * stages)).unwrap_or(stages);
    if gpus == 0 || !gpus.is_multiple_of(stages) || row.dp.is_some_and(|dp| dp * stages != gpus) {
        return Err(Skip::new("layout-contradicts-gpus", format!("{gpus} devices, pp {stages}, dp {:?}", row.dp)));
    }
    Ok((gpus / stages, stages))
}

/// Samples of a replica at once, and how often in a step.
fn batch(
    row: &Row,
    graph: &ModelGraph,
    device: &DeviceSpec,
    replicas: u64,
    numerics: Numerics,
    trace: &mut Vec<TraceEntry>,
) -> Result<(u64, u64), Skip> {
    let refuse = || Skip::new("batch-does-not-divide", format!("{:?} on {replicas} replicas", row.global_batch));
    let share = row.global_batch.map(|global| if replicas > global { 1 } else { global / replicas });
    let said = number_after(&row.notes.to_ascii_lowercase(), &["batch table value"]).map(|all| (all / replicas).max(1));
    let micro = match (row.micro_batch, said) {
        (Some(micro), _) => micro,
        (None, Some(said)) => {
            trace.push(entry("samples of a device", said, Origin::Assumed));
            said
        }
        (None, None) => share.unwrap_or_else(|| {
            let narrow = numerics.activation_bytes < 4;
            let assumed = fitting_batch(graph, usual_batch(device, numerics), narrow, device);
            trace.push(entry("samples of a device", assumed, Origin::Assumed));
            assumed
        }),
    };
    match share {
        _ if micro == 0 => Err(refuse()),
        Some(share) if share > micro => Ok((micro, share.div_ceil(micro))),
        _ => Ok((micro, 1)),
    }
}

/// What NVIDIA's examples give a device for classification: 256 images in 16 bits, 128 in 32 bits, on cards of 16 GiB as on
/// larger ones; fewer on smaller cards.
fn usual_batch(device: &DeviceSpec, numerics: Numerics) -> u64 {
    let fits = if device.memory_gib < 15.0 { 2 } else { 1 };
    if numerics.activation_bytes == 2 { 256 / fits } else { 128 / fits }
}

fn entry(name: &'static str, value: u64, origin: Origin) -> TraceEntry {
    TraceEntry { name: name.into(), value: value.to_string(), origin }
}

fn exchange(row: &Row, library: Library) -> Result<Exchange, Skip> {
    let sharding = parse::sharding(&row.zero_stage_or_fsdp)?.unwrap_or_default();
    if sharding.stage > 0 {
        return Err(Skip::new("unsupported-sharding", format!("'{}'", row.zero_stage_or_fsdp)));
    }
    Ok(match sharding.server {
        Some(Server::Host) => Exchange::HostServer,
        Some(Server::Device) => Exchange::DeviceServers,
        Some(Server::EveryMachine) => Exchange::MachineServers,
        None if sharding.by_copies => Exchange::DeviceServers,
        None => Exchange::AllReduce(library),
    })
}
