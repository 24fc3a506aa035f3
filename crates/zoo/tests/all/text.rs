//! The text that is trained on when no other is given.

use cutplane_zoo::DEFAULT_TEXT;

#[test]
fn the_default_text_is_plain_english() {
    assert!((60_000..200_000).contains(&DEFAULT_TEXT.len()), "{} bytes", DEFAULT_TEXT.len());
    assert!(DEFAULT_TEXT.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
    // English letters: a unigram model is already far below ln(256).
    let mut counts = [0f64; 256];
    DEFAULT_TEXT.bytes().for_each(|byte| counts[usize::from(byte)] += 1.0);
    let total = DEFAULT_TEXT.len() as f64;
    let entropy: f64 = counts.iter().filter(|n| **n > 0.0).map(|n| -n / total * (n / total).ln()).sum();
    assert!((2.9..3.3).contains(&entropy), "{entropy} nats a byte");
}
