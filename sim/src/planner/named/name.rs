//! The grammar of plan names.

use cutplane_graph::{ModelGraph, OpId, OpKind};
use cutplane_plan::{Execution, OpSet, Recompute, Schedule, Synchronisation, TensorSplit};
use cutplane_units::Bytes;

use crate::planner::configuration::{Configuration, Placement, ScheduleKey};

/// What a plan name may be made of, for help texts: one line a kind of part.
pub const PLAN_NAME_PARTS: &str = "\
A plan name joins parts with '-', and degrees with '-' or 'x', as in tp2xdp2-pp2-1f1b-m4-zero1:
  single           one device; or degrees:
  dpN ppN          replicas; pipeline stages, which need a schedule
  tpN spN cpN epN  ranks that split operators: weights; weights, and positions between them; positions, and heads of
                   attentions; these and experts
  1f1b fill-drain gpipe vanilla zb vN async
                   schedule: fill-drain and gpipe are one; vanilla has one micro-batch; zb is zero-bubble; vN is interleaved
                   1F1B with N stages a rank; async is 1F1B that updates after each micro-batch, with stashed weights
  mN               micro-batches a replica
  zero1 zero2 zero3 ps ps-async ps-staleN
                   who keeps optimizer state, gradients, parameters (ZeRO stages; zero3 recomputes whole stages); a server of
                   parameters: synchronous, or one that updates as gradients of each micro-batch come, without a bound, or
                   with workers at most N micro-batches ahead of the slowest
  bucketN          gradients leave in buckets of N KiB
  recompute recompute.stages recompute.attention
                   what the backward pass computes again: each layer, whole stages, attentions alone
  frozenN          the first N layers, and what is before them, stay as they are
  even             equal numbers of operators a stage, in place of the fastest cuts";

/// What the ranks of a tensor axis split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// Weights.
    Tensor,
    /// Weights, and positions between them.
    Sequence,
    /// Positions, and heads of attentions.
    Context,
    /// These, and experts.
    Experts,
}

/// What is computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Stages,
    Layers,
    Attention,
}

/// The parts of a plan name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlanName {
    pub(super) data_degree: usize,
    pub(super) stages: usize,
    /// Stages that each group of devices holds.
    pub(super) stages_a_rank: usize,
    pub(super) even: bool,
    axis: Option<(Axis, usize)>,
    schedule: Option<Schedule>,
    micro_batches: Option<u64>,
    synchronisation: Synchronisation,
    bucket_kib: Option<u64>,
    again: Option<Again>,
    frozen_layers: Option<u64>,
}

impl Default for PlanName {
    fn default() -> Self {
        Self {
            data_degree: 1,
            stages: 1,
            stages_a_rank: 1,
            even: false,
            axis: None,
            schedule: None,
            micro_batches: None,
            synchronisation: Synchronisation::AllReduce,
            bucket_kib: None,
            again: None,
            frozen_layers: None,
        }
    }
}

/// The word and the number of a part: `dp2` is `dp` and 2.
struct Part<'a> {
    text: &'a str,
    word: &'a str,
    number: Option<u64>,
}

impl<'a> Part<'a> {
    fn new(text: &'a str) -> Self {
        let (word, number) = text.find(|c: char| c.is_ascii_digit()).map_or((text, None), |at| {
            let (word, digits) = text.split_at(at);
            (word, digits.parse().ok())
        });
        Self { text, word, number }
    }

    fn count(&self) -> Result<u64, String> {
        let number = self.number.filter(|number| *number > 0);
        number.ok_or_else(|| format!("'{}' needs a number of at least 1, such as {}2", self.text, self.word))
    }

    fn bound(&self) -> Result<u32, String> {
        let bound = self.number.and_then(|number| u32::try_from(number).ok());
        bound.ok_or_else(|| "'ps-stale' needs a number of micro-batches, such as ps-stale2".to_owned())
    }

    fn size(&self) -> Result<usize, String> {
        usize::try_from(self.count()?).map_err(|error| error.to_string())
    }

    /// What the part decides; a name decides it once.
    fn subject(&self) -> &'a str {
        match (self.text, self.word) {
            ("1f1b" | "gpipe" | "vanilla" | "zb" | "async", _) | (_, "v") => "schedule",
            (_, "tp" | "sp" | "cp" | "ep") => "axis",
            (_, "zero" | "ps" | "ps.async" | "ps.stale") => "synchronisation",
            (_, word) if word.starts_with("recompute") => "recompute",
            (_, word) => word,
        }
    }
}

/// The parts of a name, `x` between degrees taken for `-`.
fn parts(name: &str) -> Vec<String> {
    let joined = name.replace("fill-drain", "gpipe").replace("zero-bubble", "zb");
    let joined = joined.replace("ps-async", "ps.async").replace("ps-stale", "ps.stale");
    let digit_before = |at: usize| joined[..at].ends_with(|c: char| c.is_ascii_digit());
    let cuts: Vec<usize> = joined.match_indices('x').map(|(at, _)| at).filter(|at| digit_before(*at)).collect();
    let text: String = joined.char_indices().map(|(at, c)| if cuts.contains(&at) { '-' } else { c }).collect();
    text.split('-').map(str::to_owned).collect()
}

impl PlanName {
    /// Reads the parts of [`PLAN_NAME_PARTS`].
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let (mut parsed, mut seen) = (Self::default(), Vec::new());
        let parts = parts(name);
        for part in parts.iter().map(|part| Part::new(part)) {
            if seen.contains(&part.subject()) {
                let text = part.text.replace("ps.", "ps-");
                return Err(format!("'{text}' says a second time what an earlier part says"));
            }
            seen.push(part.subject());
            parsed.take(&part)?;
        }
        parsed.check(&seen)?;
        Ok(parsed)
    }

    fn take(&mut self, part: &Part<'_>) -> Result<(), String> {
        match (part.text, part.word) {
            ("single", _) => {}
            ("even", _) => self.even = true,
            ("1f1b", _) => self.schedule = Some(Schedule::OneFOneB),
            ("gpipe", _) => self.schedule = Some(Schedule::FillDrain),
            ("vanilla", _) => (self.schedule, self.micro_batches) = (Some(Schedule::FillDrain), Some(1)),
            ("zb", _) => self.schedule = Some(Schedule::ZeroBubble),
            ("async", _) => self.schedule = Some(Schedule::Asynchronous),
            ("zero1", _) => self.synchronisation = Synchronisation::Zero1,
            ("zero2", _) => self.synchronisation = Synchronisation::Zero2,
            ("zero3", _) => self.synchronisation = Synchronisation::Zero3,
            ("ps.async", _) => self.synchronisation = Synchronisation::AsynchronousServer,
            (_, "ps.stale") => self.synchronisation = Synchronisation::StaleServer { bound: part.bound()? },
            ("ps", _) => self.synchronisation = Synchronisation::ParameterServer,
            ("recompute", _) => self.again = Some(Again::Layers),
            ("recompute.stages", _) => self.again = Some(Again::Stages),
            ("recompute.attention", _) => self.again = Some(Again::Attention),
            (_, "dp") => self.data_degree = part.size()?,
            (_, "pp") => self.stages = part.size()?,
            (_, "tp") => self.axis = Some((Axis::Tensor, part.size()?)),
            (_, "sp") => self.axis = Some((Axis::Sequence, part.size()?)),
            (_, "cp") => self.axis = Some((Axis::Context, part.size()?)),
            (_, "ep") => self.axis = Some((Axis::Experts, part.size()?)),
            (_, "v") => (self.schedule, self.stages_a_rank) = (Some(Schedule::Interleaved), part.size()?),
            (_, "m") if self.micro_batches.is_some() => {
                return Err("'vanilla' has one micro-batch: leave the 'm' part out".to_owned());
            }
            (_, "m") => self.micro_batches = Some(part.count()?),
            (_, "frozen") => self.frozen_layers = Some(part.count()?),
            (_, "bucket") => self.bucket_kib = Some(part.count()?),
            _ => return Err(format!("'{}' is not a part of a plan name", part.text)),
        }
        Ok(())
    }

    fn check(&self, seen: &[&str]) -> Result<(), String> {
        let parallel = ["dp", "pp", "axis"].iter().any(|kind| seen.contains(kind));
        let refused = [
            (seen.contains(&"single") && parallel, "'single' does not go with degrees such as 'dp' or 'pp'"),
            (!seen.contains(&"single") && !parallel, "says neither 'single' nor 'dp', 'pp', 'tp', 'sp', 'cp' or 'ep'"),
            (
                self.stages == 1 && self.schedule.is_some(),
                "a schedule needs stages: add 'pp2' or leave the schedule out",
            ),
            (
                self.stages > 1 && self.schedule.is_none(),
                "'pp' needs a schedule: 1f1b, fill-drain, vanilla, zb, v2 or async",
            ),
            (
                self.schedule.is_some() && self.micro_batches.is_none(),
                "the schedule needs a number of micro-batches: add 'm8'",
            ),
        ];
        self.check_execution()?;
        refused.iter().find(|(wrong, _)| *wrong).map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
    }

    /// Settings that exclude each other.
    fn check_execution(&self) -> Result<(), String> {
        let divided = self.synchronisation != Synchronisation::AllReduce;
        let schedule = self.schedule.unwrap_or(Schedule::OneFOneB);
        let uneven = self.micro_batches.is_some_and(|count| !count.is_multiple_of(self.stages as u64));
        let again = self.again.is_some();
        let pushed = self.synchronisation.is_pushed();
        let refused = [
            (
                pushed && (self.stages > 1 || self.axis_degree() > 1),
                "'ps-async' and 'ps-stale' take one stage without a tensor axis: leave the other degrees out, or choose ps",
            ),
            (
                pushed && self.micro_batches.is_none(),
                "'ps-async' and 'ps-stale' update after each micro-batch: say how many there are with 'm4'",
            ),
            (divided && self.data_degree == 1, "zero1, zero2, zero3 and ps divide work over replicas: add 'dp2'"),
            (self.bucket_kib.is_some() && self.data_degree == 1, "'bucket' is for gradients of replicas: add 'dp2'"),
            (
                schedule == Schedule::Asynchronous && (divided || self.bucket_kib.is_some()),
                "'async' sums gradients in one piece, on all replicas: leave zero, ps and bucket out",
            ),
            (
                (schedule == Schedule::ZeroBubble) && (again || self.synchronisation == Synchronisation::Zero3),
                "'zb' splits the backward pass, which then recomputes nothing: choose 1f1b, or leave recompute and zero3 out",
            ),
            (
                self.synchronisation == Synchronisation::Zero3 && again && self.again != Some(Again::Stages),
                "'zero3' recomputes whole stages: leave the 'recompute' part out",
            ),
            (
                schedule == Schedule::Interleaved && uneven,
                "the micro-batches of an interleaved pipeline are a multiple of its 'pp' degree",
            ),
        ];
        refused.iter().find(|(wrong, _)| *wrong).map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
    }

    /// Ranks that split operators among them.
    pub(super) fn axis_degree(&self) -> usize {
        self.axis.map_or(1, |(_, degree)| degree)
    }

    /// Whether it is a plan that searchers find too.
    pub(super) fn is_searched(&self) -> bool {
        let searched = self.schedule.is_none_or(|schedule| ScheduleKey::of(schedule).is_some());
        searched
            && self.axis_degree() == 1
            && self.synchronisation == Synchronisation::AllReduce
            && self.again.is_none()
            && self.frozen_layers.is_none()
    }

    /// The order of passes. Alone, accumulation holds one micro-batch at a time.
    pub(super) fn schedule(&self) -> Schedule {
        self.schedule.unwrap_or(Schedule::OneFOneB)
    }

    /// The configuration whose cuts the plan takes: that of the nearest schedule that is searched, and of as many replicas as
    /// a stage has devices.
    pub(super) fn configuration(&self, placement: Placement) -> Configuration {
        Configuration {
            data_degree: self.data_degree * self.axis_degree(),
            stages: self.stages,
            micro_batches: self.micro_batches.unwrap_or(1),
            schedule: ScheduleKey::of(self.schedule()).unwrap_or(ScheduleKey::OneFOneB),
            placement,
        }
    }

    /// How the plan of this name executes `model`.
    pub(super) fn execution(&self, model: &ModelGraph) -> Result<Execution, String> {
        Ok(Execution {
            recompute: self.recompute(model)?,
            synchronisation: self.synchronisation,
            bucket_bytes: self.bucket_kib.map(|kib| Bytes::new(kib.saturating_mul(1024))),
            tensor: self.split(model)?,
            frozen: self.frozen(model)?,
        })
    }

    fn split(&self, model: &ModelGraph) -> Result<Option<TensorSplit>, String> {
        let Some((axis, degree)) = self.axis.filter(|(_, degree)| *degree > 1) else { return Ok(None) };
        let ranks = degree as u64;
        let split = match axis {
            Axis::Tensor => TensorSplit::tensor(model, ranks, false),
            Axis::Sequence => TensorSplit::tensor(model, ranks, true),
            Axis::Context => TensorSplit::context(model, ranks),
            Axis::Experts => TensorSplit::experts(model, ranks).map_err(|error| error.to_string())?,
        };
        let none =
            || format!("no operator of '{}' can be split so over {degree} ranks: choose another axis", model.name());
        if split.splits.is_empty() { Err(none()) } else { Ok(Some(split)) }
    }

    /// The operators before the first layer that is trained.
    fn frozen(&self, model: &ModelGraph) -> Result<OpSet, String> {
        let Some(layers) = self.frozen_layers else { return Ok(OpSet::default()) };
        let is_trained = |op: &OpId| model.op(*op).layer.is_some_and(|layer| u64::from(layer) >= layers);
        let first = model.op_ids().find(is_trained);
        let none = || format!("'frozen{layers}' leaves no layer of '{}' to train: freeze fewer", model.name());
        first.map(|first| OpSet::range(0, first.index())).ok_or_else(none)
    }

    fn recompute(&self, model: &ModelGraph) -> Result<Recompute, String> {
        let attention = |op: &OpId| matches!(model.op(*op).kind, OpKind::Attention(_) | OpKind::AdditiveAttention(_));
        match self.again {
            None if self.synchronisation == Synchronisation::Zero3 => Ok(Recompute::Stages),
            None => Ok(Recompute::None),
            Some(Again::Stages) => Ok(Recompute::Stages),
            Some(Again::Layers) => Ok(Recompute::Layers),
            Some(Again::Attention) => {
                let ops: OpSet = model.op_ids().filter(attention).collect();
                let none = || format!("'{}' has no attention: write recompute", model.name());
                if ops.is_empty() { Err(none()) } else { Ok(Recompute::Ops(ops)) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
