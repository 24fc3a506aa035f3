//! What the tests of importers share: goldens of `tools/make_importer_goldens.py`, and inputs that were tampered with.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Families with goldens.
pub(crate) const FAMILIES: [&str; 4] = ["gpt2", "bert", "llama", "t5"];

/// A model's inputs and logits as PyTorch computed them.
#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) parameters: u64,
    pub(crate) exports: Vec<String>,
    pub(crate) logits_shape: Vec<u64>,
}

/// Folder of the goldens.
pub(crate) fn importers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/importers")
}

pub(crate) fn golden(family: &str) -> Golden {
    let text = std::fs::read_to_string(importers().join(family).join("golden.json")).expect("the golden");
    serde_json::from_str(&text).expect("JSON")
}

/// Numbers of mutations: all of them, or what `CUTPLANE_MUTATIONS` says for a quick look.
pub(crate) fn rounds(all: usize) -> usize {
    std::env::var("CUTPLANE_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(all)
}

/// A linear congruential generator (Knuth, MMIX): the same inputs in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count.max(1)
    }

    /// One to four changes: a byte replaced, a stretch cut out, doubled, filled or moved, the rest cut off.
    pub(crate) fn mutated(&mut self, source: &[u8]) -> Vec<u8> {
        let mut bytes = source.to_vec();
        for _ in 0..=self.below(4) {
            self.mutate(&mut bytes);
        }
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let at = self.below(bytes.len());
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(8) {
            0 => bytes[at] = self.below(256) as u8,
            1 => bytes[at] ^= 1 << self.below(8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => bytes[at..end].fill(0xff),
            6 => {
                let from = self.below(bytes.len() - (end - at) + 1);
                bytes.copy_within(from..from + (end - at), at);
            }
            _ if self.below(20) == 0 => bytes.truncate(at),
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }

    /// Text with parts exchanged between separators, numbers replaced by impossible ones, or bytes changed.
    pub(crate) fn mutated_text(&mut self, source: &str, hostile: &[&str]) -> String {
        let mut tokens: Vec<&str> = source.split_inclusive([',', ':', '=', '\n']).collect();
        for _ in 0..=self.below(3) {
            let (to, from) = (self.below(tokens.len()), self.below(tokens.len()));
            tokens[to] = if self.below(2) == 0 { tokens[from] } else { hostile[self.below(hostile.len())] };
        }
        let text = tokens.concat();
        if self.below(4) > 0 {
            return text;
        }
        String::from_utf8_lossy(&self.mutated(text.as_bytes())).into_owned()
    }
}
