//! What a row's names and notes say of its recipe, beside its columns.

use crate::parse::SoftwareFamily;
use crate::parse::{self, words::says};
use crate::prediction::Skip;
use crate::row::Row;

/// Flags of Megatron's test recipes and of other sources, from the model's name and the notes.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// Lower-case name and notes.
    text: String,
    /// Lower-case name.
    name: String,
    /// Software.
    pub(super) family: SoftwareFamily,
    /// Whether Megatron's logger reported the memory: its last rank writes the log, which lies on the last stage.
    pub(super) reports_last_stage: bool,
    /// Whether it is a functional test of Megatron, which keeps Megatron's defaults: dropout, biases, layer norm, learned
    /// positions, deterministic kernels.
    pub(super) is_functional_test: bool,
    /// Whether it is a release run of Megatron, on devices that the row does not count.
    pub(super) is_release_run: bool,
}

/// The software of a row. A benchmark of one framework against another may name the one that ran in its notes.
fn family_of(row: &Row) -> SoftwareFamily {
    let first = row.notes.split(';').next().unwrap_or_default().trim();
    let named = first.eq_ignore_ascii_case("pytorch");
    parse::software(if named { first } else { &row.framework }).family
}

impl Recipe {
    pub(super) fn of(row: &Row) -> Self {
        let name = row.model.to_ascii_lowercase();
        let text = format!("{name} {}", row.notes.to_ascii_lowercase());
        let reports_last_stage = text.contains("reported by megatron logger");
        let is_release_run = text.contains("release run");
        let family = family_of(row);
        let tests = row.framework.to_ascii_lowercase().contains("ci)") || reports_last_stage;
        let is_functional_test = tests && family == SoftwareFamily::MegatronCore && !is_release_run;
        Self { text, name, family, reports_last_stage, is_functional_test, is_release_run }
    }

    /// Whether name or notes say one of the words.
    pub(super) fn says(&self, words: &[&str]) -> bool {
        says(&self.text, words)
    }

    /// Whether the name says one of the words.
    pub(super) fn names(&self, words: &[&str]) -> bool {
        says(&self.name, words)
    }

    /// The number behind `word` in the name, where the word does not go on another: `tp` of `_tp2_` but not of `_etp2_`.
    pub(super) fn degree(&self, word: &str) -> Option<u64> {
        self.name.match_indices(word).find_map(|(at, found)| {
            let joined = self.name[..at].ends_with(|letter: char| letter.is_ascii_alphabetic());
            let rest = self.name.get(at + found.len()..)?;
            if joined { None } else { parse::words::leading_number(rest) }
        })
    }

    /// Whether it is one of Megatron's own runs.
    pub(super) const fn is_megatron(&self) -> bool {
        self.is_functional_test || self.is_release_run
    }

    /// Whether the layers are Megatron's own and not Transformer Engine's: older tests say `te` where they are not.
    pub(super) fn has_local_layers(&self) -> bool {
        let test = self.name.split(':').next_back().unwrap_or_default();
        let old = ["gpt3_mcore_", "t5_mcore_"].iter().any(|start| test.starts_with(start));
        self.is_functional_test && ((old && !test.contains("_te_")) || self.says(&["uninstall_te"]))
    }

    /// Whether kernels are deterministic, which Megatron's tests ask for, except with fused attention over shards of a
    /// sequence.
    pub(super) fn is_deterministic(&self, row: &Row) -> bool {
        let flash = row.flash_attention.trim().eq_ignore_ascii_case("flash");
        self.is_functional_test && !flash && !self.says(&["nondeterministic"])
    }

    /// Whether unstated attention is materialised although the layers are Transformer Engine's: recordings of the long-term
    /// container on the cluster that Megatron's tests left predate deterministic fused attention.
    pub(super) fn predates_fused_attention(&self, row: &Row) -> bool {
        let place = row.url_or_repo_path.to_ascii_lowercase();
        self.is_deterministic(row) && row.flash_attention.trim().is_empty() && place.contains("lts_dgxa100_dracooci")
    }

    /// Refuses by name what columns do not describe and decides the memory.
    pub(super) fn refuse_unknown(&self) -> Result<(), Skip> {
        const UNKNOWN: [(&[&str], &str, &str); 9] = [
            (
                &["hybrid", "mamba", "nemotron3", "nemotron-h", "nemotronh", "jamba"],
                "hybrid-layers",
                "the mix of layers",
            ),
            (&["_mla", "deepseek", "kimi"], "latent-attention", "ranks of the latent attention"),
            (&["distill"], "distillation", "the teacher"),
            (&["muon"], "unsupported-optimizer", "state of the optimizer Muon"),
            (&["cudagraph", "cuda_graph"], "cuda-graphs", "buffers of captured graphs"),
            (&["fine_grained_offloading"], "unknown-offload", "which activations are offloaded"),
            (&["uneven_pipeline"], "unknown-stage-split", "layers of each stage"),
            (&["_mtp_"], "multi-token-prediction", "layers that predict further tokens"),
            (&["defer_embedding_wgrad"], "deferred-gradients", "how many products are deferred"),
        ];
        let found = UNKNOWN.iter().find(|(words, _, _)| says(&self.name, words));
        found.map_or(Ok(()), |(_, reason, what)| {
            Err(Skip::new(reason, format!("no column tells {what} of '{}'", self.name)))
        })
    }
}
