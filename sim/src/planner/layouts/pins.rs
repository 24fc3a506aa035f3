//! Decisions that the user takes out of the search.

use serde::{Deserialize, Serialize};

use super::error::LayoutError;
use crate::estimate::{Offload, PipelineSchedule, Recompute, Zero, ZeroStage};

/// Kinds of recomputation that a search chooses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecomputeChoice {
    /// Nothing.
    None,
    /// The attention core.
    Selective,
    /// As few whole layers of each stage as make it fit.
    Layers,
    /// Every repeated layer.
    Full,
}

impl RecomputeChoice {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Selective, Self::Layers, Self::Full];

    /// Its cheapest member: what bounds the time of all others from below.
    pub(super) const fn cheapest(self) -> Recompute {
        match self {
            Self::None | Self::Layers => Recompute::None,
            Self::Selective => Recompute::Selective,
            Self::Full => Recompute::Full,
        }
    }

    /// The kind of a layout's recomputation.
    pub const fn of(recompute: Recompute) -> Self {
        match recompute {
            Recompute::None => Self::None,
            Recompute::Selective => Self::Selective,
            Recompute::Layers(_) => Self::Layers,
            Recompute::Full => Self::Full,
        }
    }
}

/// Decisions that are fixed; the search chooses the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pins {
    /// Tensor-parallel ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tp: Option<u64>,
    /// Pipeline stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pp: Option<u64>,
    /// Data-parallel replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dp: Option<u64>,
    /// Context-parallel ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cp: Option<u64>,
    /// Expert-parallel ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ep: Option<u64>,
    /// Model chunks a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpp: Option<u64>,
    /// Samples of a micro-batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<u64>,
    /// Devices used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<u64>,
    /// Sequence parallelism.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_parallel: Option<bool>,
    /// Whole experts on each rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole_experts: Option<bool>,
    /// Sharding over replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero: Option<Zero>,
    /// Order of the passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<PipelineSchedule>,
    /// Recomputation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recompute: Option<RecomputeChoice>,
    /// What lives in host memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offload: Option<Offload>,
}

const REMEDY: &str = "write tp=8, pp=16, dp=8, cp=2, ep=8, vpp=2, micro-batch=1, devices=512, sp=on, experts=whole, \
                      zero=1 (or 3/8 for groups of 8), schedule=1f1b, recompute=full or offload=none";

impl Pins {
    /// Reads pins such as `tp=8`; several may be joined by commas.
    ///
    /// ```
    /// let pins = cutplane_sim::planner::layouts::Pins::parse(&["tp=8,pp=16", "schedule=1f1b"])?;
    /// assert_eq!((pins.tp, pins.pp, pins.dp), (Some(8), Some(16), None));
    /// # Ok::<(), cutplane_sim::planner::layouts::LayoutError>(())
    /// ```
    ///
    /// # Errors
    /// [`LayoutError::Pin`] for an unknown name or value.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, LayoutError> {
        let mut pins = Self::default();
        for text in texts.iter().flat_map(|text| text.as_ref().split(',')) {
            pins.set(text.trim())?;
        }
        Ok(pins)
    }

    fn set(&mut self, text: &str) -> Result<(), LayoutError> {
        let refuse = |problem: String| LayoutError::Pin { pin: text.to_owned(), problem, remedy: REMEDY.to_owned() };
        let Some((name, value)) = text.split_once('=') else { return Err(refuse("no '=' in it".to_owned())) };
        let known = match name {
            "sp" | "sequence-parallel" => set(&mut self.sequence_parallel, on_or_off(value)),
            "experts" => set(&mut self.whole_experts, experts(value)),
            "zero" => set(&mut self.zero, zero(value)),
            "schedule" => set(&mut self.schedule, schedule(value)),
            "recompute" => set(&mut self.recompute, recompute(value)),
            "offload" => set(&mut self.offload, offload(value)),
            _ => match self.degree(name) {
                Some(degree) => set(degree, value.parse().ok().filter(|degree| *degree > 0)),
                None => return Err(refuse(format!("no decision is called '{name}'"))),
            },
        };
        if known { Ok(()) } else { Err(refuse(format!("'{value}' is not a value of '{name}'"))) }
    }

    fn degree(&mut self, name: &str) -> Option<&mut Option<u64>> {
        Some(match name {
            "tp" => &mut self.tp,
            "pp" => &mut self.pp,
            "dp" => &mut self.dp,
            "cp" => &mut self.cp,
            "ep" => &mut self.ep,
            "vpp" => &mut self.vpp,
            "mb" | "micro-batch" => &mut self.micro_batch,
            "devices" => &mut self.devices,
            _ => return None,
        })
    }

    /// Every pin, as it would be written.
    pub fn texts(&self) -> Vec<String> {
        let degrees = [
            ("tp", self.tp),
            ("pp", self.pp),
            ("dp", self.dp),
            ("cp", self.cp),
            ("ep", self.ep),
            ("vpp", self.vpp),
            ("micro-batch", self.micro_batch),
            ("devices", self.devices),
        ];
        let degrees = degrees.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        let rest = [
            self.sequence_parallel.map(|on| format!("sp={}", if on { "on" } else { "off" })),
            self.whole_experts.map(|whole| format!("experts={}", if whole { "whole" } else { "cut" })),
            self.zero.map(|zero| format!("zero={}", zero_label(zero))),
            self.schedule.map(|schedule| format!("schedule={}", schedule_label(schedule))),
            self.recompute.map(|choice| format!("recompute={choice:?}").to_lowercase()),
            self.offload.map(|offload| format!("offload={offload:?}").to_lowercase()),
        ];
        degrees.chain(rest.into_iter().flatten()).collect()
    }

    /// The same pins without the one that `text` (of [`Pins::texts`]) is.
    #[must_use]
    pub fn without(&self, text: &str) -> Self {
        let rest: Vec<String> = self.texts().into_iter().filter(|pin| pin != text).collect();
        Self::parse(&rest).unwrap_or_default()
    }
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let known = value.is_some();
    *slot = value;
    known
}

fn on_or_off(value: &str) -> Option<bool> {
    match value {
        "on" | "true" | "1" => Some(true),
        "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

fn experts(value: &str) -> Option<bool> {
    match value {
        "whole" => Some(true),
        "cut" => Some(false),
        _ => None,
    }
}

fn zero(value: &str) -> Option<Zero> {
    let (stage, group) = value.split_once('/').map_or((value, None), |(stage, group)| (stage, Some(group)));
    let stage = match stage {
        "0" | "none" => ZeroStage::None,
        "1" => ZeroStage::One,
        "2" => ZeroStage::Two,
        "3" => ZeroStage::Three,
        _ => return None,
    };
    let shard_group = group.map(str::parse).transpose().ok()?;
    Some(Zero { stage, shard_group })
}

/// `1`, or `3/8` for groups of 8.
pub(super) fn zero_label(zero: Zero) -> String {
    let stage = match zero.stage {
        ZeroStage::None => 0,
        ZeroStage::One => 1,
        ZeroStage::Two => 2,
        ZeroStage::Three => 3,
    };
    zero.shard_group.map_or(stage.to_string(), |group| format!("{stage}/{group}"))
}

fn schedule(value: &str) -> Option<PipelineSchedule> {
    let all = [
        PipelineSchedule::Vanilla,
        PipelineSchedule::FillDrain,
        PipelineSchedule::OneForwardOneBackward,
        PipelineSchedule::Interleaved,
        PipelineSchedule::ZeroBubble,
    ];
    all.into_iter().find(|schedule| schedule_label(*schedule) == value)
}

/// `1f1b`, `fill-drain`, `interleaved`, `zero-bubble` or `vanilla`.
pub(super) const fn schedule_label(schedule: PipelineSchedule) -> &'static str {
    match schedule {
        PipelineSchedule::Vanilla => "vanilla",
        PipelineSchedule::FillDrain => "fill-drain",
        PipelineSchedule::OneForwardOneBackward => "1f1b",
        PipelineSchedule::Interleaved => "interleaved",
        PipelineSchedule::ZeroBubble => "zero-bubble",
    }
}

fn recompute(value: &str) -> Option<RecomputeChoice> {
    RecomputeChoice::ALL.into_iter().find(|choice| format!("{choice:?}").to_lowercase() == value)
}

fn offload(value: &str) -> Option<Offload> {
    match value {
        "none" => Some(Offload::None),
        "optimizer" => Some(Offload::Optimizer),
        _ => None,
    }
}
