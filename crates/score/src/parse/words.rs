//! Small readers of free text.

/// Whether a lower-case text says any of the words.
pub(crate) fn says(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// Whether a text leaves the matter open: empty, or saying so.
pub(crate) fn is_unstated(text: &str) -> bool {
    let lower = text.trim().to_ascii_lowercase();
    lower.is_empty() || ["not stated", "not given", "unknown", "n/a", "?", "-", "unstated"].contains(&lower.as_str())
}

/// The first whole number that directly follows one of the words, spaces and separators between: `within groups of 8`.
pub(crate) fn number_after(text: &str, words: &[&str]) -> Option<u64> {
    words.iter().find_map(|word| {
        let (_, rest) = text.split_once(word)?;
        leading_number(rest.trim_start_matches([' ', '=', ':', '-', '(', '~']))
    })
}

/// The whole number that a text starts with.
pub(crate) fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}
