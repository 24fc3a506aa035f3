//! What a framework adds to the device, as far as operator graphs are concerned.

use std::sync::LazyLock;

use cutplane_graph::Architecture;
use serde::{Deserialize, Serialize};

use super::charge::Charge;
use super::numerics::Numerics;
use crate::kernel::{GpuModel, Precision};

/// How images lie in memory, and what convolves them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Images {
    /// Channels first: tensor cores have what they read turned.
    #[default]
    ChannelsFirst,
    /// Channels last, as tensor cores want them.
    ChannelsLast,
    /// Channels first, one image after the other unfolded and multiplied: no library for convolutions.
    Unfolded,
}

/// Which operators run inside the kernels before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fuses {
    /// None.
    #[default]
    Nothing,
    /// Batch normalisation, the addition before an activation and the activation are one kernel (cuDNN's fused batch norm).
    Norms,
    /// A compiler merges these and all other pointwise operators (XLA).
    Pointwise,
}

/// A framework by facts of its code and by few numbers, each with a unit. [`GraphStack::rows`] says what the numbers were
/// fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphStack {
    /// Name.
    pub name: String,
    /// How images lie in memory, and what convolves them.
    #[serde(default)]
    pub images: Images,
    /// Which operators run inside the kernels before them.
    #[serde(default)]
    pub fuses: Fuses,
    /// One kernel updates many parameters (multi-tensor optimizers).
    #[serde(default)]
    pub multi_tensor_update: bool,
    /// Speed of products and convolutions on vector lanes over the kernel model's: choice of algorithm, clocks of a whole run
    /// against those of a lone kernel.
    pub vector_speed: f64,
    /// The same on matrix units.
    pub tensor_speed: f64,
    /// The same of recurrent steps, sequences of unequal length included.
    pub recurrent_speed: f64,
    /// Speed of passes over memory over the kernel model's.
    pub pass_speed: f64,
    /// Speed of pools and of filters of one row or one column over the model's other passes and products.
    pub rare_speed: f64,
    /// Host time to launch one kernel, us.
    pub launch_us: f64,
    /// Time of a step that neither kernels nor launches explain: feeding, session, logging, ms.
    pub step_ms: f64,
    /// Gradients that travel together, MB; 0 for one message a tensor.
    pub bucket_mb: f64,
    /// Time between two looks of a coordinator that sends together what waits, up to `bucket_mb`, ms; 0 where buckets are
    /// filled in a fixed order.
    #[serde(default)]
    pub cycle_ms: f64,
    /// Share of the exchange of gradients that may go on beside the backward pass.
    pub exchange_overlap: f64,
    /// Bandwidth of collectives over what the network model says.
    pub exchange_speed: f64,
    /// Bandwidth of plain copies between devices, hosts and machines over what the bus or the card has.
    pub copy_speed: f64,
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
    /// Expected longest step of `replicas` over the mean one: the maximum of so many normal deviates lies near
    /// `sqrt(2 ln n)` deviations above (Cramer 1946).
    ///
    /// `deviation` is that of the replicas' batches themselves, over their mean: unequal lengths.
    pub fn slowest_of(&self, replicas: u64, deviation: f64) -> f64 {
        1.0 + self.jitter.hypot(deviation) * (2.0 * (replicas.max(1) as f64).ln()).sqrt()
    }
}

/// What whole networks showed of a family of devices whose convolutions no kernel rows tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilySpeed {
    /// The family.
    pub architecture: Architecture,
    /// Speed of products and convolutions over the kernel model's.
    pub products: f64,
    /// Speed of passes over memory over the kernel model's.
    pub passes: f64,
}

/// All numbers of the graph step model: `sim/data/graph-stacks.toml`, written by a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphCalibration {
    /// Speed of products in TF32 over that of other products on matrix units, beyond what their peaks say: operands are twice
    /// as wide on their way in.
    pub tf32_speed: f64,
    /// Speed of products on vector lanes in libraries since 2017: whole networks take the fastest algorithm of each shape,
    /// kernel benchmarks a good one.
    pub vector_speed: f64,
    /// Speed of passes over 16-bit images whose channels do not come last, over that in 32 bits: kernels that take an element
    /// at a time are bound by instructions, not bytes.
    pub narrow_pass_speed: f64,
    /// Speed of recurrent steps on devices whose kernel calibration saw none.
    pub untold_recurrent_speed: f64,
    /// Which rows the numbers that stacks share were fitted to, or that they are assumed.
    pub rows: String,
    /// Families.
    pub family: Vec<FamilySpeed>,
    /// Frameworks.
    pub stack: Vec<GraphStack>,
}

impl GraphCalibration {
    /// The calibration of this build.
    pub fn known() -> &'static Self {
        &CALIBRATION
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with the text, by line and key.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of a file.
    ///
    /// # Errors
    /// A number that no file can hold.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// The stack of a name.
    pub fn stack(&self, name: &str) -> Option<&GraphStack> {
        self.stack.iter().find(|stack| stack.name == name)
    }

    /// How fast a stack runs kernels of a precision on a device, over the kernel model.
    pub fn speeds(&self, stack: &GraphStack, gpu: &GpuModel, numerics: Numerics) -> Speeds {
        let architecture = gpu.facts.architecture;
        let family = self.family.iter().find(|family| Some(family.architecture) == architecture);
        let (products, passes) = family.map_or((1.0, 1.0), |family| (family.products, family.passes));
        let own = match numerics.products {
            precision if !gpu.facts.peak(precision).tensor => stack.vector_speed * self.vector_speed,
            Precision::Tf32 => stack.tensor_speed * self.tf32_speed,
            _ => stack.tensor_speed,
        };
        let narrow = numerics.activation_bytes < 4 && stack.images != Images::ChannelsLast;
        let passes = passes * if narrow { self.narrow_pass_speed } else { 1.0 };
        Speeds {
            products: own * products,
            recurrent: stack.recurrent_speed * if tells_recurrent(gpu) { 1.0 } else { self.untold_recurrent_speed },
            passes: stack.pass_speed * passes,
            rare: stack.rare_speed,
            launch: stack.launch_us * 1e-6,
        }
    }
}

/// Whether the device's kernel calibration was fitted to recurrent layers.
fn tells_recurrent(gpu: &GpuModel) -> bool {
    let step = |name: &String| name == "step_us" || name == "step_efficiency";
    gpu.calibration.as_ref().is_some_and(|known| known.fitted.iter().any(step))
}

/// Speeds of a stack on a device, over the kernel model's, and the host's time to launch a kernel, s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    /// Of products and convolutions.
    pub products: f64,
    /// Of recurrent steps.
    pub recurrent: f64,
    /// Of passes over memory.
    pub passes: f64,
    /// Of pools and of filters of one row or column, over the others'.
    pub rare: f64,
    /// Host time of a launch, s.
    pub launch: f64,
}

impl Speeds {
    /// Time of a charge on the device, s.
    pub fn device(self, charge: Charge) -> f64 {
        let slow = charge.rare * (1.0 / self.rare - 1.0);
        charge.products / self.products + charge.recurrent / self.recurrent + charge.passes / self.passes + slow
    }
}

static CALIBRATION: LazyLock<GraphCalibration> = LazyLock::new(|| {
    GraphCalibration::from_toml(include_str!("../../data/graph-stacks.toml")).expect("a test reads the data file")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_and_its_numbers_are_possible() {
        let known = GraphCalibration::known();
        assert!(known.tf32_speed > 0.0 && known.stack.len() > 4);
        for stack in &known.stack {
            let positive =
                [stack.vector_speed, stack.pass_speed, stack.rare_speed, stack.exchange_speed, stack.host_gb_per_s];
            assert!(positive.iter().all(|number| *number > 0.0), "{}", stack.name);
            assert!((0.0..=1.0).contains(&stack.exchange_overlap) && stack.spread >= 1.0, "{}", stack.name);
            assert!(!stack.rows.is_empty() && known.stack(&stack.name) == Some(stack), "{}", stack.name);
        }
    }

    #[test]
    fn a_calibration_survives_its_file() {
        let known = GraphCalibration::known();
        assert_eq!(&GraphCalibration::from_toml(&known.to_toml().unwrap()).unwrap(), known);
    }

    #[test]
    fn one_replica_waits_for_nobody() {
        let stack = &GraphCalibration::known().stack[0];
        assert!((stack.slowest_of(1, 0.3) - 1.0).abs() < 1e-12);
        assert!(
            stack.slowest_of(8, 0.0) > stack.slowest_of(2, 0.0) && stack.slowest_of(8, 0.1) > stack.slowest_of(8, 0.0)
        );
    }
}
