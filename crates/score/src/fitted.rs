//! Which rows were used to fit the cost models: they never count in the score of their source.
//!
//! Two ways of drawing are recorded, both seeded: by the digest of a row (`data/fitted.toml`), and by its number in the
//! source's file (`data/fabrics.toml`). At most a tenth of a source's rows may be drawn.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::fabrics::drawn_rows;
use crate::row::MeasuredRow;

/// The seed of all draws by digest.
pub const SEED: u64 = 17;

/// A source that something was fitted on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedSource {
    /// Name of the source.
    pub source: String,
    /// Share of its rows that was drawn; at most 0.1.
    pub share: f64,
    /// Only rows whose hardware text contains this were drawn; empty for all.
    #[serde(default)]
    pub hardware: String,
    /// Only rows whose metric's name contains this were drawn; empty for all.
    #[serde(default)]
    pub metric: String,
    /// Digests of further rows that a fit used although they were not drawn: they never count either.
    #[serde(default)]
    pub also: Vec<String>,
    /// What was fitted on them.
    pub used_for: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    fitted: Vec<FittedSource>,
}

static FILE: LazyLock<File> =
    LazyLock::new(|| toml::from_str(include_str!("../data/fitted.toml")).expect("a test reads data/fitted.toml"));

/// All sources that something was fitted on by a draw of digests.
pub fn fitted_sources() -> &'static [FittedSource] {
    &FILE.fitted
}

/// A number in `[0, 1)` that belongs to a row of this digest: rows below a share are drawn.
///
/// It is the first 8 hexadecimal digits, as a number over 2^32, of the SHA-256 of `SEED`, U+001F and the digest.
pub fn draw(digest: &str, seed: u64) -> f64 {
    let hash = crate::read::hex_digest(&[&seed.to_string(), digest]);
    let leading = u32::from_str_radix(&hash[..8], 16).unwrap_or(u32::MAX);
    f64::from(leading) / 2f64.powi(32)
}

/// Whether a fit may have used the row.
pub fn was_fitted(row: &MeasuredRow) -> bool {
    let by_digest = fitted_sources().iter().any(|entry| {
        entry.source == row.row.source
            && row.row.hardware.contains(&entry.hardware)
            && row.row.metric_name.contains(&entry.metric)
            && (draw(&row.digest, SEED) < entry.share || entry.also.contains(&row.digest))
    });
    by_digest || drawn_rows(&row.row.source).binary_search(&row.row.index).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_even_and_repeatable() {
        let below = (0..1000).filter(|i| draw(&i.to_string(), SEED) < 0.1).count();
        assert!((70..130).contains(&below), "{below}");
        assert!((draw("a", 1) - draw("a", 1)).abs() < f64::EPSILON);
        assert!((draw("a", 1) - draw("a", 2)).abs() > 1e-6);
    }

    #[test]
    fn no_source_gave_more_than_a_tenth_and_each_says_what_for() {
        for entry in fitted_sources() {
            assert!(entry.share > 0.0 && entry.share <= 0.1, "{}", entry.source);
            assert!(!entry.used_for.is_empty(), "{}", entry.source);
        }
    }
}
