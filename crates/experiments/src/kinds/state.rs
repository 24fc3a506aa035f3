//! Memory of weights, gradients and optimizer state, sharded.

use cutplane_plan::Optimizer;
use cutplane_sim::estimate::{Precision, ZeroStage};
use cutplane_sim::footprint::{Keeping, StateBytes, model_state};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `model-state`.
pub(super) struct ModelState;

impl Kind for ModelState {
    fn name(&self) -> &'static str {
        "model-state"
    }

    fn about(&self) -> &'static str {
        "weights, gradients and optimizer state of one rank, sharded as ZeRO does"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("params", "trainable numbers"),
            ("ranks", "data-parallel ranks"),
            ("zero", "stage of sharding, 0 to 3"),
            ("framework", "whose habits: deepspeed, megatron-lm, megatron-core, pytorch"),
            ("precision", "bf16, f16 or f32"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("gb", "GB", "bytes of a rank, as vendors count"),
            ("bytes_per_parameter", "B", "bytes of a rank over the trainable numbers"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let params = ask.number("params")?;
        let stage = match ask.number("zero")? as i64 {
            0 => ZeroStage::None,
            1 => ZeroStage::One,
            2 => ZeroStage::Two,
            3 => ZeroStage::Three,
            other => return Err(format!("'zero' is {other}: write a stage from 0 to 3")),
        };
        let precision = match ask.text_or("precision", "f16")? {
            "bf16" => Precision::Bf16,
            "f16" => Precision::AmpF16,
            "f32" => Precision::F32,
            other => return Err(format!("'precision' is '{other}': write bf16, f16 or f32")),
        };
        let bytes = StateBytes::new(precision, Optimizer::AdamW, keeping(ask)?);
        let total = model_state(params, bytes, stage, ask.count("ranks")?).total();
        let value = if metric == "gb" { total / 1e9 } else { total / params };
        Ok(Answer::exact(value, "counted bytes"))
    }
}

fn keeping(ask: &Ask<'_>) -> Result<&'static Keeping, String> {
    match ask.text_or("framework", "deepspeed")? {
        "deepspeed" => Ok(&Keeping::DEEPSPEED),
        "megatron-lm" => Ok(&Keeping::MEGATRON_LM),
        "megatron-core" => Ok(&Keeping::MEGATRON_CORE),
        "pytorch" => Ok(&Keeping::PYTORCH_DDP),
        other => Err(format!("'framework' is '{other}': write deepspeed, megatron-lm, megatron-core or pytorch")),
    }
}
