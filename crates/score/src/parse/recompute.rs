//! Recomputation.

use serde::Serialize;

use super::words::{is_unstated, leading_number, says};
use crate::prediction::Skip;

/// What is dropped in the forward pass and computed again in the backward pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Nothing.
    None,
    /// The attention core (Korthikanti et al. 2022).
    Selective,
    /// Named modules of each layer, as Megatron-Core spells them: `layernorm`, `moe_act`, `mlp`.
    Modules(Vec<String>),
    /// Every layer.
    Full,
    /// So many layers of each stage.
    Layers(u64),
    /// Every layer, but not for the last micro-batch (torchgpipe's `except_last`).
    FullExceptLast,
}

/// Reads the column `recompute`; `None` when the row does not say.
///
/// # Errors
/// [`Skip`] `unknown-recompute`.
pub fn recompute(text: &str) -> Result<Option<Recompute>, Skip> {
    let lower = text.trim().to_ascii_lowercase();
    if is_unstated(&lower) {
        return Ok(None);
    }
    // What stands in brackets says where the word comes from.
    let head = lower.split(" (").next().unwrap_or(&lower).trim();
    let read = match head {
        _ if head.starts_with("none") || ["no", "false", "off", "sequence parallel"].contains(&head) => Recompute::None,
        _ if says(head, &["except_last", "except last"]) => Recompute::FullExceptLast,
        _ if says(head, &["modules=["]) => modules_in_brackets(head),
        _ if says(head, &["selective"]) => Recompute::Selective,
        _ if head.starts_with("full, ") && head.ends_with("layers") => layers(head),
        _ if ["sac", "selective ac"].contains(&head) => Recompute::Selective,
        _ if head.starts_with("block ") && leading_number(&head["block ".len()..]).is_some() => layers(head),
        _ if says(head, &["full", "uniform", "every layer", "always"])
            || ["yes", "true", "on", "ac", "activation checkpointing", "gradient checkpointing", "checkpointing"]
                .contains(&head) =>
        {
            Recompute::Full
        }
        _ if says(head, &["layers"]) && leading_number(head).is_some() => layers(head),
        _ if is_list_of_modules(head) => Recompute::Modules(list(head)),
        _ => return Err(Skip::new("unknown-recompute", format!("'{text}'"))),
    };
    Ok(Some(read))
}

fn layers(head: &str) -> Recompute {
    let digits = head.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    leading_number(digits)
        .map_or(Recompute::Full, |count| if count == 0 { Recompute::None } else { Recompute::Layers(count) })
}

/// `selective method=- layers=- modules=[layernorm mlp]`, or `full .. modules=-`.
fn modules_in_brackets(head: &str) -> Recompute {
    let inside = head.split_once("modules=[").and_then(|(_, rest)| rest.split(']').next()).unwrap_or_default();
    let modules = list(inside);
    match modules[..] {
        [] => Recompute::Selective,
        [ref only] if only == "core_attn" => Recompute::Selective,
        _ => Recompute::Modules(modules),
    }
}

fn list(text: &str) -> Vec<String> {
    text.split([',', ' ', ';']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Module names that Megatron-Core recomputes.
fn is_list_of_modules(head: &str) -> bool {
    const MODULES: [&str; 14] = [
        "norm",
        "layernorm",
        "act",
        "moe_act",
        "mlp",
        "moe",
        "core_attn",
        "attn",
        "mla_up_proj",
        "shared_expert",
        "shared_experts",
        "dispatch",
        "router",
        "activation",
    ];
    let words = list(head);
    !words.is_empty() && words.iter().all(|word| MODULES.contains(&word.as_str()))
}
