//! Inference engines by their few physical traits.

use std::borrow::Cow;

use cutplane_sim::kernel::AttentionAlgorithm;

use crate::parse::words::says;
use crate::parse::{SoftwareFamily, TransformerKind, software};
use crate::prediction::{Origin, Skip, TraceEntry};
use crate::row::Row;

/// An inference engine. Fitted numbers say so in [`Engine::source`]; the others are priors.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Engine {
    pub(super) name: &'static str,
    /// Kernels of a layer besides its products and its attention: norms, biases, activations, residuals, rotations.
    pub(super) small_kernels: u32,
    /// Passes over the residual stream that these make, a read or a write each.
    pub(super) small_passes: u64,
    /// Host time to launch one kernel, us; a layer is never faster than its launches.
    pub(super) launch_us: f64,
    /// Time of a step besides its layers: sampling, synchronisation, bookkeeping, us.
    pub(super) step_us: f64,
    /// Passes over the logits that sampling makes, a read or a write of 32 bits each.
    pub(super) sampling_passes: u64,
    /// Time of a collective besides its own: waiting for the slowest rank, us.
    pub(super) collective_us: f64,
    /// Share of the device's speed in bare kernels that a step keeps: gaps between kernels, cold caches.
    pub(super) efficiency: f64,
    /// Attention over a prompt.
    pub(super) attention: AttentionAlgorithm,
    /// Attention of an encoder in 16 or 8 bits over at most [`FUSED_ENCODER_LENGTH`] positions.
    pub(super) encoder_attention: AttentionAlgorithm,
    /// Share of padded positions that are computed: 1 unless padding is left out.
    pub(super) kept_positions: f64,
    /// Memory besides weights, cache and buffers, GiB; `None` when the engine takes what it can get.
    pub(super) runtime_gib: Option<f64>,
    /// Factor within which nine of ten measurements lie.
    pub(super) spread: f64,
    pub(super) source: Origin,
}

/// Longest input of the fused encoder attention that FasterTransformer takes from TensorRT.
pub(super) const FUSED_ENCODER_LENGTH: u64 = 384;

/// Rows that launch, step and collective overheads, sampling and the share of speed were fitted to.
const DRAWN: &str = "fastertransformer: a seeded tenth (data/fitted.toml)";

const FASTER_TRANSFORMER: Engine = Engine {
    name: "FasterTransformer",
    small_kernels: 8,
    small_passes: 14,
    launch_us: 12.1,
    step_us: 590.0,
    sampling_passes: 16,
    collective_us: 13.9,
    efficiency: 0.87,
    attention: AttentionAlgorithm::Materialised { softmax_passes: 4 },
    encoder_attention: AttentionAlgorithm::Flash1,
    kept_positions: 1.0,
    runtime_gib: Some(2.85),
    spread: 1.25,
    source: Origin::Calibrated { rows: Cow::Borrowed(DRAWN) },
};

const FASTER_TRANSFORMER_ENCODER: Engine = Engine {
    name: "FasterTransformer's encoder",
    launch_us: 5.5,
    step_us: 99.0,
    efficiency: 0.8,
    spread: 1.6,
    ..FASTER_TRANSFORMER
};

/// Numbers are quantised before products and scaled after them, in kernels of their own or as part of the others.
const EIGHT_BIT_ENCODER: Engine = Engine {
    name: "eight-bit FasterTransformer's encoder",
    small_passes: 20,
    launch_us: 9.4,
    step_us: 126.0,
    efficiency: 0.68,
    spread: 1.5,
    ..FASTER_TRANSFORMER_ENCODER
};

/// Mean length of a sentence over the padded length in FasterTransformer's benchmark without padding.
const FILLED: f64 = 0.5;

const UNPADDED_ENCODER: Engine = Engine {
    name: "FasterTransformer's encoder without padding",
    kept_positions: FILLED,
    ..FASTER_TRANSFORMER_ENCODER
};

const UNPADDED_EIGHT_BIT_ENCODER: Engine = Engine {
    name: "eight-bit FasterTransformer's encoder without padding",
    kept_positions: FILLED,
    ..EIGHT_BIT_ENCODER
};

const TURBOMIND: Engine = Engine {
    name: "TurboMind",
    launch_us: 8.0,
    step_us: 490.0,
    efficiency: 0.97,
    spread: 1.4,
    source: Origin::Calibrated { rows: Cow::Borrowed("lmdeploy_a100: a seeded tenth (data/fitted.toml)") },
    attention: AttentionAlgorithm::Flash1,
    runtime_gib: None,
    ..FASTER_TRANSFORMER
};

/// TensorRT-LLM, vLLM, SGLang and others with paged caches, fused attention and captured launches.
const MODERN: Engine = Engine {
    name: "serving engine with fused attention",
    launch_us: 5.0,
    efficiency: 0.9,
    source: Origin::Assumed,
    attention: AttentionAlgorithm::Flash2,
    encoder_attention: AttentionAlgorithm::Flash2,
    runtime_gib: None,
    spread: 1.5,
    ..FASTER_TRANSFORMER
};

/// Software that nobody here has seen: as the others of its time, with twice their spread.
const UNKNOWN: Engine = Engine { name: "unknown engine, taken as one with fused attention", spread: 2.2, ..MODERN };

const TENSORFLOW: Engine = Engine {
    name: "TensorFlow with XLA",
    step_us: 821.0,
    efficiency: 0.8,
    collective_us: 5.0,
    small_kernels: 14,
    small_passes: 24,
    launch_us: 6.0,
    attention: AttentionAlgorithm::Materialised { softmax_passes: 6 },
    encoder_attention: AttentionAlgorithm::Materialised { softmax_passes: 6 },
    spread: 1.4,
    ..FASTER_TRANSFORMER
};

const TORCHSCRIPT: Engine = Engine {
    name: "TorchScript",
    step_us: 602.0,
    efficiency: 0.77,
    collective_us: 5.0,
    small_kernels: 24,
    small_passes: 30,
    launch_us: 10.4,
    attention: AttentionAlgorithm::Materialised { softmax_passes: 8 },
    encoder_attention: AttentionAlgorithm::Materialised { softmax_passes: 8 },
    spread: 1.4,
    ..FASTER_TRANSFORMER
};

/// The engine of a row: what stands behind the colon of its metric, where several engines share a table, else its
/// framework. Generation inside training frameworks is none of them: its time is mostly the host's.
pub(super) fn engine(row: &Row, kind: TransformerKind) -> Result<(&'static Engine, Vec<TraceEntry>), Skip> {
    let variant = row.metric_name.rsplit_once(": ").map_or("", |(_, variant)| variant).to_ascii_lowercase();
    let engine = match variant.as_str() {
        _ if says(&variant, &["eff-ft-int8"]) => &UNPADDED_EIGHT_BIT_ENCODER,
        _ if says(&variant, &["eff-ft"]) => &UNPADDED_ENCODER,
        _ if says(&variant, &["ft-int8"]) => &EIGHT_BIT_ENCODER,
        _ if says(&variant, &["torchscript"]) => &TORCHSCRIPT,
        _ if variant == "tf" || variant.starts_with("tf-") => &TENSORFLOW,
        _ => of_family(row, kind)?,
    };
    let entry = TraceEntry { name: "engine".into(), value: engine.name.to_owned(), origin: engine.source.clone() };
    Ok((engine, vec![entry]))
}

fn of_family(row: &Row, kind: TransformerKind) -> Result<&'static Engine, Skip> {
    use SoftwareFamily as Family;
    Ok(match software(&row.framework).family {
        Family::FasterTransformer if kind == TransformerKind::Encoder => &FASTER_TRANSFORMER_ENCODER,
        Family::FasterTransformer => &FASTER_TRANSFORMER,
        Family::TurboMind => &TURBOMIND,
        Family::TensorRtLlm
        | Family::Vllm
        | Family::SgLang
        | Family::DeepSpeedInference
        | Family::TextGenerationInference => &MODERN,
        Family::TensorFlow1 | Family::TensorFlow2 | Family::Jax => &TENSORFLOW,
        Family::Pytorch | Family::DeepSpeed | Family::PytorchFsdp | Family::Paddle | Family::OneFlow => &TORCHSCRIPT,
        Family::Other | Family::Unstated => of_name(&row.framework)?,
        _ => return Err(Skip::new("unknown-engine", format!("'{}'", row.framework))),
    })
}

/// Engines without a family of their own.
fn of_name(framework: &str) -> Result<&'static Engine, Skip> {
    let lower = framework.trim().to_ascii_lowercase();
    match () {
        () if ["hf", "eager"].contains(&lower.as_str()) => Ok(&TORCHSCRIPT),
        () if lower == "tf" => Ok(&TENSORFLOW),
        () if says(&lower, &["nim", "lightllm", "mlc", "onnx", "gpt-fast"]) => Ok(&MODERN),
        // Weights from disk or host, weights in four bits, or a load of its own: none is a batch on a device.
        () if says(&lower, &["flexgen", "exllama", "openvino", "mlperf", "orca"]) => {
            Err(Skip::new("unknown-engine", format!("'{framework}'")))
        }
        () => Ok(&UNKNOWN),
    }
}
