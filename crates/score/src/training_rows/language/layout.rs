//! The layout of a row.

use cutplane_graph::{Architecture, DeviceSpec};
use cutplane_plan::Optimizer;
use cutplane_sim::estimate::{
    AttentionKernel, GradientSync, Layout, Offload, PipelineSchedule, Precision, Recompute, Zero, ZeroStage,
};
use cutplane_sim::kernel;

use super::stack::{is_nvidia_example, is_test};
use crate::parse::{self, AttentionChoice, Degrees, Products, SoftwareFamily, words::says};
use crate::prediction::{Origin, Skip, TraceEntry};
use crate::row::Row;

/// A layout and what had to be assumed for it.
#[derive(Clone, Debug)]
pub(in crate::training_rows) struct RowLayout {
    pub(in crate::training_rows) layout: Layout,
    pub(in crate::training_rows) trace: Vec<TraceEntry>,
}

/// The layout that a row describes.
///
/// # Errors
/// [`Skip`] where a column is not understood, or degrees and batch do not fit together.
pub(in crate::training_rows) fn layout(row: &Row, device: &DeviceSpec) -> Result<RowLayout, Skip> {
    let degrees = degrees(row)?;
    let family = parse::software(&row.framework).family;
    let mut trace: Vec<TraceEntry> =
        degrees.assumed.iter().map(|column| assumed("column", (*column).to_owned())).collect();
    let sharding = sharding(row)?;
    let precision = precision(row, device, &mut trace)?;
    let layout = Layout {
        dp: degrees.dp,
        tp: degrees.tp,
        pp: degrees.pp,
        cp: degrees.cp,
        ep: degrees.ep,
        whole_experts: whole_experts(row, &degrees),
        sequence_parallel: sequence_parallel(row, &degrees, family, &mut trace)?,
        zero: Zero {
            stage: stage(sharding.stage),
            shard_group: sharding.group.filter(|group| divides(*group, &degrees)),
        },
        recompute: recompute(row, family, &mut trace)?,
        micro_batch: degrees.micro_batch,
        global_batch: degrees.global_batch,
        precision,
        attention: attention(row, family, device, &mut trace)?,
        gradient_sync: GradientSync::AllReduce { overlapped: sharding.overlapped },
        offload: if offloads(row) { Offload::Optimizer } else { Offload::None },
        optimizer: Optimizer::AdamW,
        frozen: trains_adapters(row),
        ..Layout::default()
    };
    let layout = trainable(row, layout, device, &mut trace);
    Ok(RowLayout { layout: scheduled(row, layout, &degrees, &mut trace), trace })
}

/// Whether experts are spread by expert parallelism alone: where nothing else divides evenly, and in recipes other than
/// Megatron's own tests, which set `expert_tensor_parallel_size = 1` as its guide to mixtures of experts advises.
fn whole_experts(row: &Row, degrees: &Degrees) -> bool {
    let divides = (degrees.dp * degrees.cp).is_multiple_of(degrees.ep);
    !divides || (degrees.ep > 1 && degrees.tp > 1 && !is_test(row))
}

/// Tokens of a sample from which attention is taken to be fused on devices that can.
const LONG_SEQUENCE: u64 = 4096;
/// Samples of a micro-batch that a row does not state, at most: larger ones rarely fit.
const USUAL_MICRO_BATCH: u64 = 4;

/// Degrees and batch; a micro-batch that the row does not state is the largest divisor of a replica's share up to
/// [`USUAL_MICRO_BATCH`], one with a pipeline.
fn degrees(row: &Row) -> Result<Degrees, Skip> {
    let found = parse::degrees(row);
    if row.micro_batch.is_some() {
        return found;
    }
    match found {
        Ok(found) if found.global_batch > found.dp * USUAL_MICRO_BATCH => {
            let share = found.global_batch / found.dp;
            let micro = (1..=USUAL_MICRO_BATCH).rev().find(|micro| share.is_multiple_of(*micro));
            parse::degrees(&Row { micro_batch: micro, ..row.clone() }).map(stating_micro_batch)
        }
        Err(skip) if skip.reason == "missing-batch" && row.global_batch.is_some() => {
            parse::degrees(&Row { micro_batch: Some(1), ..row.clone() }).map(stating_micro_batch)
        }
        found => found,
    }
}

fn stating_micro_batch(mut degrees: Degrees) -> Degrees {
    degrees.assumed.push("micro_batch");
    degrees
}

fn assumed(name: &'static str, value: impl Into<String>) -> TraceEntry {
    TraceEntry { name: name.into(), value: value.into(), origin: Origin::Assumed }
}

fn divides(group: u64, degrees: &Degrees) -> bool {
    group > 0 && (degrees.dp * degrees.cp).is_multiple_of(group)
}

const fn stage(stage: u8) -> ZeroStage {
    match stage {
        0 => ZeroStage::None,
        1 => ZeroStage::One,
        2 => ZeroStage::Two,
        _ => ZeroStage::Three,
    }
}

/// The order of the passes, from chunks and notes; micro-batches that do not divide over interleaved stages run as 1F1B.
fn scheduled(row: &Row, layout: Layout, degrees: &Degrees, trace: &mut Vec<TraceEntry>) -> Layout {
    let text = format!("{} {}", row.notes, row.framework).to_ascii_lowercase();
    if degrees.pp == 1 {
        return layout;
    }
    if degrees.vpp > 1 {
        if layout.micro_batches().is_multiple_of(degrees.pp) {
            return Layout { vpp: degrees.vpp, schedule: PipelineSchedule::Interleaved, ..layout };
        }
        trace.push(assumed("schedule", "1F1B: micro-batches do not divide over the interleaved stages"));
        return layout;
    }
    let schedule = match () {
        () if says(&text, &["zero-bubble", "zero bubble", "zb-", "zbv"]) => PipelineSchedule::ZeroBubble,
        () if says(&text, &["gpipe"]) => PipelineSchedule::FillDrain,
        () => PipelineSchedule::OneForwardOneBackward,
    };
    Layout { schedule, ..layout }
}

/// Sharding by its column; where that is empty, notes or framework may say that FSDP is on.
fn sharding(row: &Row) -> Result<parse::Sharding, Skip> {
    let stated = parse::sharding(&row.zero_stage_or_fsdp)?;
    let noted = says(&row.notes.to_ascii_lowercase(), &["fsdp=on", "fsdp=true"])
        || says(&row.framework.to_ascii_lowercase(), &["fsdp", "torchtitan"]);
    match stated {
        None if noted => Ok(parse::sharding("fsdp")?.unwrap_or_default()),
        stated => Ok(stated.unwrap_or_default()),
    }
}

/// A step that was timed did fit: where weights, gradients and optimizer of a dense model alone exceed the memory, adapters
/// were trained.
fn trainable(row: &Row, layout: Layout, device: &DeviceSpec, trace: &mut Vec<TraceEntry>) -> Layout {
    let family = parse::software(&row.framework).family;
    // Megatron-Core sums gradients in 32 bits.
    let gradient = if family == SoftwareFamily::MegatronCore { 4.0 } else { 2.0 };
    let state = parse::transformer(row).ok().and_then(|model| least_state_gib(&model, &layout, gradient));
    let timed = !row.metric_name.to_ascii_lowercase().contains("memory");
    if layout.frozen || !timed || state.is_none_or(|state| state < device.memory_gib) {
        return layout;
    }
    if row.zero_stage_or_fsdp.trim().is_empty() && layout.zero.stage == ZeroStage::None && layout.dp > 1 {
        trace.push(assumed("sharding", "the optimizer's: its whole state exceeds the memory"));
        let sharded = Layout { zero: Zero { stage: ZeroStage::One, ..layout.zero }, ..layout };
        return trainable(row, sharded, device, trace);
    }
    trace.push(assumed("trained", "adapters: the state of all weights exceeds the memory"));
    Layout { frozen: true, ..layout }
}

/// Least memory of the state of a dense model's layers on a device, GiB: 2 bytes of weights, those of gradients, 12 of the
/// optimizer.
/// `None` for mixtures of experts and with state on the host.
fn least_state_gib(model: &parse::Transformer, layout: &Layout, gradient: f64) -> Option<f64> {
    if model.experts.is_some() || layout.offload != Offload::None {
        return None;
    }
    let attention = model.hidden * model.head_dim * 2 * (model.heads + model.kv_heads);
    let matrices = if model.gated { 3 } else { 2 };
    let numbers = (model.layers * (attention + matrices * model.hidden * model.ffn_hidden)) as f64;
    let ranks = (layout.dp * layout.cp) as f64;
    let [weights, gradients, optimizer] = match layout.zero.stage {
        ZeroStage::None => [1.0; 3],
        ZeroStage::One => [1.0, 1.0, ranks],
        ZeroStage::Two => [1.0, ranks, ranks],
        ZeroStage::Three => [ranks; 3],
    };
    let bytes = 2.0 / weights + gradient / gradients + 12.0 / optimizer;
    Some(numbers * bytes / (layout.tp * layout.pp) as f64 / (1u64 << 30) as f64)
}

/// Whether the host keeps the optimizer.
fn offloads(row: &Row) -> bool {
    let text = format!("{} {}", row.notes, row.zero_stage_or_fsdp).to_ascii_lowercase();
    says(&text, &["optimizer offload", "cpu offload", "zero-offload", "zero offload", "offload optimizer"])
}

/// Whether only adapters are trained.
fn trains_adapters(row: &Row) -> bool {
    let text = format!("{} {} {}", row.metric_name, row.model, row.notes).to_ascii_lowercase();
    says(&text, &["lora", "peft", "adapter"])
}

fn has_bf16(device: &DeviceSpec) -> bool {
    !matches!(
        device.accelerator.as_ref().map(|facts| facts.architecture),
        Some(
            Architecture::Kepler
                | Architecture::Maxwell
                | Architecture::Pascal
                | Architecture::Volta
                | Architecture::Turing
        )
    )
}

/// Whether a device multiplies in 8 bits; NeMo's recipes train so where it does.
fn has_fp8(device: &DeviceSpec) -> bool {
    matches!(
        device.accelerator.as_ref().map(|facts| facts.architecture),
        Some(Architecture::Hopper | Architecture::Blackwell)
    )
}

fn precision(row: &Row, device: &DeviceSpec, trace: &mut Vec<TraceEntry>) -> Result<Precision, Skip> {
    let sixteen = if has_bf16(device) { Precision::Bf16 } else { Precision::AmpF16 };
    let Some(stated) = parse::precision(&row.precision)? else {
        let eight = has_fp8(device) && says(&row.framework.to_ascii_lowercase(), &["nemo", "bridge"]);
        let usual = if eight { Precision::Fp8 } else { sixteen };
        trace.push(assumed("precision", format!("{usual:?}")));
        return Ok(usual);
    };
    Ok(match stated.products {
        Products::F32 if has_bf16(device) && is_nvidia_example(row) => {
            trace.push(assumed("precision", "Tf32: what NVIDIA's containers make of 32 bits since 2020"));
            Precision::Tf32
        }
        Products::F32 => Precision::F32,
        Products::Tf32 => Precision::Tf32,
        Products::F32OrTf32 => {
            if has_bf16(device) {
                Precision::Tf32
            } else {
                Precision::F32
            }
        }
        Products::F16 => Precision::AmpF16,
        Products::Bf16 => Precision::Bf16,
        Products::Fp8 | Products::MxFp8 => Precision::Fp8,
        Products::NvFp4 | Products::Int8 | Products::Int4Weights => {
            return Err(Skip::new("unsupported-precision", format!("'{}'", row.precision)));
        }
    })
}

/// Arithmetic of the products, for utilisation.
pub(super) const fn arithmetic(precision: Precision) -> kernel::Precision {
    match precision {
        Precision::F32 => kernel::Precision::F32,
        Precision::Tf32 => kernel::Precision::Tf32,
        Precision::AmpF16 => kernel::Precision::F16,
        Precision::Bf16 => kernel::Precision::Bf16,
        Precision::Fp8 => kernel::Precision::Fp8,
    }
}

/// Megatron-Core's recipes shard the sequence wherever there is tensor parallelism.
fn sequence_parallel(
    row: &Row,
    degrees: &Degrees,
    family: SoftwareFamily,
    trace: &mut Vec<TraceEntry>,
) -> Result<bool, Skip> {
    if degrees.tp == 1 {
        return Ok(false);
    }
    if let Some(stated) = parse::sequence_parallel(&row.sequence_parallel)? {
        return Ok(stated.on);
    }
    let on = family == SoftwareFamily::MegatronCore;
    trace.push(assumed("sequence parallelism", on.to_string()));
    Ok(on)
}

/// Unstated: nothing is computed again, but for Megatron-LM before its core, whose examples recompute every layer.
fn recompute(row: &Row, family: SoftwareFamily, trace: &mut Vec<TraceEntry>) -> Result<Recompute, Skip> {
    let Some(stated) = parse::recompute(&row.recompute)? else {
        let usual = if family == SoftwareFamily::MegatronLm { Recompute::Full } else { Recompute::None };
        trace.push(assumed("recomputation", format!("{usual:?}")));
        return Ok(usual);
    };
    Ok(match stated {
        parse::Recompute::None => Recompute::None,
        parse::Recompute::Selective => Recompute::Selective,
        parse::Recompute::Full | parse::Recompute::FullExceptLast => Recompute::Full,
        parse::Recompute::Layers(layers) => Recompute::Layers(layers),
        parse::Recompute::Modules(modules) => {
            let core = modules.iter().any(|module| module.contains("attn"));
            trace.push(assumed("recomputation of modules", modules.join(" ")));
            if core { Recompute::Selective } else { Recompute::None }
        }
    })
}

/// Unstated: fused where the software of the device's time has it.
fn attention(
    row: &Row,
    family: SoftwareFamily,
    device: &DeviceSpec,
    trace: &mut Vec<TraceEntry>,
) -> Result<AttentionKernel, Skip> {
    if let Some(stated) = parse::attention(&row.flash_attention)? {
        return Ok(match stated {
            AttentionChoice::Materialised => AttentionKernel::Materialised,
            AttentionChoice::Fused { .. } => AttentionKernel::Flash,
        });
    }
    let modern = matches!(
        family,
        SoftwareFamily::MegatronCore | SoftwareFamily::PytorchFsdp | SoftwareFamily::InternEvo | SoftwareFamily::Jax
    );
    // Devices younger than fused attention, and sequences whose scores would fill the memory.
    let forced = has_fp8(device) || row.seq_len.is_some_and(|length| length >= LONG_SEQUENCE);
    let fused = has_bf16(device) && (modern || forced);
    let usual = if fused { AttentionKernel::Flash } else { AttentionKernel::Materialised };
    trace.push(assumed("attention", format!("{usual:?}")));
    Ok(usual)
}
