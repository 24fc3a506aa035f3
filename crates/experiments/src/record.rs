//! Dated records: append-only CSV files with provenance, one a day and definition.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cutplane_record::Provenance;
use serde::{Deserialize, Serialize};

use crate::definition::Experiment;
use crate::error::ExperimentError;
use crate::value::Parameters;

/// Folder of the records in the folder of an experiment.
const FOLDER: &str = "records";

/// One case with its prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The run.
    pub run: String,
    /// The case in a line.
    pub case: String,
    /// What is predicted.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// Our prediction.
    pub predicted: f64,
    /// Lower end of its interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// What the paper printed.
    pub published: Option<f64>,
    /// What the prediction rests on.
    pub basis: String,
    /// The parameters that tell the case from the others.
    pub parameters: Parameters,
}

impl Record {
    /// `(predicted - published) / published`.
    pub fn relative_error(&self) -> Option<f64> {
        self.published.filter(|published| *published != 0.0).map(|published| self.predicted / published - 1.0)
    }

    /// The prediction with its unit.
    pub fn predicted_text(&self) -> String {
        let unit = if self.unit == "-" { String::new() } else { format!(" {}", self.unit) };
        format!("{}{unit}", short(self.predicted))
    }
}

/// A number with four digits that count.
pub fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A line of a file: a record with its circumstances.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    run: String,
    case: String,
    metric: String,
    unit: String,
    predicted: f64,
    low: Option<f64>,
    high: Option<f64>,
    published: Option<f64>,
    basis: String,
    parameters: String,
    date: String,
    commit: String,
    tool_version: String,
    definition: String,
    seed: u64,
}

/// A file of records, of one definition.
#[derive(Clone, Debug)]
pub struct RecordFile {
    /// The file.
    pub path: PathBuf,
    /// What it holds, in order.
    pub records: Vec<Record>,
    /// Commit that it was recorded at.
    pub commit: String,
    /// Digest of the definition that it belongs to.
    pub definition: String,
    /// Day of the first record.
    pub day: String,
}

/// Reads a file of records.
///
/// # Errors
/// [`ExperimentError`]: not a file of records; a case that stands there twice.
pub fn read(path: &Path) -> Result<RecordFile, ExperimentError> {
    let mut bytes = std::fs::read(path).map_err(ExperimentError::read(path))?;
    bytes.truncate(whole_lines(&bytes));
    let mut file = RecordFile {
        path: path.to_owned(),
        records: Vec::new(),
        commit: String::new(),
        definition: String::new(),
        day: String::new(),
    };
    let mut first: HashMap<(String, String), u64> = HashMap::new();
    for (at, line) in csv::Reader::from_reader(bytes.as_slice()).deserialize::<Line>().enumerate() {
        let number = at as u64 + 2;
        let refuse = |problem: String| ExperimentError::field(path, format!("line {number}"), problem);
        let line = line.map_err(|error| refuse(error.to_string()))?;
        if let Some(first) = first.insert((line.run.clone(), line.case.clone()), number) {
            let (run, case) = (line.run, line.case);
            return Err(ExperimentError::Duplicate { path: path.to_owned(), line: number, first, run, case });
        }
        let parameters = serde_json::from_str(&line.parameters);
        let parameters = parameters.map_err(|error| refuse(format!("column 'parameters': {error}")))?;
        if at == 0 {
            file.day = line.date.chars().take(10).collect();
            (file.commit, file.definition) = (line.commit.clone(), line.definition.clone());
        }
        file.records.push(Record {
            run: line.run,
            case: line.case,
            metric: line.metric,
            unit: line.unit,
            predicted: line.predicted,
            low: line.low,
            high: line.high,
            published: line.published,
            basis: line.basis,
            parameters,
        });
    }
    Ok(file)
}

/// Bytes of the lines that were written to their end: what a killed run left of its last line is no record.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

/// All files of records of an experiment, oldest first.
///
/// # Errors
/// As [`read`].
pub fn files(experiment: &Experiment) -> Result<Vec<RecordFile>, ExperimentError> {
    tables(&experiment.folder.join(FOLDER))?.iter().map(|path| read(path)).collect()
}

/// The dated tables of a folder, oldest first; none where there is no folder.
pub(crate) fn tables(folder: &Path) -> Result<Vec<PathBuf>, ExperimentError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).map_err(ExperimentError::read(folder))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "csv")).collect();
    paths.sort_by_key(|path| age(path));
    Ok(paths)
}

/// `DAY.csv`, or the first of `DAY.01.csv`, ... that is not there yet: records are never overwritten.
pub(crate) fn new_table(folder: &Path, day: &str) -> PathBuf {
    let name = |number: u32| if number == 0 { format!("{day}.csv") } else { format!("{day}.{number:02}.csv") };
    let mut paths = (0_u32..).map(|number| folder.join(name(number)));
    paths.find(|path| !path.exists()).unwrap_or_else(|| folder.join("records.csv"))
}

/// Day and number of a file: `2026-11-23.csv` is older than `2026-11-23.01.csv`.
fn age(path: &Path) -> (String, u32) {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    match stem.split_once('.') {
        Some((day, number)) => (day.to_owned(), number.parse().unwrap_or(u32::MAX)),
        None => (stem, 0),
    }
}

/// The newest records of the definition as it stands.
///
/// # Errors
/// As [`files`].
pub fn latest(experiment: &Experiment) -> Result<Option<RecordFile>, ExperimentError> {
    Ok(files(experiment)?.into_iter().rfind(|file| file.definition == experiment.digest))
}

/// Appends records to one file, one by one: what is interrupted goes on where it stopped.
#[derive(Debug)]
pub struct Recorder {
    file: RecordFile,
    provenance: Provenance,
    seed: u64,
}

impl Recorder {
    /// Goes on with the newest file of this definition, if it was begun at this commit and `again` is not set; else begins a
    /// new one.
    ///
    /// # Errors
    /// [`ExperimentError`] of the file or the folder.
    pub fn open(experiment: &Experiment, provenance: Provenance, again: bool) -> Result<Self, ExperimentError> {
        let seed = experiment.definition.seed;
        let begun = latest(experiment)?.filter(|file| !again && file.commit == provenance.commit);
        if let Some(file) = begun {
            drop_torn_line(&file.path).map_err(ExperimentError::write(&file.path))?;
            return Ok(Self { file, provenance, seed });
        }
        let folder = experiment.folder.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(ExperimentError::write(&folder))?;
        let day = provenance.day().to_owned();
        let path = new_table(&folder, &day);
        let (commit, definition) = (provenance.commit.clone(), experiment.digest.clone());
        let file = RecordFile { path, records: Vec::new(), commit, definition, day };
        Ok(Self { file, provenance, seed })
    }

    /// What is recorded already.
    pub fn records(&self) -> &[Record] {
        &self.file.records
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Whether a case is recorded already.
    pub fn has(&self, run: &str, case: &str) -> bool {
        self.file.records.iter().any(|record| record.run == run && record.case == case)
    }

    /// Appends one record.
    ///
    /// # Errors
    /// [`ExperimentError::Io`].
    pub fn append(&mut self, record: Record) -> Result<(), ExperimentError> {
        let path = self.file.path.clone();
        let mut table = csv::WriterBuilder::new().has_headers(self.file.records.is_empty()).from_writer(Vec::new());
        let written = table.serialize(self.line(&record)).map_err(std::io::Error::other);
        written.map_err(ExperimentError::write(&path))?;
        let bytes = table.into_inner().map_err(|error| ExperimentError::write(&path)(error.into_error()))?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let done = file.and_then(|mut file| file.write_all(&bytes));
        done.map_err(ExperimentError::write(&path))?;
        self.file.records.push(record);
        Ok(())
    }

    fn line(&self, record: &Record) -> Line {
        let record = record.clone();
        Line {
            run: record.run,
            case: record.case,
            metric: record.metric,
            unit: record.unit,
            predicted: record.predicted,
            low: record.low,
            high: record.high,
            published: record.published,
            basis: record.basis,
            parameters: serde_json::to_string(&record.parameters).unwrap_or_default(),
            date: self.provenance.date.clone(),
            commit: self.provenance.commit.clone(),
            tool_version: self.provenance.tool_version.clone(),
            definition: self.file.definition.clone(),
            seed: self.seed,
        }
    }
}

/// Shortens a file to its whole lines, so that the next line begins on one of its own.
fn drop_torn_line(path: &Path) -> std::io::Result<()> {
    let bytes = std::fs::read(path)?;
    let whole = whole_lines(&bytes);
    if whole == bytes.len() { Ok(()) } else { OpenOptions::new().write(true).open(path)?.set_len(whole as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_day_are_ordered_by_number() {
        let mut names =
            ["2026-11-23.10.csv", "2026-11-24.csv", "2026-11-23.csv", "2026-11-23.9.csv", "2026-11-23.01.csv"];
        names.sort_by_key(|name| age(Path::new(name)));
        let wanted = ["2026-11-23.csv", "2026-11-23.01.csv", "2026-11-23.9.csv", "2026-11-23.10.csv", "2026-11-24.csv"];
        assert_eq!(names, wanted);
    }
}
