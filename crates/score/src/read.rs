//! Reading files of measured rows.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use csv::StringRecord;
use sha2::{Digest, Sha256};

use crate::error::ScoreError;
use crate::row::{Grade, MeasuredRow, Row, Workload};

/// Columns that no row can do without.
const NEEDED: [&str; 6] = ["source", "hardware", "metric_name", "metric_value", "metric_unit", "workload"];

/// All columns of the format.
pub const COLUMNS: [&str; 45] = [
    "source",
    "citation",
    "url_or_repo_path",
    "commit",
    "model",
    "params",
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "ffn_hidden",
    "vocab",
    "seq_len",
    "micro_batch",
    "global_batch",
    "hardware",
    "gpu_memory_gb",
    "gpus",
    "gpus_per_node",
    "interconnect",
    "dp",
    "tp",
    "pp",
    "vpp",
    "cp",
    "ep",
    "zero_stage_or_fsdp",
    "sequence_parallel",
    "recompute",
    "precision",
    "flash_attention",
    "framework",
    "metric_name",
    "metric_value",
    "metric_unit",
    "memory_gb",
    "notes",
    "workload",
    "op",
    "message_bytes",
    "input_len",
    "output_len",
    "concurrency",
    "date",
    "grade",
];

/// A file of measured rows.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredFile {
    /// The file.
    pub path: PathBuf,
    /// Its rows, in order.
    pub rows: Vec<MeasuredRow>,
    /// Columns of the format that the file does not have; they count as empty.
    pub missing_columns: Vec<&'static str>,
    /// Columns that the format does not know; they are left out.
    pub unknown_columns: Vec<String>,
}

/// Reads a file of measured rows. Columns may stand in any order; a row whose numbers or grade cannot be read, or that has not
/// a cell for every column, is kept and says so.
///
/// # Errors
/// [`ScoreError`], naming the file and the line: no such file, not CSV, columns missing, no rows.
pub fn read_rows(path: &Path) -> Result<MeasuredFile, ScoreError> {
    let bytes =
        std::fs::read(path).map_err(|source| ScoreError::Io { path: path.to_owned(), action: "read", source })?;
    rows_of(path, &bytes)
}

/// As [`read_rows`], of the content of a file.
///
/// # Errors
/// As [`read_rows`].
pub fn rows_of(path: &Path, bytes: &[u8]) -> Result<MeasuredFile, ScoreError> {
    let text = String::from_utf8_lossy(bytes);
    // Lines are counted by their feeds.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n");
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).flexible(true).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| malformed(path, &error))?.clone();
    let columns = Columns::of(path, &headers)?;
    let file: Arc<Path> = path.into();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| malformed(path, &error))?;
        rows.push(columns.row(&file, rows.len(), &record));
    }
    if rows.is_empty() {
        return Err(ScoreError::Empty { path: path.to_owned() });
    }
    number_occurrences(&mut rows);
    Ok(MeasuredFile {
        path: path.to_owned(),
        rows,
        missing_columns: columns.missing(),
        unknown_columns: columns.unknown,
    })
}

fn malformed(path: &Path, error: &csv::Error) -> ScoreError {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = format!("{error}: not a CSV file of measured rows; docs/fidelity.md describes the format");
    ScoreError::Malformed { path: path.to_owned(), line, problem }
}

/// The first 16 hexadecimal digits of the SHA-256 of cells joined by U+001F.
pub(crate) fn hex_digest(cells: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            hasher.update("\u{1f}");
        }
        hasher.update(cell);
    }
    hasher.finalize().iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where each known column stands.
struct Columns {
    places: HashMap<&'static str, usize>,
    count: usize,
    unknown: Vec<String>,
}

impl Columns {
    fn of(path: &Path, headers: &StringRecord) -> Result<Self, ScoreError> {
        let mut places = HashMap::new();
        let mut unknown = Vec::new();
        for (place, header) in headers.iter().enumerate() {
            match COLUMNS.into_iter().find(|column| *column == header) {
                Some(column) if places.contains_key(column) => {
                    let problem = format!("column '{column}' stands there twice: leave one out");
                    return Err(ScoreError::Malformed { path: path.to_owned(), line: 1, problem });
                }
                Some(column) => _ = places.insert(column, place),
                None => unknown.push(header.to_owned()),
            }
        }
        let absent: Vec<String> =
            NEEDED.iter().filter(|column| !places.contains_key(*column)).map(|column| format!("'{column}'")).collect();
        if absent.is_empty() {
            return Ok(Self { places, count: headers.len(), unknown });
        }
        Err(ScoreError::Columns { path: path.to_owned(), columns: absent.join(", ") })
    }

    fn missing(&self) -> Vec<&'static str> {
        COLUMNS.into_iter().filter(|column| !self.places.contains_key(column)).collect()
    }

    fn row(&self, file: &Arc<Path>, index: usize, record: &StringRecord) -> MeasuredRow {
        let line = record.position().map_or(0, csv::Position::line);
        let mut cells = Cells { columns: self, record, unreadable: Vec::new() };
        if record.len() != self.count {
            cells.unreadable.push(format!(
                "{} cells under {} columns: quote what holds commas",
                record.len(),
                self.count
            ));
        }
        let grade = cells.text("grade");
        let grade = grade_of(&grade).unwrap_or_else(|| {
            cells.unreadable.push(format!("column 'grade': '{grade}' is not known: write A, B or C, or nothing"));
            Grade::B
        });
        let measured_value = cells.number("metric_value");
        let measured_memory = cells.number("memory_gb");
        let row = cells.row(file, (line, index), grade);
        let digest = hex_digest(&record.iter().collect::<Vec<_>>());
        MeasuredRow { row, measured_value, measured_memory, unreadable: cells.unreadable, digest }
    }
}

/// Largest count in a row: of devices, samples, tokens, layers, widths.
const MOST: f64 = 1e8;
/// Largest message, bytes.
const MOST_BYTES: f64 = 1e15;

fn grade_of(text: &str) -> Option<Grade> {
    match text.to_ascii_uppercase().as_str() {
        "A" | "A+" | "A-" | "" => Some(Grade::A),
        "B" | "B+" | "B-" => Some(Grade::B),
        "C" | "C+" | "C-" => Some(Grade::C),
        _ => None,
    }
}

/// One record, read cell by cell.
struct Cells<'a> {
    columns: &'a Columns,
    record: &'a StringRecord,
    unreadable: Vec<String>,
}

impl Cells<'_> {
    fn text(&self, column: &'static str) -> String {
        let place = self.columns.places.get(column).copied();
        place.and_then(|place| self.record.get(place)).unwrap_or_default().trim().to_owned()
    }

    fn number(&mut self, column: &'static str) -> Option<f64> {
        let text = self.text(column);
        if text.is_empty() {
            return None;
        }
        let read = text.replace([',', '_'], "").parse::<f64>().ok().filter(|value| value.is_finite());
        if read.is_none() {
            self.unreadable.push(format!("column '{column}': '{text}' is not a number"));
        }
        read
    }

    /// A whole number; `40.0` is one. Zero and less counts as unreadable: no column counts nothing. So does what nothing
    /// has that many of.
    fn count(&mut self, column: &'static str) -> Option<u64> {
        let number = self.number(column)?;
        let most = if column == "message_bytes" { MOST_BYTES } else { MOST };
        if (1.0..=most).contains(&number) && number.fract().abs() < 1e-9 {
            return Some(number as u64);
        }
        self.unreadable.push(format!("column '{column}': {number} is not a whole number from 1 to {most}"));
        None
    }

    /// A whole number that may be zero: tokens generated by an encoder.
    fn amount(&mut self, column: &'static str) -> Option<u64> {
        if self.text(column).trim_matches(['0', '.']).is_empty() && !self.text(column).is_empty() {
            return Some(0);
        }
        self.count(column)
    }

    fn row(&mut self, file: &Arc<Path>, (line, index): (u64, usize), grade: Grade) -> Row {
        Row {
            file: Arc::clone(file),
            line,
            index,
            occurrence: (0, 1),
            source: self.text("source"),
            citation: self.text("citation"),
            url_or_repo_path: self.text("url_or_repo_path"),
            commit: self.text("commit"),
            model: self.text("model"),
            params: self.number("params"),
            layers: self.count("layers"),
            hidden: self.count("hidden"),
            heads: self.count("heads"),
            kv_heads: self.count("kv_heads"),
            ffn_hidden: self.count("ffn_hidden"),
            vocab: self.count("vocab"),
            seq_len: self.count("seq_len"),
            micro_batch: self.count("micro_batch"),
            global_batch: self.count("global_batch"),
            hardware: self.text("hardware"),
            gpu_memory_gb: self.number("gpu_memory_gb"),
            gpus: self.count("gpus"),
            gpus_per_node: self.count("gpus_per_node"),
            interconnect: self.text("interconnect"),
            dp: self.count("dp"),
            tp: self.count("tp"),
            pp: self.count("pp"),
            vpp: self.count("vpp"),
            cp: self.count("cp"),
            ep: self.count("ep"),
            zero_stage_or_fsdp: self.text("zero_stage_or_fsdp"),
            sequence_parallel: self.text("sequence_parallel"),
            recompute: self.text("recompute"),
            precision: self.text("precision"),
            flash_attention: self.text("flash_attention"),
            framework: self.text("framework"),
            metric_name: self.text("metric_name"),
            metric_unit: self.text("metric_unit"),
            notes: self.text("notes"),
            workload: Workload::parse(&self.text("workload")),
            workload_text: self.text("workload"),
            op: self.text("op"),
            message_bytes: self.count("message_bytes"),
            input_len: self.count("input_len"),
            output_len: self.amount("output_len"),
            concurrency: self.count("concurrency"),
            date: self.text("date"),
            grade,
        }
    }
}

fn number_occurrences(rows: &mut [MeasuredRow]) {
    let key = |row: &Row| hex_digest(&[&row.url_or_repo_path, &row.op, &row.model]);
    let keys: Vec<String> = rows.iter().map(|row| key(&row.row)).collect();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (row, key) in rows.iter_mut().zip(&keys) {
        let count = seen.entry(key).or_insert(0);
        row.row.occurrence.0 = *count;
        *count += 1;
    }
    for (row, key) in rows.iter_mut().zip(&keys) {
        row.row.occurrence.1 = seen[key.as_str()];
    }
}
