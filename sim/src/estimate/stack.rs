//! What a software stack adds to the device: which kernels it launches, how fast the host launches them, what it overlaps.

use std::sync::LazyLock;

use cutplane_graph::Architecture;
use serde::{Deserialize, Serialize};

use crate::kernel::AttentionAlgorithm;
use crate::network::Library;

/// What the code of a framework does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Trait {
    /// Attention and residuals have dropout.
    Dropout,
    /// Bias, activation, dropout and residual are fused into one kernel each.
    FusedPointwise,
    /// Matrix products add their bias themselves.
    BiasInProduct,
    /// Gradients travel in buckets beside the backward pass.
    OverlapsGradients,
    /// Shards of parameters are gathered a unit ahead (FSDP, ZeRO-3).
    Prefetches,
    /// Parameters that others updated are gathered beside the next forward pass (ZeRO-1 and -2).
    GathersAhead,
    /// A pipeline rank waits for its neighbours at every exchange.
    BlockingPipeline,
    /// Messages between interleaved stages travel beside computation.
    OverlapsMessages,
    /// Pipeline messages are cut over the tensor-parallel ranks and gathered behind the wire (Narayanan et al. 2021, section
    /// 4.1).
    ScatterGather,
    /// A token goes once to each node that has experts for it, and is forwarded inside (DeepSeek-AI 2024, section 3.2.2; its
    /// library DeepEP).
    ForwardsTokens,
    /// The optimizer is written out in operators: a kernel for each term, in 32 bits as in mixed precision.
    UpdatesByTerms,
    /// Ranks broadcast the parameters that they updated one after the other, where shards would be gathered at once.
    BroadcastsUpdates,
}

/// A training framework by its few physical traits. A trait is a fact of the framework's code or a named constant with a
/// unit; [`Stack::source`] says which constants were fitted to which rows. `sim/data/training-stacks.toml` holds those that
/// are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stack {
    /// Name.
    pub name: String,
    /// Device family that the constants hold on; absent where they hold on all that have no entry of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Architecture>,
    /// What its code does.
    pub traits: Vec<Trait>,
    /// Passes over the scores of materialised attention between its products, forward (a read or a write each).
    pub softmax_passes: f64,
    /// Passes over the scores that positions by projection add to those, forward (Dai et al. 2019, appendix B): computed, shifted,
    /// added.
    pub relative_passes: f64,
    /// Version of FlashAttention in use where [`super::AttentionKernel::Flash`] is asked for.
    pub flash: u8,
    /// Minor version of NCCL 2.
    pub nccl_minor: u8,
    /// Bytes of memory traffic a logit, forward and backward of the loss together, in 16-bit training; f32 takes a third more.
    pub loss_bytes_per_logit: f64,
    /// Memory traffic of a layer's pointwise operators over what they must read and write: casts, copies, layouts, kernels that
    /// do not reach the device's stream bandwidth.
    pub pointwise_traffic: f64,
    /// Bytes of a number that operators between products read and write in mixed precision: 2, or more where the framework
    /// keeps some of them in 32 bits (softmax, norms, sums under automatic casts).
    pub mixed_bytes: f64,
    /// Host time to launch one kernel of a forward pass, us.
    pub forward_launch_us: f64,
    /// Host time to launch one kernel of a backward pass, us (autograd's own thread needs no Python).
    pub backward_launch_us: f64,
    /// Host time to keep and restore the state of a recomputed layer, us.
    pub checkpoint_us: f64,
    /// Host time of a collective or a message between ranks, launches and stream events included, us.
    pub collective_us: f64,
    /// Host time of a step besides its passes: data, logging, bookkeeping, ms.
    pub step_ms: f64,
    /// Host time of an optimizer step, us a parameter tensor.
    pub tensor_us: f64,
    /// Memory traffic of the optimizer step in mixed precision, bytes a parameter that the rank updates: gradients copied,
    /// checked, clipped; master weights, moments, weights. In 32 bits nothing is read or written twice, unless [`Trait::UpdatesByTerms`].
    pub optimizer_bytes: f64,
    /// Bytes of a gradient on the wire in mixed precision.
    pub gradient_bytes: f64,
    /// Memory traffic to add a weight's gradient to its sum over micro-batches, bytes a parameter and micro-batch.
    pub accumulated_bytes: f64,
    /// Share of the tensor-parallel collectives of the backward pass that hides behind products of weight gradients.
    pub tensor_overlap: f64,
    /// Share of the tensor-parallel collectives that hides behind their own product, cut in pieces (Transformer Engine's user
    /// buffers).
    pub pipelined_overlap: f64,
    /// Share of the time of gathering and scattering shards that nothing hides.
    pub exposed_shards: f64,
    /// Bandwidth at which a rank's shards of parameters are gathered and scattered at most, GB/s: flattening, copies, calls that
    /// are not coalesced. Infinite where the wire binds.
    pub shard_gb_per_s: f64,
    /// Time of one rank's broadcast of what it updated, ms ([`Trait::BroadcastsUpdates`]).
    pub broadcast_ms: f64,
    /// Slowdown of computation while collectives run beside it: multiprocessors and bandwidth that they take.
    pub overlap_slowdown: f64,
    /// Time of kernels in training over their isolated time: clocks under power limits, cold caches.
    pub sustained_slowdown: f64,
    /// Factor within which nine of ten measurements lie.
    pub spread: f64,
    /// Where the constants come from.
    pub source: String,
}

impl Default for Stack {
    /// PyTorch in eager mode, by priors.
    fn default() -> Self {
        Self {
            name: "assumed".to_owned(),
            family: None,
            traits: vec![Trait::Dropout, Trait::BiasInProduct, Trait::OverlapsGradients],
            softmax_passes: 9.0,
            relative_passes: 8.0,
            flash: 2,
            nccl_minor: 18,
            loss_bytes_per_logit: 40.0,
            pointwise_traffic: 1.3,
            mixed_bytes: 2.0,
            forward_launch_us: 12.0,
            backward_launch_us: 8.0,
            checkpoint_us: 200.0,
            collective_us: 40.0,
            step_ms: 3.0,
            tensor_us: 5.0,
            optimizer_bytes: 40.0,
            gradient_bytes: 4.0,
            accumulated_bytes: 6.0,
            tensor_overlap: 0.0,
            pipelined_overlap: 0.0,
            exposed_shards: 0.0,
            shard_gb_per_s: f64::INFINITY,
            broadcast_ms: 0.0,
            overlap_slowdown: 1.1,
            sustained_slowdown: 1.0,
            spread: 1.5,
            source: "assumed".to_owned(),
        }
    }
}

impl Stack {
    /// The stack of a name, of those that are known.
    pub fn named(name: &str, family: Option<Architecture>) -> Option<&'static Self> {
        Self::among(known_stacks(), name, family)
    }

    /// The stack of a name among some: with constants of the family if there are such, else those of all families.
    pub fn among<'a>(stacks: &'a [Self], name: &str, family: Option<Architecture>) -> Option<&'a Self> {
        let own =
            |family: Option<Architecture>| stacks.iter().find(|stack| stack.name == name && stack.family == family);
        family.and_then(|family| own(Some(family))).or_else(|| own(None))
    }

    /// Whether its code does this.
    pub fn has(&self, what: Trait) -> bool {
        self.traits.contains(&what)
    }

    /// Its communication library.
    pub const fn library(&self) -> Library {
        Library::nccl(2, self.nccl_minor)
    }

    /// Its fused attention.
    pub const fn fused_attention(&self) -> AttentionAlgorithm {
        match self.flash {
            0 | 1 => AttentionAlgorithm::Flash1,
            2 => AttentionAlgorithm::Flash2,
            _ => AttentionAlgorithm::Flash3,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    stack: Vec<Stack>,
}

static FILE: LazyLock<File> = LazyLock::new(|| {
    toml::from_str(include_str!("../../data/training-stacks.toml")).expect("a test reads data/training-stacks.toml")
});

/// The stacks that are known.
pub fn known_stacks() -> &'static [Stack] {
    &FILE.stack
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stack_has_a_name_of_its_own_a_spread_and_a_source() {
        for (index, stack) in known_stacks().iter().enumerate() {
            let same = |other: &&Stack| other.name == stack.name && other.family == stack.family;
            assert_eq!(known_stacks()[..index].iter().filter(same).count(), 0, "{}", stack.name);
            assert!(stack.spread >= 1.0 && !stack.source.is_empty() && stack.name != "assumed", "{}", stack.name);
            assert_eq!(Stack::named(&stack.name, stack.family), Some(stack));
            assert!(Stack::named(&stack.name, None).is_some(), "{}", stack.name);
        }
        assert_eq!(Stack::named("none such", None), None);
    }
}
