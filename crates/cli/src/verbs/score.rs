//! `cutplane score`: predictions against measurements that others published.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use cutplane_report::{FIDELITY_SIZE, Fidelity, FidelityPoint, fidelity, save};
use cutplane_score::{
    Grades, MeasuredFile, Outcome, Profile, ScoredRow, SourceScore, page, read_profile, read_rows, score_rows,
    scoreboard, summarise, write_rows,
};
use serde_json::json;

use crate::output;

/// Predicts every row of files of published measurements and says how far off the predictions are, source by source.
///
/// A row describes model, hardware, layout and software, and one measured value. The prediction never sees the value; a
/// row that cannot be represented is skipped by name. Rows that a calibration was fitted on do not count.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane score measured/*.csv                          a scoreboard, one line a source
  cutplane score rows.csv --rows out.csv                 predicted beside measured for every row, with origins
  cutplane score rows.csv --json --grade AB              as data; grades A and B pooled
  cutplane score rows.csv --plot figures                 predicted against measured, one figure a source
  cutplane score measured/*.csv --report docs/fidelity.md  the scoreboard as a page")]
pub(crate) struct Score {
    /// CSV files of measured rows.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Which grades the figures pool: A (of a source without any, B), or AB.
    #[arg(long, value_enum, default_value = "a", ignore_case = true)]
    grade: Grade,
    /// Predicts with the devices and interconnects of this profile first (see `cutplane calibrate`).
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Writes predicted beside measured for every row.
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Draws predicted against measured into this folder, one figure a source.
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
    /// Writes the scoreboard as a Markdown page.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Grade {
    A,
    Ab,
}

impl From<Grade> for Grades {
    fn from(grade: Grade) -> Self {
        match grade {
            Grade::A => Self::A,
            Grade::Ab => Self::AB,
        }
    }
}

impl Score {
    pub(crate) fn run(&self) -> Result<()> {
        for file in self.rows.iter().chain(&self.report) {
            output::prepare_file(file)?;
        }
        if let Some(folder) = &self.plot {
            output::prepare_folder(folder)?;
        }
        let profile = self.profile.as_deref().map_or_else(|| Ok(Profile::default()), read_profile)?;
        let mut files = self.files.iter().map(|file| read_rows(file)).collect::<Result<Vec<_>, _>>()?;
        files.iter().for_each(warn);
        let rows = files.iter_mut().flat_map(|file| std::mem::take(&mut file.rows)).collect();
        let scored = score_rows(rows, &profile);
        let sources = summarise(&scored, self.grade.into());
        self.write(&scored, &sources)?;
        if self.json {
            return output::print_json(&json!({
                "files": self.files,
                "errors_are": "shares of the measured value",
                "sources": sources,
            }));
        }
        print!("{}", scoreboard(&sources));
        Ok(())
    }

    /// The command that makes the page again.
    fn command(&self, page: &Path) -> String {
        let names = || self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" ");
        let mut words = vec!["cutplane score".to_owned(), pattern(&self.files).unwrap_or_else(names)];
        if matches!(self.grade, Grade::Ab) {
            words.push("--grade AB".to_owned());
        }
        words.extend(self.profile.iter().map(|file| format!("--profile {}", file.display())));
        words.push(format!("--report {}", page.display()));
        words.join(" ")
    }

    fn write(&self, rows: &[ScoredRow], sources: &[SourceScore]) -> Result<()> {
        if let Some(file) = &self.rows {
            write_rows(file, rows)?;
        }
        if let Some(folder) = &self.plot {
            for source in sources {
                draw(folder, source, rows)?;
            }
        }
        if let Some(file) = &self.report {
            let text = page(sources, &self.command(file));
            cutplane_plan::write_atomically(file, text.as_bytes())
                .with_context(|| format!("{}: cannot write", file.display()))?;
        }
        Ok(())
    }
}

/// All files of one folder, as a shell pattern; `None` where the folder holds others.
fn pattern(files: &[PathBuf]) -> Option<String> {
    let folder = files.first()?.parent()?;
    let is_csv = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "csv");
    let entries = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let inside: BTreeSet<PathBuf> = entries.filter(is_csv).collect();
    (inside == files.iter().cloned().collect()).then(|| format!("{}/*.csv", folder.display()))
}

/// One figure for each unit of a source: its rows that count, coloured by hardware, or by model where there is one
/// hardware.
fn draw(folder: &Path, source: &SourceScore, rows: &[ScoredRow]) -> Result<()> {
    let counted =
        |row: &&ScoredRow| row.measured.row.source == source.source && matches!(row.outcome, Outcome::Scored(_));
    let own: Vec<&ScoredRow> = rows.iter().filter(counted).filter(|row| row.pair().is_some()).collect();
    let units = distinct(own.iter().map(|row| row.measured.row.metric_unit.as_str()));
    for unit in &units {
        let of_unit: Vec<&ScoredRow> =
            own.iter().filter(|row| row.measured.row.metric_unit == *unit).copied().collect();
        let stem = if units.len() == 1 { source.source.clone() } else { format!("{}-{unit}", source.source) };
        let safe: String =
            stem.chars().map(|letter| if letter.is_alphanumeric() || letter == '_' { letter } else { '-' }).collect();
        draw_unit(&folder.join(safe), source, unit, &of_unit)?;
    }
    Ok(())
}

fn draw_unit(stem: &Path, source: &SourceScore, unit: &str, rows: &[&ScoredRow]) -> Result<()> {
    let hardware = distinct(rows.iter().map(|row| row.measured.row.hardware.as_str()));
    let series_of = |row: &ScoredRow| {
        let about = &row.measured.row;
        if hardware.len() > 1 { about.hardware.clone() } else { about.model.clone() }
    };
    let names: Vec<String> = rows.iter().map(|row| series_of(row)).collect();
    let series: Vec<String> = distinct(names.iter().map(String::as_str)).into_iter().map(str::to_owned).collect();
    let point = |(row, name): (&&ScoredRow, &String)| {
        let (predicted, measured) = row.pair()?;
        Some(FidelityPoint { predicted, measured, series: series.iter().position(|known| known == name)? })
    };
    let points: Vec<FidelityPoint> = rows.iter().zip(&names).filter_map(point).collect();
    let statistics = cutplane_score::Statistics::of(rows);
    let percent = |share: Option<f64>| 100.0 * share.unwrap_or_default();
    let summary = format!(
        "{} rows · median error {:.1}% · 90th percentile {:.1}%",
        points.len(),
        percent(statistics.median_error),
        percent(statistics.p90_error)
    );
    let figure = Fidelity {
        source: &source.source,
        metric: &format!("({unit})"),
        summary: &summary,
        series: &series,
        points: &points,
    };
    save(stem, FIDELITY_SIZE, |canvas| fidelity(canvas, &figure))?;
    Ok(())
}

/// Each text once, in order.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for text in texts {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

/// Says on standard error which columns a file lacks or has too many.
fn warn(file: &MeasuredFile) {
    if !file.missing_columns.is_empty() {
        eprintln!("{}: without columns {}: taken as empty", file.path.display(), file.missing_columns.join(", "));
    }
    if !file.unknown_columns.is_empty() {
        eprintln!("{}: unknown columns {} left out", file.path.display(), file.unknown_columns.join(", "));
    }
}
