//! Where samples come from.

use std::borrow::Cow;
use std::sync::Arc;

use cutplane_graph::{InputRole, ModelGraph};

use super::error::DataError;
use super::pictures::Pictures;
use super::roles::{Input, Spans};
use super::text::TextData;
use super::tokens::TokenFile;

/// Samples of an epoch that is made up, of a model that reads no tokens.
const DENSE_EPOCH: u64 = 4096;

/// Where samples come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Windows of a text in memory.
    Text(Arc<TextData>),
    /// Windows of a file of tokens, which a model of this vocabulary reads.
    Tokens(Arc<TokenFile>, u64),
    /// Pictures with their classes.
    Pictures(Arc<Pictures>),
    /// Made-up tokens, and a class out of so many for each sample.
    MadeUp(Arc<TextData>, u64),
}

impl Source {
    /// What errors call it.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Text(text) | Self::MadeUp(text, _) => text.name(),
            Self::Tokens(file, _) => file.name(),
            Self::Pictures(pictures) => pictures.name(),
        }
    }

    /// Samples of an epoch.
    pub(super) fn epoch(&self, spans: Spans) -> Result<u64, DataError> {
        let needed = spans.needed();
        let tokens = match self {
            Self::Pictures(pictures) => return Ok(pictures.labels().len() as u64),
            Self::Text(text) | Self::MadeUp(text, _) => text.tokens().len() as u64,
            Self::Tokens(file, _) => file.tokens(),
        };
        if tokens < needed as u64 {
            return Err(DataError::TooShort { path: self.name().to_owned(), tokens: tokens as usize, needed });
        }
        Ok(match spans.sequence as u64 {
            0 => DENSE_EPOCH,
            sequence => (tokens - needed as u64) / sequence + 1,
        })
    }

    /// `count` tokens from number `start` on.
    pub(super) fn window(&self, start: u64, count: usize) -> Result<Cow<'_, [i32]>, DataError> {
        match self {
            Self::Text(text) | Self::MadeUp(text, _) => Ok(Cow::from(&text.tokens()[start as usize..][..count])),
            Self::Tokens(file, vocab) => file.read(start, count, *vocab).map(Cow::from),
            Self::Pictures(_) => Ok(Cow::from(Vec::new())),
        }
    }

    /// Tokens that may stand in the place of a masked one.
    pub(super) fn vocab(&self) -> u64 {
        match self {
            Self::Text(text) | Self::MadeUp(text, _) => text.vocab(),
            Self::Tokens(_, vocab) => vocab.saturating_sub(1).max(1),
            Self::Pictures(_) => 1,
        }
    }

    /// The token that stands for a masked one: as [`TextData::mask`]; in a file of tokens the last of the vocabulary.
    pub(super) fn mask(&self, vocab: u64) -> Option<i32> {
        match self {
            Self::Text(text) | Self::MadeUp(text, _) => text.mask(vocab),
            Self::Tokens(_, vocab) => i32::try_from(vocab.saturating_sub(1)).ok(),
            Self::Pictures(_) => None,
        }
    }

    /// The bytes of a token, for models that read characters.
    pub(super) fn bytes_of(&self, token: i32) -> Vec<u8> {
        match self {
            Self::Text(text) | Self::MadeUp(text, _) => text.bytes_of(token),
            Self::Tokens(..) | Self::Pictures(_) => token.to_le_bytes().to_vec(),
        }
    }
}

/// Refuses a model that pictures of this shape and these classes cannot fill.
pub(super) fn check_pictures(pictures: &Pictures, model: &ModelGraph, inputs: &[Input]) -> Result<(), DataError> {
    let [channels, height, width] = pictures.shape();
    for input in inputs {
        let fits = match input.role {
            InputRole::Image => input.dims == [channels, height, width],
            InputRole::Features => input.dims.iter().product::<usize>() == channels * height * width,
            InputRole::Classes => {
                pictures.check_classes(input.below)?;
                true
            }
            _ => false,
        };
        if !fits {
            return Err(DataError::Picture {
                path: pictures.name().to_owned(),
                shape: format!("{channels} x {height} x {width}"),
                input: model.value(input.value).name.clone(),
                takes: model.value(input.value).ty.to_string(),
            });
        }
    }
    Ok(())
}
