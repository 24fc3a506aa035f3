//! What can be wrong with training data: each case names the file, the field and the remedy.

use std::io;

use thiserror::Error;

/// Data that cannot train the model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}; give an existing file with --data")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A text without tokens.
    #[error("{path} is empty; give a text of at least one sample with --data")]
    Empty {
        /// The file.
        path: String,
    },
    /// Bytes that a tokenizer cannot take.
    #[error(
        "{path} is not UTF-8 (first bad byte at offset {offset}), which --tokenizer needs; \
         convert it, or leave --tokenizer out to train on bytes"
    )]
    NotUtf8 {
        /// The file.
        path: String,
        /// Where.
        offset: usize,
    },
    /// A file that is no tokenizer, or a tokenizer that refuses the text.
    #[error("{path}: {problem}; --tokenizer takes a Hugging Face tokenizer.json")]
    Tokenizer {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A text shorter than one sample.
    #[error("{path} has {tokens} tokens, one sample needs {needed}; give a longer text with --data or a smaller --seq")]
    TooShort {
        /// The file.
        path: String,
        /// Tokens that it has.
        tokens: usize,
        /// Tokens that a sample needs: the sequence and the token after it.
        needed: usize,
    },
    /// A token id beyond the model's vocabulary.
    #[error(
        "{path} has token ids up to {largest}, but {owner} of the model has a vocabulary of {vocab}; \
         make the model with --vocab {} or more", largest + 1
    )]
    Vocabulary {
        /// The file.
        path: String,
        /// The largest token id.
        largest: u64,
        /// The operator that reads or predicts it.
        owner: String,
        /// Its vocabulary.
        vocab: u64,
    },
    /// Masked tokens without a mask token.
    #[error(
        "the tokenizer of {path} has no [MASK] or <mask> token, which the masked-token input '{input}' needs; \
         take another --tokenizer, or leave it out to train on bytes"
    )]
    NoMaskToken {
        /// The file.
        path: String,
        /// The graph input.
        input: String,
    },
    /// A file that is not what its format says.
    #[error("{path}, offset {offset}: {problem}; {remedy}")]
    Malformed {
        /// The file.
        path: String,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong there.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A graph input that pictures cannot fill.
    #[error(
        "{path} has pictures of {shape}, but input '{input}' of the model takes {takes}; \
         make the model with another --image, or take other pictures"
    )]
    Picture {
        /// The file.
        path: String,
        /// Channels, height and width.
        shape: String,
        /// The graph input.
        input: String,
        /// Its type.
        takes: String,
    },
    /// More was asked of a loader that has failed before.
    #[error("the thread that loads samples has ended")]
    LoaderEnded,
    /// A graph input that text cannot fill.
    #[error(
        "input '{input}' of the model {problem}; text fills [sequence] inputs of i32 tokens, token types and targets; --data synthetic makes samples up"
    )]
    Input {
        /// The graph input.
        input: String,
        /// Why not.
        problem: String,
    },
    /// A step without samples.
    #[error("the global batch is zero; give at least one sample a step with --batch")]
    EmptyBatch,
}
