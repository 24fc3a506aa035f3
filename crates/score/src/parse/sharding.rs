//! What data-parallel ranks shard, and how their gradients meet.

use serde::Serialize;

use super::words::{is_unstated, number_after, says};
use crate::prediction::Skip;

/// Where parameter servers live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// In host memory.
    Host,
    /// On the devices.
    Device,
    /// On every machine, reached over the network; devices of a machine reduce among themselves first.
    EveryMachine,
}

/// Sharding over data-parallel ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Sharding {
    /// ZeRO stage: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too.
    pub stage: u8,
    /// Ranks that share one copy, when fewer than all replicas.
    pub group: Option<u64>,
    /// Whether it is PyTorch's or Megatron's FSDP.
    pub fsdp: bool,
    /// Whether gradients travel beside the backward pass, where the row says.
    pub overlapped: Option<bool>,
    /// Parameter servers instead of collectives.
    pub server: Option<Server>,
    /// Whether replicas exchange gradients by copies between devices and not by a library of collectives.
    pub by_copies: bool,
}

/// Reads the column `zero_stage_or_fsdp`; `None` when the row does not say.
///
/// # Errors
/// [`Skip`] `unknown-sharding`.
pub fn sharding(text: &str) -> Result<Option<Sharding>, Skip> {
    let lower = text.trim().to_ascii_lowercase();
    if is_unstated(&lower) {
        return Ok(None);
    }
    let stage = stage(&lower).ok_or_else(|| Skip::new("unknown-sharding", format!("'{text}'")))?;
    let not = says(&lower, &["not overlapped", "no overlap", "without overlap"]);
    Ok(Some(Sharding {
        stage,
        group: number_after(&lower, &["groups of", "group of", "group size", "fsdp=", "shard group"]),
        fsdp: says(&lower, &["fsdp", "full_shard", "shard_grad_op"]),
        overlapped: says(&lower, &["overlap"]).then_some(!not),
        server: server(&lower),
        by_copies: says(&lower, &["no nccl"]),
    }))
}

fn stage(lower: &str) -> Option<u8> {
    let stages: [(&[&str], u8); 5] = [
        (
            &[
                "zero-3",
                "zero3",
                "zero 3",
                "zero_3",
                "stage 3",
                "stage3",
                "stage-3",
                "full_shard",
                "full shard",
                "hybrid_shard",
                "optim_grads_params",
            ],
            3,
        ),
        (
            &[
                "zero-2",
                "zero2",
                "zero 2",
                "zero_2",
                "stage 2",
                "stage2",
                "stage-2",
                "shard_grad_op",
                "optim_grads",
                "zero-offload",
                "zero offload",
            ],
            2,
        ),
        (
            &[
                "zero-1",
                "zero1",
                "zero 1",
                "zero_1",
                "stage 1",
                "stage1",
                "stage-1",
                "distributed optimizer",
                "distributedoptimizer",
                "dist-opt",
                "dist_opt",
                "distopt",
            ],
            1,
        ),
        (&["distributed fused adam", "overlappeddistributedoptimizer", "sharded optimizer", "optim"], 1),
        (&["fsdp", "hsdp"], 3),
    ];
    let none = lower.starts_with("none")
        || ["no", "0", "false", "ddp", "dp", "no_shard", "no sharding", "stage 0", "zero-0", "zero0"].contains(&lower);
    if none {
        return Some(0);
    }
    let named = stages.iter().find(|(names, _)| says(lower, names)).map(|(_, stage)| *stage);
    let bare = lower.parse::<u8>().ok().filter(|stage| *stage <= 3);
    named.or(bare).or_else(|| says(lower, &["data parallel", "ddp", "parameter server", "replicated"]).then_some(0))
}

fn server(lower: &str) -> Option<Server> {
    match () {
        () if says(lower, &["distributed_replicated", "+ parameter server"]) => Some(Server::EveryMachine),
        () if says(lower, &["parameter_server(gpu)", "parameter server (gpu)"]) => Some(Server::Device),
        () if says(lower, &["parameter_server", "parameter server"]) => Some(Server::Host),
        () => None,
    }
}
