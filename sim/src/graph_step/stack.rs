//! What a framework adds to the device, as far as operator graphs are concerned.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cutplane_graph::Architecture;
use serde::{Deserialize, Serialize};

/// A framework by facts of its code and by few numbers, each with a unit. `sim/data/graph-stacks.toml` holds the known
/// ones; [`GraphStack::rows`] says what their numbers were fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphStack {
    /// Name.
    pub name: String,
    /// Images lie in memory as the tensor cores want them, channels last: no kernel turns them around each convolution.
    #[serde(default)]
    pub channels_last: bool,
    /// Batch normalisation, the addition before an activation and the activation are one kernel (cuDNN's fused batch norm).
    #[serde(default)]
    pub fused_norm: bool,
    /// A compiler merges pointwise operators into the kernels around them (XLA).
    #[serde(default)]
    pub fused_pointwise: bool,
    /// One kernel updates many parameters (multi-tensor optimizers).
    #[serde(default)]
    pub multi_tensor_update: bool,
    /// The host waits for the loss at the end of every step and cannot run ahead into the next.
    #[serde(default)]
    pub waits_for_step: bool,
    /// Bytes of memory traffic a parameter in the update, casts of mixed precision aside: 20 for SGD with momentum (three
    /// reads, two writes), 28 for Adam.
    pub update_bytes: f64,
    /// Speed of products, convolutions and recurrent steps over the kernel model's: choice of algorithm, clocks of a whole
    /// run against those of a lone kernel.
    pub product_speed: f64,
    /// Speed of passes over memory over the kernel model's.
    pub pass_speed: f64,
    /// Products on a family of devices over [`GraphStack::product_speed`], where the kernel model was not calibrated on it.
    #[serde(default)]
    pub family_speed: BTreeMap<Architecture, f64>,
    /// Host time to launch one kernel, us.
    pub launch_us: f64,
    /// Time of a step that neither kernels nor launches explain: feeding, session, logging, ms.
    pub step_ms: f64,
    /// Gradients that travel together, MB; 0 for one message a tensor.
    pub bucket_mb: f64,
    /// Share of the exchange of gradients that may go on beside the backward pass.
    pub exchange_overlap: f64,
    /// Bandwidth of the exchange over what the network model, or the bus, has.
    pub exchange_speed: f64,
    /// Bytes a second that the host adds up and hands out as a parameter server of its own devices, GB/s.
    pub host_gb_per_s: f64,
    /// Deviation of a replica's step over its mean: the step of many waits for the slowest.
    pub jitter: f64,
    /// Factor within which nine of ten measurements lie.
    pub spread: f64,
    /// Which rows the numbers were fitted to, or that they are assumed.
    pub rows: String,
}

impl GraphStack {
    /// Speed of products on a family of devices, over the kernel model's.
    pub fn product_speed_on(&self, family: Option<Architecture>) -> f64 {
        let own = family.and_then(|family| self.family_speed.get(&family)).copied().unwrap_or(1.0);
        self.product_speed * own
    }

    /// Expected longest step of `replicas` over the mean one: the maximum of so many normal deviates lies near
    /// `sqrt(2 ln n)` deviations above (Cramer 1946).
    pub fn slowest_of(&self, replicas: u64) -> f64 {
        1.0 + self.jitter * (2.0 * (replicas.max(1) as f64).ln()).sqrt()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    stack: Vec<GraphStack>,
}

static STACKS: LazyLock<Vec<GraphStack>> = LazyLock::new(|| {
    graph_stacks_from_toml(include_str!("../../data/graph-stacks.toml")).expect("a test reads the data file")
});

/// All known stacks.
pub fn graph_stacks() -> &'static [GraphStack] {
    &STACKS
}

/// The stack of a name.
pub fn graph_stack(name: &str) -> Option<&'static GraphStack> {
    STACKS.iter().find(|stack| stack.name == name)
}

/// Reads a file of stacks.
///
/// # Errors
/// What is wrong with the text, by line and key.
pub fn graph_stacks_from_toml(text: &str) -> Result<Vec<GraphStack>, toml::de::Error> {
    toml::from_str::<File>(text).map(|file| file.stack)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_stacks_is_read_and_its_numbers_are_possible() {
        assert!(graph_stacks().len() > 4);
        for stack in graph_stacks() {
            let positive = [stack.product_speed, stack.pass_speed, stack.exchange_speed, stack.host_gb_per_s];
            assert!(positive.iter().all(|number| *number > 0.0), "{}", stack.name);
            assert!((0.0..=1.0).contains(&stack.exchange_overlap) && stack.spread >= 1.0, "{}", stack.name);
            assert!(!stack.rows.is_empty() && graph_stack(&stack.name) == Some(stack), "{}", stack.name);
        }
    }

    #[test]
    fn one_replica_waits_for_nobody() {
        let stack = &graph_stacks()[0];
        assert!((stack.slowest_of(1) - 1.0).abs() < 1e-12);
        assert!(stack.slowest_of(8) >= stack.slowest_of(2));
    }
}
