//! One source: how many rows were scored and how well.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::rows::{Outcome, ScoredRow};
use super::statistics::Statistics;
use crate::row::Grade;

/// Which grades the headline figures pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Grades {
    /// Those of grade A; of a source that has none predicted, those of grade B.
    #[default]
    A,
    /// Both.
    AB,
}

/// The rows of one grade.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradeScore {
    /// Rows of the grade.
    pub rows: usize,
    /// Rows that were predicted and count.
    pub rows_scored: usize,
    /// Rows that could not be represented.
    pub rows_skipped: usize,
    /// Rows that a fit may have used; they do not count.
    pub rows_fitted: usize,
    /// Why rows were skipped, and how many.
    pub skipped: BTreeMap<&'static str, usize>,
    /// Their errors.
    #[serde(flatten)]
    pub statistics: Statistics,
}

/// The row with the largest error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorstRow {
    /// `file:line`.
    pub place: String,
    /// What was predicted, in the row's unit.
    pub predicted: f64,
    /// What was measured.
    pub measured: f64,
    /// The unit.
    pub unit: String,
}

/// How well the rows of one source are predicted. The headline figures are those of [`SourceScore::grade`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceScore {
    /// Name of the source.
    pub source: String,
    /// Workloads of its rows.
    pub workloads: BTreeSet<&'static str>,
    /// Grade of the rows that the headline figures are of: `A`, `B` or `AB`.
    pub grade: &'static str,
    /// All rows of the source.
    pub rows: usize,
    /// Rows of the headline grade that were predicted and count.
    pub rows_scored: usize,
    /// Rows of the headline grade and better that could not be represented.
    pub rows_skipped: usize,
    /// Rows of these grades that a fit may have used; they do not count.
    pub rows_fitted: usize,
    /// Rows graded C.
    pub rows_ignored: usize,
    /// Why rows were skipped, and how many.
    pub skipped: BTreeMap<&'static str, usize>,
    /// Errors of the headline rows.
    #[serde(flatten)]
    pub statistics: Statistics,
    /// The row with the largest error.
    pub worst_row: Option<WorstRow>,
    /// The same by grade.
    pub by_grade: BTreeMap<&'static str, GradeScore>,
    /// Errors of the headline rows by metric, where there are several.
    pub by_metric: BTreeMap<String, Statistics>,
}

/// Scores each source of `rows`, in the order of their first rows.
pub fn summarise(rows: &[ScoredRow], grades: Grades) -> Vec<SourceScore> {
    let mut order: Vec<&str> = Vec::new();
    let mut groups: BTreeMap<&str, Vec<&ScoredRow>> = BTreeMap::new();
    for row in rows {
        let source = row.measured.row.source.as_str();
        let group = groups.entry(source).or_insert_with(|| {
            order.push(source);
            Vec::new()
        });
        group.push(row);
    }
    order.into_iter().map(|source| SourceScore::of(source, &groups[source], grades)).collect()
}

impl SourceScore {
    fn of(source: &str, rows: &[&ScoredRow], grades: Grades) -> Self {
        let of_grade = |wanted: &[Grade]| -> Vec<&ScoredRow> {
            rows.iter().filter(|row| wanted.contains(&row.measured.row.grade)).copied().collect()
        };
        let graded = |grade: Grade| GradeScore::of(&of_grade(&[grade]));
        let by_grade: BTreeMap<&'static str, GradeScore> = [Grade::A, Grade::B]
            .into_iter()
            .map(|grade| (grade.letter(), graded(grade)))
            .filter(|(_, score)| score.rows > 0)
            .collect();
        let any_a = by_grade.get("A").is_some_and(|score| score.rows_scored > 0);
        let any_b = by_grade.get("B").is_some_and(|score| score.rows_scored > 0);
        // Counted: what the figures are of. Seen: also what was tried before them.
        let (grade, counted, seen): (&'static str, &[Grade], &[Grade]) = match grades {
            Grades::AB => ("AB", &[Grade::A, Grade::B], &[Grade::A, Grade::B]),
            Grades::A if any_a => ("A", &[Grade::A], &[Grade::A]),
            Grades::A if !any_b => ("A", &[Grade::A], &[Grade::A, Grade::B]),
            Grades::A => ("B", &[Grade::B], &[Grade::A, Grade::B]),
        };
        let (counted, seen) = (GradeScore::rows_of(&of_grade(counted)), GradeScore::of(&of_grade(seen)));
        Self {
            source: source.to_owned(),
            workloads: rows.iter().map(|row| row.measured.row.workload.name()).collect(),
            grade,
            rows: rows.len(),
            rows_scored: counted.len(),
            rows_skipped: seen.rows_skipped,
            rows_fitted: seen.rows_fitted,
            rows_ignored: rows.iter().filter(|row| row.outcome == Outcome::Ignored).count(),
            skipped: seen.skipped,
            statistics: Statistics::of(&counted),
            worst_row: worst(&counted),
            by_grade,
            by_metric: by_metric(&counted),
        }
    }
}

impl GradeScore {
    fn of(rows: &[&ScoredRow]) -> Self {
        let mut skipped = BTreeMap::new();
        for row in rows {
            if let Outcome::Skipped(skip) = &row.outcome {
                *skipped.entry(skip.reason).or_insert(0) += 1;
            }
        }
        let counted = Self::rows_of(rows);
        Self {
            rows: rows.len(),
            rows_scored: counted.len(),
            rows_skipped: skipped.values().sum(),
            rows_fitted: rows.iter().filter(|row| matches!(row.outcome, Outcome::Fitted(_))).count(),
            skipped,
            statistics: Statistics::of(&counted),
        }
    }

    /// Those that count.
    fn rows_of<'a>(rows: &[&'a ScoredRow]) -> Vec<&'a ScoredRow> {
        rows.iter().filter(|row| matches!(row.outcome, Outcome::Scored(_))).copied().collect()
    }
}

fn worst(rows: &[&ScoredRow]) -> Option<WorstRow> {
    let error = |row: &&&ScoredRow| row.relative_error().map_or(0.0, f64::abs);
    let row = rows.iter().max_by(|a, b| error(a).total_cmp(&error(b)))?;
    let (predicted, measured) = row.pair()?;
    let about = &row.measured.row;
    Some(WorstRow { place: about.place(), predicted, measured, unit: about.metric_unit.clone() })
}

fn by_metric(rows: &[&ScoredRow]) -> BTreeMap<String, Statistics> {
    let mut groups: BTreeMap<String, Vec<&ScoredRow>> = BTreeMap::new();
    for row in rows {
        let about = &row.measured.row;
        groups.entry(format!("{} [{}]", about.metric_name, about.metric_unit)).or_default().push(row);
    }
    if groups.len() < 2 {
        return BTreeMap::new();
    }
    groups.into_iter().map(|(name, rows)| (name, Statistics::of(&rows))).collect()
}
