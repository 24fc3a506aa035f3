//! `cutplane shard`: choose for every operator how it is split over a mesh of devices.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use cutplane_graph::{DeviceGraph, DeviceKind, DeviceSpec, Dtype, ModelGraph};
use cutplane_plan::StopReason;
use cutplane_sim::estimate::ZeroStage;
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::{Fabric, Library};
use cutplane_sim::planner::sharding::{
    Account, AxisTraffic, BeamSharder, BestSharding, Mesh, ShardBudget, ShardProblem, ShardedBlock, ShardedOperator,
    Sharder, Tried, best_sharding, zero_word,
};
use cutplane_units::Bytes;
use serde_json::{Value, json};

use crate::context::{self, ModelArgs, WorkArgs};
use crate::limits::SearchArgs;
use crate::verbs::models::grouped;
use crate::{output, progress};

/// A searcher of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Searcher {
    /// Every operator takes what looks best so far, then steps of single operators.
    Greedy,
    /// Dynamic programming that keeps the best few states.
    BeamDp,
    /// Integer linear program (HiGHS), with a proven bound.
    #[cfg(feature = "ilp")]
    Ilp,
}

impl Searcher {
    /// The best one in this build.
    const BEST: Self = {
        #[cfg(feature = "ilp")]
        {
            Self::Ilp
        }
        #[cfg(not(feature = "ilp"))]
        {
            Self::BeamDp
        }
    };

    /// Whether it draws random numbers.
    fn is_seeded(self) -> bool {
        !matches!(self, Self::Greedy | Self::BeamDp)
    }

    fn sharder(self) -> Box<dyn Sharder> {
        match self {
            Self::Greedy => Box::new(BeamSharder::GREEDY),
            Self::BeamDp => Box::new(BeamSharder::default()),
            #[cfg(feature = "ilp")]
            Self::Ilp => Box::new(cutplane_sim::planner::sharding::IlpSharder::default()),
        }
    }
}

/// How attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Attention {
    /// One fused kernel.
    Flash,
    /// As the model says; without a word of its own the scores are written to memory.
    Model,
}

/// Largest number of micro-batches that is tried by itself.
const MOST_MICRO_BATCHES: u64 = 16;

/// Chooses how every operator is split over a mesh of equal devices: batch, column, row, heads, sequence, context, expert,
/// vocabulary, and what of the state is sharded (ZeRO). No pipeline.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane shard gpt3-175b --cluster dgx-a100:128 --mesh 128x8 --batch 1536 --seq 2048
  cutplane shard mixtral-8x7b --cluster dgx-h100:4 --batch 64 --memory-cap 60GiB
  cutplane shard gpt2-xl --cluster a100-80gb:4 --mesh 2x2 --batch 32 --micro-batches 4 --json
The last axis of a mesh runs over neighbours. Words are those of the axes in order: 'batch x column' splits samples along the
first axis and output features along the second.")]
pub(crate) struct Shard {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// A catalogue name with a count (dgx-a100:2, a100-80gb:8), or a cluster file (.toml).
    #[arg(long, alias = "devices", default_value = "dgx-a100:1", value_name = "DEVICES")]
    cluster: String,
    /// Sizes of one or two axes, outermost first [default: nodes x devices of a node].
    #[arg(long, value_name = "AxB")]
    mesh: Option<String>,
    /// Micro-batches of a step, one after the other [default: the best of the batch's divisors up to 16].
    #[arg(long, value_name = "COUNT")]
    micro_batches: Option<u64>,
    /// Memory of a device that may be used, such as 60GiB [default: all of it].
    #[arg(long, value_name = "SIZE")]
    memory_cap: Option<Bytes>,
    /// Element type of the computation [default: 16 bits where the device has them].
    #[arg(long, value_parser = context::parse_precision, value_name = "f32|bf16|f16")]
    precision: Option<Dtype>,
    /// Attention kernel.
    #[arg(long, value_enum, default_value_t = Attention::Flash)]
    attention: Attention,
    /// Searcher.
    #[arg(long, value_enum, default_value_t = Searcher::BEST)]
    planner: Searcher,
    #[command(flatten)]
    limits: SearchArgs,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What an answer is about.
struct Asked<'a> {
    cluster: &'a str,
    graph: &'a ModelGraph,
    problem: &'a ShardProblem<'a>,
    tokens: f64,
    gap: f64,
}

impl Shard {
    pub(crate) fn run(&self) -> Result<()> {
        self.limits.check()?;
        if !self.planner.is_seeded() {
            self.limits.check_unseeded("this searcher")?;
        }
        let (source, graph) = self.model.load()?;
        let devices = DeviceGraph::build(cutplane_zoo::cluster(&self.cluster)?)?;
        let device = alike(&devices)?;
        let fabric = Fabric::of_devices(&devices)?;
        let mesh = Mesh::new(&self.sizes(&fabric)?, &fabric, Library::NCCL)?;
        let problem = ShardProblem {
            graph: &graph,
            mesh: &mesh,
            gpu: &GpuModel::from_spec(device),
            batch: self.work.batch,
            micro_batches: 1,
            precision: arithmetic(device, self.precision)?,
            optimizer: self.work.optimizer,
            fused_attention: self.attention == Attention::Flash,
            memory_limit: Some(self.memory_cap.unwrap_or(device.memory())),
        };
        let best = self.search(&problem)?;
        let tokens = self.work.batch as f64 * source.sequence_length() as f64;
        let asked = Asked { cluster: &self.cluster, graph: &graph, problem: &problem, tokens, gap: self.limits.gap() };
        if self.json {
            return output::print_json(&asked.as_json(&best));
        }
        print!("{}", asked.report(&best));
        Ok(())
    }

    /// Sizes of the mesh's axes.
    fn sizes(&self, fabric: &Fabric) -> Result<Vec<usize>> {
        let Some(text) = &self.mesh else {
            let (node, ranks) = (fabric.node().max(1), fabric.ranks());
            return Ok(if ranks > node { vec![ranks / node, node] } else { vec![ranks] });
        };
        let size = |part: &str| {
            let size = part.trim().parse::<usize>().ok().filter(|size| *size > 0);
            size.with_context(|| format!("--mesh '{text}': '{part}' is no size; write sizes such as 16x8"))
        };
        text.split('x').map(size).collect()
    }

    fn search(&self, problem: &ShardProblem<'_>) -> Result<BestSharding> {
        let most = problem.batch.min(MOST_MICRO_BATCHES);
        let divisors = || (1..=most).filter(|count| problem.batch.is_multiple_of(*count)).collect();
        let counts: Vec<u64> = self.micro_batches.map_or_else(divisors, |count| vec![count]);
        let spinner = progress::spinner("sharding");
        let interrupt = progress::interrupt_flag()?;
        let budget = ShardBudget {
            time_limit: self.limits.time_limit(),
            relative_gap: self.limits.gap(),
            seed: self.limits.seed(),
            interrupt: Some(&interrupt),
        };
        let best = best_sharding(problem, &counts, self.planner.sharder().as_ref(), &budget);
        spinner.finish_and_clear();
        Ok(best?)
    }
}

/// The device of a cluster of equal accelerators.
fn alike(devices: &DeviceGraph) -> Result<&DeviceSpec> {
    let first = &devices.devices()[0].spec;
    if let Some(other) = devices.devices().iter().find(|device| device.spec.model != first.model) {
        let (name, a, b) = (devices.name(), &first.model, &other.spec.model);
        anyhow::bail!("cluster '{name}' mixes {a} and {b}: a mesh is of equal devices; choose another --cluster");
    }
    anyhow::ensure!(
        first.kind == DeviceKind::Gpu,
        "cluster '{}' has processor cores: operators are sharded over accelerators; choose another --cluster",
        devices.name()
    );
    Ok(first)
}

/// 16-bit training where the device has it, unless another type is asked for.
fn arithmetic(device: &DeviceSpec, asked: Option<Dtype>) -> Result<Dtype> {
    let best = [Dtype::Bf16, Dtype::F16, Dtype::F32].into_iter().find(|dtype| device.peak(*dtype).is_some());
    let dtype = asked.or(best).unwrap_or(Dtype::F32);
    anyhow::ensure!(
        device.peak(dtype).is_some(),
        "{} does not compute in {dtype}: choose another --precision",
        device.model
    );
    Ok(dtype)
}

impl Asked<'_> {
    /// Sizes of the axes, such as `16 x 8`.
    fn mesh(&self) -> String {
        let mesh = self.problem.mesh;
        mesh.axes().map(|axis| mesh.sizes()[axis].to_string()).collect::<Vec<_>>().join(" x ")
    }

    /// What moves along which axes.
    fn traffic(&self, account: &Account) -> Vec<(String, AxisTraffic)> {
        let [outer, inner] = self.problem.mesh.sizes();
        let lines = [
            (format!("axis of {outer}"), account.outer),
            (format!("axis of {inner}"), account.inner),
            ("both axes".to_owned(), account.both),
        ];
        let used = |(_, traffic): &(String, AxisTraffic)| traffic.seconds() > 0.0;
        lines.into_iter().filter(used).collect()
    }

    /// What of an operator's state is sharded over which axes.
    fn state(&self, operator: &ShardedOperator) -> String {
        let strategy = &operator.strategy;
        let sizes = |axes: [bool; 2]| {
            let chosen = self.problem.mesh.axes().filter(|axis| axes[*axis]);
            chosen.map(|axis| self.problem.mesh.sizes()[axis].to_string()).collect::<Vec<_>>().join(" x ")
        };
        let zero = match strategy.zero {
            ZeroStage::None => String::new(),
            stage => format!("{} over {}", zero_word(stage), sizes(strategy.over)),
        };
        let stash = if strategy.stash == [false; 2] {
            String::new()
        } else {
            format!("input kept in slices over {}", sizes(strategy.stash))
        };
        [zero, stash].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }

    fn block(&self, block: &ShardedBlock) -> String {
        let first = self.problem.mesh.axes().start;
        let mut text = format!("block    {} x {}\n", block.name, block.copies);
        for operator in &block.operators {
            let (words, state) = (operator.words(first), self.state(operator));
            let line = format!("  {:<34} {:<20} {words:<24} {state}", operator.name, operator.kind);
            text += &format!("{}\n", line.trim_end());
        }
        text
    }

    /// What, block by block, how fast, along which axes, how much memory, how good.
    fn report(&self, best: &BestSharding) -> String {
        let (found, problem) = (&best.sharding, self.problem);
        let account = &found.account;
        let seconds = account.seconds();
        let mut text = format!(
            "model    {}  {} layers  {} parameters     cluster  {}: mesh {} of {}\n\
             step     batch {} in {} micro-batches of {}, {}\n",
            self.graph.name(),
            self.graph.layer_count(),
            grouped(self.graph.parameter_count()),
            self.cluster,
            self.mesh(),
            problem.gpu.name(),
            problem.batch,
            found.micro_batches,
            problem.batch / found.micro_batches,
            problem.precision,
        );
        found.blocks.iter().for_each(|block| text += &self.block(block));
        let share = |part: f64| 100.0 * part / seconds;
        text += &format!(
            "predict  step {seconds:.4} s  {:.0} tokens/s: compute {:.1}%, update {:.1}%, communication {:.1}%\n",
            self.tokens / seconds,
            share(account.compute_s),
            share(account.update_s),
            share(seconds - account.compute_s - account.update_s),
        );
        for (axes, traffic) in self.traffic(account) {
            text += &format!(
                "moves    {axes}: {:.4} s: resharding {:.4}, inside operators {:.4}, parameters {:.4}\n",
                traffic.seconds(),
                traffic.resharding_s,
                traffic.inside_s,
                traffic.parameters_s
            );
        }
        text + &self.memory(account) + &self.proof(best)
    }

    fn memory(&self, account: &Account) -> String {
        let size = |bytes: f64| Bytes::new(bytes as u64);
        format!(
            "memory   {} of {} a device: parameters {}, gradients {}, optimizer {}, activations {}, workspace {}\n",
            size(account.memory()),
            self.problem.memory_limit.unwrap_or(Bytes::MAX),
            size(account.parameter_bytes),
            size(account.gradient_bytes),
            size(account.optimizer_bytes),
            size(account.activation_bytes),
            size(account.workspace_bytes),
        )
    }

    fn proof(&self, best: &BestSharding) -> String {
        let outcome = &best.sharding.outcome;
        let stop = match best.stop(self.gap) {
            StopReason::ProvenOptimal => "proven optimal",
            StopReason::GapReached => "gap reached",
            StopReason::TimeLimit => "time limit",
            StopReason::CandidatesExhausted => "heuristic",
            StopReason::Interrupted => "interrupted",
        };
        let unequal = outcome.gap_of_unequal().map(|gap| {
            let count = best.sharding.micro_batches;
            format!("; {:.3}% from any plan of {count} micro-batches, equal blocks treated unequally", 100.0 * gap)
        });
        let tried = |(count, came): &(u64, Tried)| match came {
            Tried::Found(seconds) => format!("{count}: {seconds:.4} s"),
            other => format!("{count}: {}", other.word()),
        };
        format!(
            "proof    at most {:.3}% from optimal over plans that treat equal blocks alike (bound {:.4} s, {stop}, by {})\
             {}; {:.2} s\n\
             tried    micro-batches {}\n",
            100.0 * best.gap(),
            best.bound,
            outcome.searcher,
            unequal.unwrap_or_default(),
            outcome.search_seconds,
            best.tried.iter().map(tried).collect::<Vec<_>>().join(", "),
        )
    }

    fn as_json(&self, best: &BestSharding) -> Value {
        let (found, outcome) = (&best.sharding, &best.sharding.outcome);
        json!({
            "model": self.graph.name(),
            "cluster": self.cluster,
            "mesh": self.problem.mesh.sizes()[self.problem.mesh.axes().start..],
            "batch": self.problem.batch,
            "micro_batches": found.micro_batches,
            "precision": self.problem.precision,
            "objective": found.account.seconds(),
            "bound": best.bound,
            "gap": best.gap(),
            "bound_of_unequal_blocks": outcome.bound_of_unequal,
            "stop_reason": best.stop(self.gap),
            "searcher": outcome.searcher,
            "seconds": outcome.search_seconds,
            "variables": outcome.variables,
            "predicted": found.account,
            "memory_bytes": found.account.memory(),
            "memory_limit_bytes": self.problem.memory_limit,
            "tried": best.tried.iter().map(|(count, came)| json!([count, came.seconds(), came.word()])).collect::<Vec<_>>(),
            "blocks": found.blocks,
        })
    }
}
