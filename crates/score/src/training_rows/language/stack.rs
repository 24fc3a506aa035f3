//! The software stack of a row.

use cutplane_graph::DeviceSpec;
use cutplane_sim::estimate::{Stack, Trait};

use crate::parse::words::says;
use crate::parse::{self, SoftwareFamily};
use crate::prediction::Origin;
use crate::profile::Profile;
use crate::row::Row;

/// A stack and where its constants come from.
pub(super) struct RowStack {
    pub(super) stack: Stack,
    pub(super) origin: Origin,
}

/// The stack of a row; software without constants of its own takes those of its nearest relative.
pub(super) fn stack(row: &Row, device: &DeviceSpec, profile: &Profile) -> RowStack {
    let family = device.accelerator.as_ref().map(|facts| facts.architecture);
    let stack = profile.stack(name(row), family);
    let mut stack = if reduces_narrow_gradients(row) { Stack { gradient_bytes: 2.0, ..stack } } else { stack };
    let notes = row.notes.to_ascii_lowercase();
    let stated: [(&[&str], Trait); 2] = [
        (&["deepep"], Trait::ForwardsTokens),
        (
            &["overlap-param-gather", "overlap_param_gather", "overlap-param-sync", "overlap_param_sync"],
            Trait::GathersAhead,
        ),
    ];
    for (words, stated) in stated {
        if says(&notes, words) && !stack.has(stated) {
            stack.traits.push(stated);
        }
    }
    let origin = if stack.source == "assumed" {
        Origin::Assumed
    } else {
        Origin::Calibrated { rows: stack.source.clone().into() }
    };
    RowStack { stack, origin }
}

fn name(row: &Row) -> &'static str {
    match parse::software(&row.framework).family {
        SoftwareFamily::MegatronLm if overlaps(row) && !is_nemo(row) => "megatron-lm-2022",
        SoftwareFamily::MegatronLm | SoftwareFamily::OneFlow => "megatron-lm-2021",
        SoftwareFamily::MegatronDeepSpeed => "megatron-deepspeed",
        SoftwareFamily::MegatronCore if is_test(row) => "megatron-core-ci",
        SoftwareFamily::MegatronCore => "megatron-core",
        SoftwareFamily::PytorchFsdp => "pytorch-fsdp",
        SoftwareFamily::InternEvo => "internevo",
        SoftwareFamily::DeepSpeed => "deepspeed-zero",
        SoftwareFamily::Pytorch if is_nvidia_example(row) && !is_fused(row) => "nvidia-examples-eager",
        SoftwareFamily::Pytorch | SoftwareFamily::Paddle if is_nvidia_example(row) => "nvidia-examples",
        SoftwareFamily::TensorFlow1 => "nvidia-examples-tensorflow-1",
        SoftwareFamily::TensorFlow2 => "nvidia-examples-tensorflow",
        _ => "pytorch-ddp",
    }
}

/// Whether it is one of NVIDIA's examples, in its containers.
pub(super) fn is_nvidia_example(row: &Row) -> bool {
    let text = format!("{} {} {}", row.source, row.citation, row.framework).to_ascii_lowercase();
    says(&text, &["deeplearningexamples", "ngc", "nvidia"])
}

/// Whether an example's model has fused kernels: BERT and its kin have.
fn is_fused(row: &Row) -> bool {
    says(&row.model.to_ascii_lowercase(), &["bert", "electra", "bart"])
}

/// Megatron-Core's functional tests.
pub(super) fn is_test(row: &Row) -> bool {
    row.framework.ends_with("CI)") || row.source.contains("_ci_")
}

/// NeMo on Megatron-LM of before its core.
fn is_nemo(row: &Row) -> bool {
    row.framework.to_ascii_lowercase().contains("nemo")
}

/// Megatron-LM since 2022: a row of that year or later, or one that uses what came with it.
fn overlaps(row: &Row) -> bool {
    let year = row.date.get(..4).and_then(|year| year.parse::<u32>().ok());
    let modern = matches!(parse::recompute(&row.recompute), Ok(Some(parse::Recompute::Selective)))
        || matches!(parse::sequence_parallel(&row.sequence_parallel), Ok(Some(parallel)) if parallel.on);
    modern || year.is_some_and(|year| year >= 2022)
}

/// Recipes of Megatron-Bridge for speed add up and exchange gradients in 16 bits (`grad_reduce_in_fp32 = False` in its
/// `scripts/performance/configs`).
pub(in crate::training_rows) fn reduces_narrow_gradients(row: &Row) -> bool {
    row.framework.to_ascii_lowercase().contains("megatron-bridge")
}
