//! A model, a device, a fabric and a stack to estimate with; a repeatable draw.

use cutplane_sim::estimate::{Estimator, FoldedModel, Layout, Stack, StepEstimate};
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::{Fabric, Interconnect, Level};
use cutplane_zoo::transformer::{Decoder, Experts, Positions};

/// A decoder of some layers; with experts where a number of them is given.
pub(crate) fn decoder(layers: u64, hidden: u64, experts: Option<u64>) -> FoldedModel {
    let base = if experts.is_some() { Decoder::mixtral() } else { Decoder::gpt2() };
    let mixture = experts.map(|count| Experts { count, top_k: 2, capacity_factor: None, normalised: true });
    let decoder = Decoder {
        layers,
        hidden,
        heads: 16,
        kv_heads: 16,
        head_dim: Some(hidden / 16),
        ffn_hidden: 4 * hidden,
        vocab: 51_200,
        context: 1024,
        positions: Positions::None,
        experts: mixture,
        window: None,
        ..base
    };
    FoldedModel::new(&decoder.graph(1024).unwrap())
}

/// Nodes of eight A100 with a card of 200 Gb/s each.
pub(crate) fn nodes() -> Fabric {
    let inside = Level::new(Interconnect::NvSwitch(3), 8, 300e9);
    let between = Level::new(Interconnect::InfiniBand, 8 << 14, 25e9).ports(8);
    Fabric::new("nodes of eight", vec![inside, between]).unwrap()
}

/// Estimates a layout with a stack of the file.
pub(crate) fn step(model: &FoldedModel, layout: &Layout, stack: &str) -> StepEstimate {
    let device = cutplane_zoo::device_from_hardware_text("A100-SXM4-80GB").unwrap();
    let (gpu, fabric) = (GpuModel::from_spec(device), nodes());
    Estimator::new(model, &gpu, &fabric, Stack::named(stack, None).unwrap()).estimate(layout).unwrap()
}

/// Prices many layouts of a model.
pub(crate) fn with_estimator(model: &FoldedModel, stack: &str, work: impl FnOnce(&Estimator<'_>)) {
    let device = cutplane_zoo::device_from_hardware_text("A100-SXM4-80GB").unwrap();
    let (gpu, fabric) = (GpuModel::from_spec(device), nodes());
    work(&Estimator::new(model, &gpu, &fabric, Stack::named(stack, None).unwrap()));
}

/// Numbers that follow from a seed (Lehmer's generator).
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed * 2 + 1)
    }

    /// A whole number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// A number between 1 and 2.
    pub(crate) fn factor(&mut self) -> f64 {
        1.0 + self.below(1000) as f64 / 1000.0
    }
}
