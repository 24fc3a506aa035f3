//! The integers of a sample, by role.

use std::borrow::Cow;

use cutplane_graph::{IGNORED_TARGET, InputRole};

use super::characters;
use super::roles::{Input, Spans};
use super::source::Source;

/// One sample: its stretch of tokens, the masked positions with what the model sees there, and what dense numbers are
/// made from.
pub(super) struct Sample<'a> {
    pub(super) tokens: Cow<'a, [i32]>,
    pub(super) spans: Spans,
    pub(super) masked: Vec<(usize, i32)>,
    /// Of a picture, and of a sample that is made up.
    pub(super) class: Option<u64>,
    /// The bytes of a picture.
    pub(super) pixels: Option<Vec<u8>>,
    /// Seed, and number of the sample in its epoch.
    pub(super) key: [u64; 2],
}

impl Sample<'_> {
    /// `count` tokens from `offset` after the beginning of the window on.
    fn from(&self, offset: usize, count: usize) -> &[i32] {
        &self.tokens[self.spans.lead + offset..][..count]
    }

    fn window(&self) -> &[i32] {
        self.from(0, self.spans.sequence)
    }
}

/// The integers of one sample for one input.
pub(super) fn row(sample: &Sample<'_>, input: &Input, source: &Source) -> Vec<i32> {
    let Spans { sequence, decoder, .. } = sample.spans;
    match input.role {
        InputRole::NextTokens if decoder > 0 => sample.from(sequence + 1, decoder).to_vec(),
        InputRole::NextTokens => sample.from(1, sequence).to_vec(),
        InputRole::DecoderTokens => sample.from(sequence, decoder).to_vec(),
        InputRole::PreviousTokens => sample.tokens[..sequence].to_vec(),
        InputRole::TokenTypes => (0..sequence).map(|i| i32::from(i >= sequence / 2)).collect(),
        InputRole::Classes => vec![sample.class.map_or_else(|| sample.from(sequence, 1)[0], |class| class as i32)],
        InputRole::Characters => {
            let (length, below) = (input.dims[1], input.below);
            sample
                .window()
                .iter()
                .flat_map(|token| characters::of_token(&source.bytes_of(*token), length, below))
                .collect()
        }
        InputRole::MaskedTokens => {
            let mut row = vec![IGNORED_TARGET; sequence];
            sample.masked.iter().for_each(|(position, _)| row[*position] = sample.window()[*position]);
            row
        }
        _ => {
            let mut row = sample.window().to_vec();
            sample.masked.iter().for_each(|(position, shown)| row[*position] = *shown);
            row
        }
    }
}
