//! The searched space, level by level: arithmetic of a layer, grid of devices, schedule, sharding.

use super::facts::{Facts, divisors};
use super::pins::{Pins, RecomputeChoice};
use super::problem::LayoutProblem;
use super::splits;
use crate::estimate::{Layout, Offload, PipelineSchedule, Zero, ZeroStage};

/// Most model chunks a device.
const MOST_CHUNKS: u64 = 64;

/// What decides the price of a layer over one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Arithmetic {
    pub(super) tp: u64,
    pub(super) sequence_parallel: bool,
    pub(super) cp: u64,
    pub(super) ep: u64,
    pub(super) whole_experts: bool,
    pub(super) micro_batch: u64,
    pub(super) recompute: RecomputeChoice,
}

/// Stages and replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grid {
    pub(super) pp: u64,
    pub(super) dp: u64,
}

/// Order of the passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Timing {
    pub(super) schedule: PipelineSchedule,
    pub(super) vpp: u64,
}

/// What replicas share, and what the host holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sharing {
    pub(super) zero: Zero,
    pub(super) offload: Offload,
}

/// The space of a problem.
#[derive(Clone, Debug)]
pub(super) struct Space {
    facts: Facts,
    pins: Pins,
    devices: u64,
    node: u64,
    batch: u64,
    blank: Layout,
}

fn allowed<T: PartialEq + Copy>(pin: Option<T>, value: T) -> bool {
    pin.is_none_or(|pin| pin == value)
}

impl Space {
    pub(super) fn new(problem: &LayoutProblem<'_>) -> Self {
        let devices = problem.devices();
        Self {
            facts: Facts::of(problem.model, devices),
            pins: problem.pins.clone(),
            devices,
            node: problem.fabric.node() as u64,
            batch: problem.global_batch,
            blank: problem.blank(),
        }
    }

    pub(super) const fn layers(&self) -> u64 {
        self.facts.layers
    }

    /// Every way to compute a layer.
    pub(super) fn arithmetics(&self) -> Vec<Arithmetic> {
        let micro_batches: Vec<u64> =
            divisors(self.batch).into_iter().filter(|size| allowed(self.pins.micro_batch, *size)).collect();
        let mut all = Vec::new();
        for (tp, sequence_parallel) in self.tensor() {
            for &cp in self.facts.context.iter().filter(|cp| allowed(self.pins.cp, **cp) && self.packs(tp * **cp)) {
                for (ep, whole_experts) in self.experts(tp) {
                    for &micro_batch in &micro_batches {
                        let recomputes = RecomputeChoice::ALL.into_iter();
                        let recomputes = recomputes.filter(|choice| allowed(self.pins.recompute, *choice));
                        all.extend(recomputes.map(|recompute| Arithmetic {
                            tp,
                            sequence_parallel,
                            cp,
                            ep,
                            whole_experts,
                            micro_batch,
                            recompute,
                        }));
                    }
                }
            }
        }
        all
    }

    fn tensor(&self) -> Vec<(u64, bool)> {
        let degrees = self.facts.tensor.iter().copied();
        let degrees = degrees.filter(|tp| allowed(self.pins.tp, *tp) && self.packs(*tp));
        let ways = degrees.flat_map(|tp| [(tp, false), (tp, true)]);
        ways.filter(|(tp, sp)| (*tp > 1 || !sp) && allowed(self.pins.sequence_parallel, *sp)).collect()
    }

    fn experts(&self, tp: u64) -> Vec<(u64, bool)> {
        let degrees = self.facts.expert.iter().copied().filter(|ep| allowed(self.pins.ep, *ep));
        let has_experts = self.facts.expert.len() > 1;
        let ways = degrees.flat_map(|ep| [(ep, false), (ep, true)]);
        ways.filter(|(_, whole)| (!whole || (tp > 1 && has_experts)) && allowed(self.pins.whole_experts, *whole))
            .collect()
    }

    /// Whether axes of `ranks` ranks in all lie regularly: they divide a node, fill whole nodes, or all devices are one node's.
    fn packs(&self, ranks: u64) -> bool {
        let regular = self.node.is_multiple_of(ranks) || ranks.is_multiple_of(self.node) || self.devices <= self.node;
        regular && ranks <= self.devices
    }

    /// Every number of stages and replicas, for one arithmetic.
    pub(super) fn grids(&self, arithmetic: &Arithmetic) -> Vec<Grid> {
        let Arithmetic { tp, cp, micro_batch, .. } = *arithmetic;
        let stages = (1..=self.facts.layers.max(1)).filter(|pp| allowed(self.pins.pp, *pp));
        let stages: Vec<u64> = stages.take_while(|pp| tp * cp * pp <= self.devices).collect();
        let mut grids = Vec::new();
        for dp in divisors(self.batch / micro_batch) {
            if self.lies(arithmetic, dp) {
                let pps = stages.iter().copied().filter(|pp| self.uses(tp * cp * dp * pp));
                grids.extend(pps.map(|pp| Grid { pp, dp }));
            }
        }
        grids
    }

    /// Whether `dp` replicas of one stage with this arithmetic lie regularly on these devices.
    pub(super) fn lies(&self, arithmetic: &Arithmetic, dp: u64) -> bool {
        let Arithmetic { tp, cp, ep, whole_experts, .. } = *arithmetic;
        let expert_ranks = dp * cp * if whole_experts { tp } else { 1 };
        let degrees = [tp, tp * cp, tp * cp * dp];
        allowed(self.pins.dp, dp) && degrees.iter().all(|ranks| self.packs(*ranks)) && expert_ranks.is_multiple_of(ep)
    }

    fn uses(&self, devices: u64) -> bool {
        devices <= self.devices && allowed(self.pins.devices, devices)
    }

    /// Every schedule of a grid. Interleaving wants a multiple of the stages as micro-batches, and chunks that are even but
    /// for the ends, as Megatron-LM does. Zero-bubble schedules want as many micro-batches as stages to take weight gradients from.
    pub(super) fn timings(&self, arithmetic: &Arithmetic, grid: &Grid) -> Vec<Timing> {
        let one = |schedule| Timing { schedule, vpp: 1 };
        let mut all = vec![one(PipelineSchedule::OneForwardOneBackward)];
        if grid.pp > 1 {
            let micro_batches = self.batch / (grid.dp * arithmetic.micro_batch);
            all.push(one(PipelineSchedule::FillDrain));
            if micro_batches >= grid.pp {
                all.push(one(PipelineSchedule::ZeroBubble));
            }
            if micro_batches.is_multiple_of(grid.pp) {
                let even = (2..=MOST_CHUNKS).filter(|vpp| splits::is_even(self.facts.layers, grid.pp * vpp));
                all.extend(even.map(|vpp| Timing { schedule: PipelineSchedule::Interleaved, vpp }));
            }
            if self.pins.schedule == Some(PipelineSchedule::Vanilla) {
                all.push(one(PipelineSchedule::Vanilla));
            }
        }
        all.retain(|timing| {
            let schedule = grid.pp == 1 || allowed(self.pins.schedule, timing.schedule);
            schedule && allowed(self.pins.vpp, timing.vpp)
        });
        all
    }

    /// Every sharding: none, over all replicas, parameters over the replicas of a node only.
    pub(super) fn sharings(&self, arithmetic: &Arithmetic, grid: &Grid) -> Vec<Sharing> {
        let replicas = grid.dp * arithmetic.cp;
        let near = (self.node / arithmetic.tp.min(self.node)).min(replicas);
        let hybrid = Zero { stage: ZeroStage::Three, shard_group: Some(near) };
        let mut zeros = vec![Zero::default()];
        if replicas > 1 {
            zeros.extend([ZeroStage::One, ZeroStage::Two, ZeroStage::Three].map(Zero::stage));
            if near > 1 && near < replicas && replicas.is_multiple_of(near) {
                zeros.push(hybrid);
            }
            if let Some(pin) = self.pins.zero.filter(|pin| pin.shard_group.is_some_and(|g| fits_in(g, replicas))) {
                zeros = vec![pin];
            }
        }
        zeros.retain(|zero| allowed(self.pins.zero, *zero));
        let offloads = [Offload::None, Offload::Optimizer].into_iter();
        let offloads = offloads.filter(|offload| allowed(self.pins.offload, *offload));
        offloads.flat_map(|offload| zeros.iter().map(move |zero| Sharing { zero: *zero, offload })).collect()
    }

    /// The layout of a point of the space; layers recomputed singly start at the cheapest.
    pub(super) fn layout(&self, arithmetic: &Arithmetic, grid: &Grid, timing: &Timing, sharing: &Sharing) -> Layout {
        Layout {
            dp: grid.dp,
            pp: grid.pp,
            schedule: timing.schedule,
            vpp: timing.vpp,
            zero: sharing.zero,
            offload: sharing.offload,
            ..self.priced_alone(arithmetic)
        }
    }

    /// One stage over one micro-batch, with as few replicas as the experts need.
    pub(super) fn priced_alone(&self, arithmetic: &Arithmetic) -> Layout {
        let Arithmetic { tp, sequence_parallel, cp, ep, whole_experts, micro_batch, recompute } = *arithmetic;
        let recompute = recompute.cheapest();
        Layout { tp, cp, ep, whole_experts, sequence_parallel, recompute, micro_batch, ..self.blank.clone() }
    }

    /// Devices that a point uses.
    pub(super) const fn devices_of(arithmetic: &Arithmetic, grid: &Grid) -> u64 {
        arithmetic.tp * arithmetic.cp * grid.pp * grid.dp
    }

    /// Devices that may be used.
    pub(super) const fn devices(&self) -> u64 {
        self.devices
    }

    /// Samples of a step.
    pub(super) const fn batch(&self) -> u64 {
        self.batch
    }
}

const fn fits_in(group: u64, replicas: u64) -> bool {
    group > 0 && replicas.is_multiple_of(group)
}
