//! `NAME=number` pairs of a free text: `conv W=14 H=14 C=512 N=8 R (Filter height)=3`.

/// The number after the first `name=`, where `name` starts the word that the sign ends. A remark in brackets may stand
/// between name and sign. Names are compared without case.
pub(super) fn number(text: &str, name: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    lower.match_indices(&name).find_map(|(at, _)| {
        let starts = lower[..at].chars().next_back().is_none_or(char::is_whitespace);
        starts.then(|| after_sign(&lower[at + name.len()..])).flatten()
    })
}

fn after_sign(rest: &str) -> Option<u64> {
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('(') {
        Some(inside) => inside.split_once(')')?.1,
        None => rest,
    };
    let digits = rest.strip_prefix('=')?;
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// The word after the first `name=`.
pub(super) fn word<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_whitespace().find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}
