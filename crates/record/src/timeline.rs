//! Timelines: what each rank did, when.

use cutplane_plan::{Action, InstructionId, Program, Rank};
use cutplane_units::{Bytes, Nanos};
use serde::{Deserialize, Serialize};

/// Where numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The simulator.
    Predicted,
    /// The runtime.
    Measured,
}

/// One executed instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The instruction.
    pub instruction: InstructionId,
    /// Who executed it.
    pub rank: Rank,
    /// When the rank turned to it, from the start of the step.
    pub start: Nanos,
    /// When it had ended.
    pub end: Nanos,
    /// The first part of the span, in which the rank only waited for a peer: a bubble.
    pub waited: Nanos,
}

impl Span {
    /// Time from start to end.
    pub fn duration(&self) -> Nanos {
        self.end.saturating_sub(self.start)
    }

    /// Time in which something was done: the duration without the waiting.
    pub fn busy(&self) -> Nanos {
        self.duration().saturating_sub(self.waited)
    }
}

/// One step of a program, as predicted or as measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Predicted or measured.
    pub source: Source,
    /// Digest of the plan.
    pub plan_digest: String,
    /// All spans, ordered by rank, then start.
    pub spans: Vec<Span>,
    /// Peak memory of each rank.
    pub peak_memory: Vec<Bytes>,
}

/// Where a rank's step goes; the parts sum to the makespan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breakdown {
    /// Forward passes.
    pub forward: Nanos,
    /// Backward passes, with what they compute again.
    pub backward: Nanos,
    /// Sends and receives, without waiting.
    pub point_to_point: Nanos,
    /// Gradient synchronisation, without waiting.
    pub all_reduce: Nanos,
    /// Optimizer.
    pub optimizer: Nanos,
    /// Loading of inputs.
    pub load: Nanos,
    /// Waiting and idle: the bubble.
    pub bubble: Nanos,
}

impl Breakdown {
    /// The parts with their names, in stacking order.
    pub fn parts(&self) -> [(&'static str, Nanos); 7] {
        [
            ("load", self.load),
            ("forward", self.forward),
            ("backward", self.backward),
            ("send/recv", self.point_to_point),
            ("all-reduce", self.all_reduce),
            ("optimizer", self.optimizer),
            ("bubble", self.bubble),
        ]
    }
}

impl Timeline {
    /// End of the last span: the step time.
    pub fn makespan(&self) -> Nanos {
        self.spans.iter().map(|span| span.end).max().unwrap_or(Nanos::ZERO)
    }

    /// The spans of one rank, by start.
    pub fn rank_spans(&self, rank: Rank) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(move |span| span.rank == rank)
    }

    /// Peak memory of the fullest rank.
    pub fn max_peak_memory(&self) -> Bytes {
        self.peak_memory.iter().copied().max().unwrap_or(Bytes::ZERO)
    }

    /// Share of the makespan in which `rank` computes (forward or backward): 1 - this is the bubble of the closed forms.
    pub fn compute_share(&self, program: &Program, rank: Rank) -> f64 {
        let parts = self.breakdown(program, rank);
        (parts.forward + parts.backward).as_f64() / self.makespan().as_f64().max(1.0)
    }

    /// Where the step of `rank` goes. Streams that overlap may make the busy parts pass the makespan; the bubble is then
    /// what compute leaves idle.
    pub fn breakdown(&self, program: &Program, rank: Rank) -> Breakdown {
        let mut parts = Breakdown::default();
        let list = &program.ranks[rank.index()].instructions;
        let first = list.first().map_or(0, |instruction| instruction.id.0);
        for span in self.rank_spans(rank) {
            let slot = match list[(span.instruction.0 - first) as usize].action {
                Action::Forward { .. } => &mut parts.forward,
                Action::Backward { .. }
                | Action::BackwardInput { .. }
                | Action::BackwardWeight { .. }
                | Action::Recompute { .. } => &mut parts.backward,
                Action::Send { .. } | Action::Recv { .. } | Action::Push { .. } | Action::Pull { .. } => {
                    &mut parts.point_to_point
                }
                action if action.collective().is_some() => &mut parts.all_reduce,
                Action::Load { .. } => &mut parts.load,
                _ => &mut parts.optimizer,
            };
            *slot += span.busy();
        }
        let busy: Nanos = parts.parts().iter().map(|(_, time)| *time).sum();
        parts.bubble = self.makespan().saturating_sub(busy);
        parts
    }
}
