//! Characters of tokens, as ELMo counts them (Peters et al. 2018, and its `bilm-tf`): the bytes, and five marks.

/// Different characters: 256 bytes, beginning and end of a sentence, beginning and end of a word, padding.
pub(super) const CHARACTERS: u64 = 261;

const BEGIN_WORD: i32 = 258;
const END_WORD: i32 = 259;
const PADDING: i32 = 260;

/// The `length` characters of a token: its `bytes` between the marks of a word, then padding. With fewer than
/// [`CHARACTERS`] characters, which only made-up samples have, they stay below `below`.
pub(super) fn of_token(bytes: &[u8], length: usize, below: u64) -> Vec<i32> {
    let inside = bytes.iter().copied().take(length.saturating_sub(2)).map(i32::from);
    let marked = std::iter::once(BEGIN_WORD).chain(inside).chain([END_WORD]).chain(std::iter::repeat(PADDING));
    let below = i64::try_from(below).unwrap_or(i64::MAX).max(1);
    marked.take(length).map(|character| (i64::from(character) % below) as i32).collect()
}

#[cfg(test)]
mod tests {
    use super::{CHARACTERS, of_token};

    #[test]
    fn a_byte_stands_between_the_marks_of_a_word() {
        assert_eq!(of_token(b"a", 5, CHARACTERS), [258, 97, 259, 260, 260]);
        assert_eq!(of_token(b"a", 2, CHARACTERS), [258, 259]);
        assert!(of_token(b"a", 5, 20).iter().all(|character| *character < 20));
    }
}
