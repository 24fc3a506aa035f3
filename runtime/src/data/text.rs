//! Text as tokens.

use std::path::Path;

use tokenizers::Tokenizer;

use super::error::DataError;
use super::random::SplitMix;

/// The tokens of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextData {
    name: String,
    tokens: Vec<i32>,
    vocab: u64,
    mask: Option<i32>,
    bytes: bool,
    /// The vocabulary's strings, where there is a tokenizer.
    pieces: Vec<String>,
}

impl TextData {
    /// The bytes of `text` as tokens: vocabulary 256. `name` is what errors call it.
    ///
    /// # Errors
    /// [`DataError::Empty`].
    pub fn from_text(name: &str, text: &str) -> Result<Self, DataError> {
        Self::from_bytes(name, text.as_bytes())
    }

    /// Reads a file: bytes as tokens, or what a Hugging Face `tokenizer.json` makes of it.
    ///
    /// # Errors
    /// [`DataError::Read`], [`DataError::Empty`], [`DataError::NotUtf8`], [`DataError::Tokenizer`].
    pub fn from_file(path: &Path, tokenizer: Option<&Path>) -> Result<Self, DataError> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| DataError::Read { path: name.clone(), source })?;
        let Some(tokenizer) = tokenizer else { return Self::from_bytes(&name, &bytes) };
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| DataError::NotUtf8 { path: name.clone(), offset: error.valid_up_to() })?;
        Self::tokenized(&name, text, tokenizer)
    }

    fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, DataError> {
        let tokens = bytes.iter().copied().map(i32::from).collect();
        Self { name: name.to_owned(), tokens, vocab: 256, mask: None, bytes: true, pieces: Vec::new() }.checked()
    }

    /// The tokens that a Hugging Face `tokenizer.json` makes of `text`, special tokens left out.
    ///
    /// # Errors
    /// [`DataError::Empty`], [`DataError::Tokenizer`].
    pub fn tokenized(name: &str, text: &str, tokenizer: &Path) -> Result<Self, DataError> {
        let path = tokenizer.display().to_string();
        let problem =
            |error: tokenizers::Error| DataError::Tokenizer { path: path.clone(), problem: error.to_string() };
        let tokenizer = Tokenizer::from_file(tokenizer).map_err(problem)?;
        let encoding = tokenizer.encode(text, false).map_err(problem)?;
        let tokens = encoding.get_ids().iter().map(|id| i32::try_from(*id).unwrap_or(i32::MAX)).collect();
        let mask = ["[MASK]", "<mask>"].iter().find_map(|token| tokenizer.token_to_id(token));
        let vocab = tokenizer.get_vocab_size(true) as u64;
        let mask = mask.and_then(|id| i32::try_from(id).ok());
        let pieces = (0..vocab).map(|id| u32::try_from(id).ok().and_then(|id| tokenizer.id_to_token(id)));
        let pieces = pieces.map(Option::unwrap_or_default).collect();
        Self { name: name.to_owned(), tokens, vocab, mask, bytes: false, pieces }.checked()
    }

    /// `count` made-up tokens of a vocabulary; with three chances in four a token is the one before times five and three
    /// more. The last token is the mask and does not occur.
    pub(super) fn synthetic(vocab: u64, count: usize, seed: u64) -> Self {
        let (below, mut random) = (vocab.saturating_sub(1).max(1), SplitMix::keyed(&[seed, vocab]));
        let mut token = 0;
        let mut next = || {
            token = if random.below(4) == 0 { random.below(below) } else { (token * 5 + 3) % below };
            i32::try_from(token).unwrap_or(i32::MAX)
        };
        let tokens = (0..count).map(|_| next()).collect();
        let mask = i32::try_from(vocab.saturating_sub(1)).ok();
        Self { name: "made-up samples".to_owned(), tokens, vocab: below, mask, bytes: false, pieces: Vec::new() }
    }

    fn checked(self) -> Result<Self, DataError> {
        if self.tokens.is_empty() { Err(DataError::Empty { path: self.name }) } else { Ok(self) }
    }

    /// What errors call it: the file's path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tokens, in the order of the text.
    pub fn tokens(&self) -> &[i32] {
        &self.tokens
    }

    /// Size of the tokenizer's vocabulary: what `--vocab` of a model must reach. 256 for bytes.
    pub fn vocab(&self) -> u64 {
        self.vocab
    }

    /// The bytes of a token: of its string in the vocabulary, or the byte that it is, or its number.
    pub(super) fn bytes_of(&self, token: i32) -> Vec<u8> {
        let piece = usize::try_from(token).ok().and_then(|id| self.pieces.get(id));
        match piece {
            Some(piece) => piece.clone().into_bytes(),
            None if self.bytes => u8::try_from(token).into_iter().collect(),
            None => token.to_le_bytes().to_vec(),
        }
    }

    /// The token that stands for a masked one in a model of `vocab` tokens: the tokenizer's `[MASK]` or `<mask>`; else the
    /// model's last token, when it lies beyond the text's; else, for bytes, byte 0, which text does not contain.
    pub fn mask(&self, vocab: u64) -> Option<i32> {
        let beyond = (vocab > self.vocab).then(|| i32::try_from(vocab - 1).unwrap_or(i32::MAX));
        self.mask.or(beyond).or(self.bytes.then_some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENIZER: &str = r#"{
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "the": 1, "cat": 2, "[MASK]": 3}, "unk_token": "[UNK]"}
    }"#;

    /// A file of this test's own; `name` must be unique among tests.
    fn file(name: &str, content: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("cutplane-{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("the temporary folder takes files");
        path
    }

    #[test]
    fn bytes_are_tokens() {
        let data = TextData::from_text("inline", "aé").expect("text");
        assert_eq!((data.tokens(), data.vocab()), (&[97, 195, 169][..], 256));
        assert_eq!((data.mask(256), data.mask(264)), (Some(0), Some(263)));
    }

    #[test]
    fn a_tokenizer_file_makes_the_tokens() {
        let (text, tokenizer) = (file("words.txt", b"the cat the dog"), file("tokenizer.json", TOKENIZER.as_bytes()));
        let data = TextData::from_file(&text, Some(&tokenizer)).expect("text");
        assert_eq!((data.tokens(), data.vocab(), data.mask(4)), (&[1, 2, 1, 0][..], 4, Some(3)));
    }

    #[test]
    fn bad_files_are_refused_by_name() {
        let missing = TextData::from_file(Path::new("no/such/file.txt"), None).expect_err("missing").to_string();
        assert!(missing.starts_with("cannot read no/such/file.txt: ") && missing.contains("--data"), "{missing}");
        let empty = file("empty.txt", b"");
        let error = TextData::from_file(&empty, None).expect_err("empty").to_string();
        assert_eq!(error, format!("{} is empty; give a text of at least one sample with --data", empty.display()));
        let (latin, tokenizer) = (file("latin.txt", b"caf\xe9"), file("tokenizer2.json", TOKENIZER.as_bytes()));
        assert!(TextData::from_file(&latin, None).is_ok(), "bytes may be anything");
        let error = TextData::from_file(&latin, Some(&tokenizer)).expect_err("latin-1").to_string();
        assert!(error.contains("is not UTF-8 (first bad byte at offset 3)"), "{error}");
        let (text, alien) = (file("text.txt", b"the cat"), file("alien.json", b"{}"));
        let error = TextData::from_file(&text, Some(&alien)).expect_err("no tokenizer").to_string();
        assert!(error.starts_with(&alien.display().to_string()) && error.contains("--tokenizer"), "{error}");
    }
}
