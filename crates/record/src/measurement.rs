//! Rows of CSV records: predicted and measured results of one shape, told apart by one column.

use std::path::Path;

use cutplane_plan::write_atomically;
use serde::{Deserialize, Serialize};

use crate::error::RecordError;
use crate::provenance::Provenance;
use crate::timeline::Source;

/// Order statistics of repeated times, ns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of repetitions.
    pub n: usize,
    /// Median.
    pub median_ns: f64,
    /// Median absolute deviation.
    pub mad_ns: f64,
    /// Smallest.
    pub min_ns: f64,
    /// Largest.
    pub max_ns: f64,
}

impl Summary {
    /// Summarises times in nanoseconds; `None` when there is none.
    pub fn of(times_ns: &[f64]) -> Option<Self> {
        let median_ns = median(times_ns.to_vec())?;
        let mad_ns = median(times_ns.iter().map(|time| (time - median_ns).abs()).collect())?;
        let fold = |pick: fn(f64, f64) -> f64, start| times_ns.iter().copied().fold(start, pick);
        Some(Self {
            n: times_ns.len(),
            median_ns,
            mad_ns,
            min_ns: fold(f64::min, f64::INFINITY),
            max_ns: fold(f64::max, f64::NEG_INFINITY),
        })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

/// One result with its circumstances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Name of the experiment.
    pub experiment: String,
    /// Name of the plan or case.
    pub case: String,
    /// Predicted or measured.
    pub source: Source,
    /// Digest of the plan.
    pub plan_digest: String,
    /// Name of the model.
    pub model: String,
    /// Number of parameters.
    pub parameters: u64,
    /// The devices, as given: `cpu:2`.
    pub devices: String,
    /// Samples a step.
    pub global_batch: u64,
    /// Tokens a sample.
    pub sequence_length: u64,
    /// Element type.
    pub precision: String,
    /// Repetitions.
    pub n: usize,
    /// Median step time, ns.
    pub median_ns: f64,
    /// Median absolute deviation, ns.
    pub mad_ns: f64,
    /// Fastest step, ns.
    pub min_ns: f64,
    /// Slowest step, ns.
    pub max_ns: f64,
    /// Peak memory of the fullest rank, bytes.
    pub peak_memory_bytes: u64,
    /// Loss of the last step, when one was computed.
    pub loss: Option<f64>,
    /// Seed of weights and data order.
    pub seed: u64,
    /// Back end.
    pub backend: String,
    /// When.
    pub date: String,
    /// Version of this tool.
    pub tool_version: String,
    /// Commit.
    pub commit: String,
    /// Host name.
    pub host: String,
    /// Processor model.
    pub cpu_model: String,
    /// Why there is no result, when there is none.
    pub error: Option<String>,
}

impl Measurement {
    /// Fills the columns that come from the circumstances.
    #[must_use]
    pub fn with_provenance(mut self, provenance: &Provenance) -> Self {
        self.date.clone_from(&provenance.date);
        self.tool_version.clone_from(&provenance.tool_version);
        self.commit.clone_from(&provenance.commit);
        self.host.clone_from(&provenance.host);
        self.cpu_model.clone_from(&provenance.cpu_model);
        self
    }

    /// Fills the columns that come from repeated times.
    #[must_use]
    pub fn with_summary(mut self, summary: &Summary) -> Self {
        self.n = summary.n;
        (self.median_ns, self.mad_ns) = (summary.median_ns, summary.mad_ns);
        (self.min_ns, self.max_ns) = (summary.min_ns, summary.max_ns);
        self
    }
}

/// Reads all rows of a CSV record.
///
/// # Errors
/// [`RecordError`], naming the file and the line.
pub fn read_measurements(path: &Path) -> Result<Vec<Measurement>, RecordError> {
    let file = std::fs::File::open(path).map_err(|source| RecordError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    csv::Reader::from_reader(file)
        .deserialize()
        .collect::<Result<_, csv::Error>>()
        .map_err(|error| RecordError::Malformed { path: path.to_owned(), problem: format!("not a record: {error}") })
}

/// Adds rows to a CSV record, creating it with a header when it is not there. The file is replaced in one step, so an
/// interruption leaves the old rows readable.
///
/// # Errors
/// [`RecordError`].
pub fn append_measurements(path: &Path, rows: &[Measurement]) -> Result<(), RecordError> {
    let mut all = if path.exists() { read_measurements(path)? } else { Vec::new() };
    all.extend_from_slice(rows);
    let malformed = |problem: String| RecordError::Malformed { path: path.to_owned(), problem };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in &all {
        writer.serialize(row).map_err(|error| malformed(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| malformed(error.to_string()))?;
    write_atomically(path, &bytes).map_err(|source| RecordError::Io { path: path.to_owned(), action: "write", source })
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn summaries_are_order_statistics() {
        let summary = Summary::of(&[3.0, 1.0, 2.0, 10.0]).expect("not empty");
        assert_eq!((summary.n, summary.median_ns, summary.mad_ns), (4, 2.5, 1.0));
        assert_eq!((summary.min_ns, summary.max_ns), (1.0, 10.0));
        assert_eq!(Summary::of(&[]), None);
    }
}
