//! The scoreboard as a Markdown page.

use cutplane_sim::kernel::calibrations;

use crate::fabrics::{drawn_sources, machines};
use crate::fitted::{SEED, fitted_sources};
use crate::scoreboard::percent;
use crate::scoring::{GradeScore, SourceScore};

/// What the page says of the format and of its terms.
const TERMS: &str = include_str!("../data/terms.md");

/// Where the model is wrong, and why.
const LIMITS: &str = include_str!("../data/limits.md");

/// The page: the command that makes it, the scoreboard, what was fitted, what was skipped, where the model is wrong.
pub fn page(sources: &[SourceScore], command: &str) -> String {
    let mut text = format!(
        "# Fidelity: predictions against published measurements\n\nMade by `{command}`; do not edit. Measurements by \
         others; each row of a file carries its citation.\n\n"
    );
    text += &board(sources);
    text += &memory(sources);
    text += &fitted();
    text += &skipped(sources);
    text += "## Where the model is wrong, and why\n\n";
    text += LIMITS.trim();
    text += "\n\n## Terms and file format\n\n";
    text += TERMS.trim();
    text += "\n";
    text
}

/// A cell, without padding.
fn cell(share: Option<f64>) -> String {
    percent(share, 0)
}

fn board(sources: &[SourceScore]) -> String {
    let mut text = "## Scoreboard\n\nErrors are |predicted - measured| / measured of the row's own metric; bias is the median \
                    signed error; rank is Spearman's correlation inside sweeps; inside is the share of measurements in \
                    the predicted interval.\n\n\
                    | source | grade | scored | skipped | fitted | median | mean | p90 | worst | bias | rank | inside |\n\
                    |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for source in sources {
        for (grade, score) in &source.by_grade {
            text += &line(source, grade, score);
        }
        if source.by_grade.is_empty() {
            text += &format!("| {} | C | 0 | 0 | 0 | - | - | - | - | - | - | - |\n", source.source);
        }
    }
    text + "\n"
}

fn line(source: &SourceScore, grade: &str, score: &GradeScore) -> String {
    let statistics = &score.statistics;
    let cells =
        [statistics.median_error, statistics.mean_error, statistics.p90_error, statistics.worst_error, statistics.bias]
            .map(cell)
            .join(" | ");
    let rank = statistics.rank.mean.map_or_else(|| "-".to_owned(), |rank| format!("{rank:.2}"));
    let inside = cell(statistics.interval_coverage);
    format!(
        "| {} | {grade} | {} | {} | {} | {cells} | {rank} | {inside} |\n",
        source.source, score.rows_scored, score.rows_skipped, score.rows_fitted
    )
}

fn memory(sources: &[SourceScore]) -> String {
    let told: Vec<_> = sources
        .iter()
        .flat_map(|source| source.by_grade.iter().map(move |(grade, score)| (source, grade, &score.statistics)))
        .filter(|(_, _, statistics)| statistics.memory_rows > 0 || statistics.fits.runs_out() > 0)
        .collect();
    if told.is_empty() {
        return String::new();
    }
    let mut text = "## Memory\n\n| source | grade | rows | median | p90 | worst | bias | fits, did | out, did | out, but fitted \
                    | fits, but ran out | wrong by more than 5% |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for (source, grade, statistics) in told {
        let errors = [
            statistics.memory_median_error,
            statistics.memory_p90_error,
            statistics.memory_worst_error,
            statistics.memory_bias,
        ]
        .map(cell)
        .join(" | ");
        let fits = statistics.fits;
        text += &format!(
            "| {} | {grade} | {} | {errors} | {} | {} | {} | {} | {} |\n",
            source.source,
            statistics.memory_rows,
            fits.fits_and_did,
            fits.runs_out_and_did,
            fits.runs_out_but_fitted,
            fits.fits_but_ran_out,
            fits.wrong_beyond_margin
        );
    }
    text + "\n"
}

fn fitted() -> String {
    let mut text = format!(
        "## What was fitted, and on which rows\n\nRows are drawn by the digest of their cells with seed {SEED}, or by their \
         number in the file; drawn rows never count above.\n\n"
    );
    for entry in fitted_sources() {
        let also = match entry.also.len() {
            0 => String::new(),
            more => format!(" and {more} more that a fit used"),
        };
        let share = 100.0 * entry.share;
        text += &format!("- `{}`: at most {share:.1}% of the rows{also}; {}\n", entry.source, entry.used_for);
    }
    for (source, rows) in drawn_sources() {
        text += &format!("- `{source}`: {rows} rows; interconnects (crates/score/data/fabrics.toml)\n");
    }
    text += "\nKernels (sim/data/kernels.toml): ";
    let known = calibrations().iter().filter(|calibration| !calibration.fitted.is_empty());
    let names: Vec<String> =
        known.map(|found| format!("{} ({}; {} parameters)", found.name, found.rows, found.fitted.len())).collect();
    text += &names.join("; ");
    let fabrics = machines().iter().filter(|machine| machine.fitted).map(|machine| machine.source.as_str());
    text += &format!(".\n\nInterconnects: {}.\n\n", fabrics.collect::<Vec<_>>().join("; "));
    text
}

fn skipped(sources: &[SourceScore]) -> String {
    let mut text = "## Skipped rows\n\n| source | grade | reason | rows |\n|---|---|---|---:|\n".to_owned();
    for source in sources {
        for (grade, score) in &source.by_grade {
            for (reason, rows) in &score.skipped {
                text += &format!("| {} | {grade} | {reason} | {rows} |\n", source.source);
            }
        }
    }
    text + "\n"
}
