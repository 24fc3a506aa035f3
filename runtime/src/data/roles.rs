//! What a graph input is to be filled with, and whether the data fits.

use cutplane_graph::{Dtype, InputRole, ModelGraph, OpKind, TensorType, ValueId};

use super::characters::CHARACTERS;
use super::error::DataError;
use super::text::TextData;

/// A graph input.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) value: ValueId,
    pub(super) role: InputRole,
    /// Extents after the batch.
    pub(super) dims: Vec<usize>,
    /// Integers stay below it: rows of the table or classes of the loss that reads them.
    pub(super) below: u64,
}

/// Axes of an input after the batch, and whether it has floats.
fn form(role: InputRole) -> Option<(Option<usize>, bool)> {
    use InputRole as R;
    Some(match role {
        R::Tokens | R::TokenTypes | R::NextTokens | R::MaskedTokens | R::DecoderTokens | R::PreviousTokens => {
            (Some(1), false)
        }
        R::Characters => (Some(2), false),
        R::Classes => (Some(0), false),
        R::Features | R::Image | R::FeatureTargets | R::Memory => (None, true),
        _ => return None,
    })
}

impl Input {
    /// An input that text fills.
    pub(super) fn of_text(model: &ModelGraph, value: ValueId) -> Result<Self, DataError> {
        let input = Self::made_up(model, value)?;
        let refuse = |problem: &str| {
            Err(DataError::Input { input: model.value(value).name.clone(), problem: problem.to_owned() })
        };
        if model.value(value).ty.dtype.is_float() {
            return refuse("takes dense features");
        }
        if input.role == InputRole::Characters && input.below < CHARACTERS {
            return refuse("has fewer characters than there are bytes and marks, 261");
        }
        Ok(input)
    }

    /// An input that made-up samples fill.
    pub(super) fn made_up(model: &ModelGraph, value: ValueId) -> Result<Self, DataError> {
        let facts = model.value(value);
        let form = facts.role.and_then(|role| form(role).map(|form| (role, form)));
        let Some((role, (axes, is_float))) = form else {
            return Err(DataError::Input { input: facts.name.clone(), problem: "has no role".into() });
        };
        let TensorType { batched, dims, dtype } = &facts.ty;
        let fits = *batched && axes.is_none_or(|axes| axes == dims.len()) && dtype.is_float() == is_float;
        if !fits || (!is_float && *dtype != Dtype::I32) {
            return Err(DataError::Input { input: facts.name.clone(), problem: format!("has the type {}", facts.ty) });
        }
        let dims = dims.iter().map(|dim| *dim as usize).collect();
        Ok(Self { value, role, dims, below: limit(model, value) })
    }
}

/// Integers of a value must stay below what its readers take; 2 for one that only unknown operators read.
fn limit(model: &ModelGraph, value: ValueId) -> u64 {
    let limits = model.value(value).consumers.iter().filter_map(|op| match model.op(*op).kind {
        OpKind::Embedding { vocab: limit, .. } | OpKind::CrossEntropy { classes: limit, .. } => Some(limit),
        _ => None,
    });
    limits.min().unwrap_or(2)
}

/// Stretches of tokens of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spans {
    /// Tokens before the window: one where previous tokens are asked for.
    pub(super) lead: usize,
    /// The window.
    pub(super) sequence: usize,
    /// Tokens of a decoder after the window.
    pub(super) decoder: usize,
}

impl Spans {
    pub(super) fn new(model: &ModelGraph, inputs: &[Input]) -> Result<Self, DataError> {
        let has = |role| inputs.iter().any(|input| input.role == role);
        let decodes = has(InputRole::DecoderTokens);
        let of_decoder = |role| role == InputRole::DecoderTokens || (decodes && role == InputRole::NextTokens);
        let ordered = inputs.iter().filter(|input| form(input.role).is_some_and(|(axes, _)| axes >= Some(1)));
        let (decoder, encoder): (Vec<&Input>, Vec<&Input>) = ordered.partition(|input| of_decoder(input.role));
        Ok(Self {
            lead: usize::from(has(InputRole::PreviousTokens)),
            sequence: length(model, &encoder)?,
            decoder: length(model, &decoder)?,
        })
    }

    /// Tokens of a sample, the one after the last included.
    pub(super) const fn needed(self) -> usize {
        self.lead + self.sequence + self.decoder + 1
    }
}

/// The common length of inputs; 0 of none.
fn length(model: &ModelGraph, inputs: &[&Input]) -> Result<usize, DataError> {
    let Some(first) = inputs.first() else { return Ok(0) };
    match inputs.iter().find(|input| input.dims[0] != first.dims[0]) {
        None => Ok(first.dims[0]),
        Some(other) => {
            let problem = format!("is {} tokens long, another {}", other.dims[0], first.dims[0]);
            Err(DataError::Input { input: model.value(other.value).name.clone(), problem })
        }
    }
}

/// Inputs that hold tokens of the text.
fn of_tokens(inputs: &[Input]) -> impl Iterator<Item = &Input> {
    let apart = [InputRole::TokenTypes, InputRole::Characters];
    inputs.iter().filter(move |input| form(input.role).is_some_and(|(_, float)| !float) && !apart.contains(&input.role))
}

/// Every operator that looks a token up or predicts it must know all ids that the data can give.
pub(super) fn check_vocabulary(data: &TextData, model: &ModelGraph, inputs: &[Input]) -> Result<(), DataError> {
    let masks = inputs.iter().any(|input| input.role == InputRole::MaskedTokens);
    // Masking also draws random tokens of the whole vocabulary, and the mask token.
    let mask = data.mask(token_vocab(model, inputs)).map_or(0, |id| id as u64);
    let drawn = if masks { mask.max(data.vocab() - 1) } else { 0 };
    let largest = data.tokens().iter().copied().max().map_or(0, |id| id.max(0) as u64).max(drawn);
    let users = of_tokens(inputs);
    for op in users.flat_map(|input| model.value(input.value).consumers.iter().map(|op| model.op(*op))) {
        let (OpKind::Embedding { vocab, .. } | OpKind::CrossEntropy { classes: vocab, .. }) = op.kind else { continue };
        if largest >= vocab {
            return Err(DataError::Vocabulary { path: data.name().to_owned(), largest, owner: op.name.clone(), vocab });
        }
    }
    Ok(())
}

/// What every token must stay below: the smallest vocabulary of all that reads or predicts one, as a class too.
pub(super) fn token_limit(model: &ModelGraph, inputs: &[Input]) -> u64 {
    of_tokens(inputs).map(|input| limit(model, input.value)).min().unwrap_or(2)
}

/// The smallest vocabulary of all that reads or predicts tokens in a row.
pub(super) fn smallest_vocabulary(model: &ModelGraph, inputs: &[Input]) -> u64 {
    let ordered = of_tokens(inputs).filter(|input| input.role != InputRole::Classes);
    ordered.map(|input| limit(model, input.value)).min().unwrap_or(2)
}

/// Rows of the table that looks the tokens up.
pub(super) fn token_vocab(model: &ModelGraph, inputs: &[Input]) -> u64 {
    let tokens = inputs.iter().filter(|input| input.role == InputRole::Tokens);
    let readers = tokens.flat_map(|input| &model.value(input.value).consumers);
    let rows = readers.filter_map(|op| match model.op(*op).kind {
        OpKind::Embedding { vocab, .. } => Some(vocab),
        _ => None,
    });
    rows.min().unwrap_or(0)
}
