//! Tables of published values.

use std::path::Path;

use crate::definition::{Experiment, Run};
use crate::error::ExperimentError;
use crate::value::{Parameters, Value};

/// Columns that are no parameters.
const OWN: [&str; 3] = ["published", "citation", "note"];

/// A value that a paper printed.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The case that it belongs to.
    pub parameters: Parameters,
    /// The value, in the run's unit.
    pub value: f64,
    /// Where it was printed.
    pub citation: String,
}

/// Reads the table of a run; its columns are checked against the parameters of the run's kind.
///
/// # Errors
/// [`ExperimentError`], naming the file, the line and the column.
pub fn read(experiment: &Experiment, run: &Run) -> Result<Vec<Published>, ExperimentError> {
    let Some(table) = &run.published else { return Ok(Vec::new()) };
    let path = experiment.folder.join(table);
    let bytes = std::fs::read(&path).map_err(ExperimentError::read(&path))?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(bytes.as_slice());
    let malformed = |error: csv::Error| ExperimentError::field(&path, "table", error.to_string());
    let columns: Vec<String> = reader.headers().map_err(malformed)?.iter().map(str::to_owned).collect();
    for name in ["published", "citation"] {
        if !columns.iter().any(|column| column == name) {
            return Err(ExperimentError::field(&path, format!("column '{name}'"), "it is missing: add it"));
        }
    }
    let kind = experiment.kind(run)?;
    for name in columns.iter().filter(|column| !OWN.contains(&column.as_str())) {
        experiment
            .check_parameter(kind, run, name)
            .map_err(|error| ExperimentError::field(&path, format!("column '{name}'"), error.to_string()))?;
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        rows.push(row(&path, &columns, &record.map_err(malformed)?)?);
    }
    if rows.is_empty() {
        return Err(ExperimentError::field(&path, "table", "it has no rows: add one or leave 'published' out"));
    }
    Ok(rows)
}

fn row(path: &Path, columns: &[String], record: &csv::StringRecord) -> Result<Published, ExperimentError> {
    let line = record.position().map_or(0, csv::Position::line);
    let mut found = Published { parameters: Parameters::new(), value: f64::NAN, citation: String::new() };
    for (column, cell) in columns.iter().zip(record.iter()) {
        match column.as_str() {
            "published" => {
                let number = cell.trim().parse::<f64>().ok().filter(|value| value.is_finite());
                let field = format!("line {line}: column 'published'");
                found.value =
                    number.ok_or_else(|| ExperimentError::field(path, field, format!("'{cell}' is no number")))?;
            }
            "citation" => cell.trim().clone_into(&mut found.citation),
            "note" => {}
            _ if cell.trim().is_empty() => {}
            name => _ = found.parameters.insert(name.to_owned(), Value::of_cell(cell)),
        }
    }
    Ok(found)
}
