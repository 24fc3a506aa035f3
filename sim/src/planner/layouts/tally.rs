//! What a search has found and counted so far.

use cutplane_units::Bytes;
use serde::{Deserialize, Serialize};

use super::error::LayoutShortfall;
use super::outcome::{Candidate, label};
use super::problem::LayoutProblem;
use crate::estimate::Layout;
use crate::footprint::Footprint;

/// How much work a search was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchCounts {
    /// Layouts that the estimator priced.
    pub priced: u64,
    /// Layouts whose memory was counted.
    pub checked: u64,
    /// Of these, too large.
    pub did_not_fit: u64,
    /// Sets of layouts that were left out because a bound was no better than what was found.
    pub cut_by_bound: u64,
    /// Sets of layouts that were left out because none of them fits.
    pub cut_by_memory: u64,
    /// Layouts that the estimator refused as inconsistent.
    pub refused: u64,
}

/// The best candidates, the nearest miss, and the counts.
#[derive(Debug)]
pub(super) struct Tally {
    top_k: usize,
    device_memory: u64,
    devices: u64,
    device_model: String,
    /// Best first; at most `top_k`.
    pub(super) best: Vec<Candidate>,
    /// The smallest overrun, with its layout.
    nearest: Option<(f64, Layout, Footprint)>,
    pub(super) counts: SearchCounts,
}

impl Tally {
    pub(super) fn new(problem: &LayoutProblem<'_>, top_k: usize) -> Self {
        Self {
            top_k: top_k.max(1),
            device_memory: problem.device_memory,
            devices: problem.devices(),
            device_model: problem.gpu.name().to_owned(),
            best: Vec::new(),
            nearest: None,
            counts: SearchCounts::default(),
        }
    }

    /// What a candidate must stay below to be among the best.
    pub(super) fn cutoff(&self) -> f64 {
        if self.best.len() < self.top_k { f64::INFINITY } else { self.best[self.best.len() - 1].value }
    }

    /// Takes a candidate in, once: likely ones are met twice.
    pub(super) fn offer(&mut self, candidate: Candidate) {
        let known = |best: &Candidate| best.value <= candidate.value && best.layout == candidate.layout;
        if candidate.value >= self.cutoff() || self.best.iter().any(known) {
            return;
        }
        let at = self.best.partition_point(|known| known.value <= candidate.value);
        self.best.insert(at, candidate);
        self.best.truncate(self.top_k);
    }

    /// Notes a layout that does not fit.
    pub(super) fn too_large(&mut self, layout: &Layout, footprint: &Footprint) {
        let overrun = -footprint.verdict(self.device_memory).margin;
        if self.best.is_empty() && self.nearest.as_ref().is_none_or(|(least, ..)| overrun < *least) {
            self.nearest = Some((overrun, layout.clone(), footprint.clone()));
        }
    }

    /// Memory of a device with which the nearest miss would fit, bytes.
    pub(super) fn nearest_memory(&self) -> Option<u64> {
        let overrun = self.nearest.as_ref()?.0;
        // A byte more, since the share is rounded.
        Some((self.device_memory as f64 * (1.0 + overrun)).ceil() as u64 + 1)
    }

    /// The nearest miss.
    pub(super) fn shortfall(&self) -> Option<LayoutShortfall> {
        let (_, layout, footprint) = self.nearest.as_ref()?;
        let verdict = footprint.verdict(self.device_memory);
        Some(LayoutShortfall {
            device_model: self.device_model.clone(),
            devices: self.devices,
            layout: label(layout),
            stage: verdict.stage,
            binding: verdict.binding,
            binding_bytes: Bytes::new(verdict.binding_bytes as u64),
            needed: footprint.device(),
            available: Bytes::new(self.device_memory),
        })
    }
}
