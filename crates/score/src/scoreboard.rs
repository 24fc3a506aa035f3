//! The scoreboard as text.

use crate::scoring::SourceScore;

/// One line a source: rows, errors in per cent, rank correlation, memory; then why rows were skipped.
pub fn scoreboard(sources: &[SourceScore]) -> String {
    let width = sources.iter().map(|source| source.source.len()).max().unwrap_or(6).max(6);
    let mut text = format!(
        "{:<width$} grade  scored skipped fitted  median   mean    p90   worst    bias  rank  inside  memory    p90\n",
        "source"
    );
    for source in sources {
        let statistics = &source.statistics;
        text += &format!(
            "{:<width$} {:>5} {:>7} {:>7} {:>6} {} {} {} {} {} {} {} {} {}\n",
            source.source,
            source.grade,
            source.rows_scored,
            source.rows_skipped,
            source.rows_fitted,
            percent(statistics.median_error, 7),
            percent(statistics.mean_error, 6),
            percent(statistics.p90_error, 6),
            percent(statistics.worst_error, 7),
            percent(statistics.bias, 7),
            number(statistics.rank.mean, 5),
            percent(statistics.interval_coverage, 7),
            percent(statistics.memory_median_error, 7),
            percent(statistics.memory_p90_error, 6),
        );
    }
    for source in sources.iter().filter(|source| source.rows_skipped > 0) {
        let reasons: Vec<String> = source.skipped.iter().map(|(reason, rows)| format!("{reason} {rows}")).collect();
        text += &format!("skipped of {}: {}\n", source.source, reasons.join(", "));
    }
    text
}

/// A share as per cent, right-aligned; a dash when there is none.
pub(crate) fn percent(share: Option<f64>, width: usize) -> String {
    match share {
        Some(share) if share.abs() < 10.0 => format!("{:>width$}", format!("{:.1}%", share * 100.0)),
        Some(share) => format!("{:>width$}", format!("{:.0}%", share * 100.0)),
        None => format!("{:>width$}", "-"),
    }
}

fn number(value: Option<f64>, width: usize) -> String {
    value.map_or_else(|| format!("{:>width$}", "-"), |value| format!("{value:>width$.2}"))
}
