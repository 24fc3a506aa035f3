//! One measured point as a typed row: everything that describes it, apart from what was measured.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

/// What was running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Training steps.
    Training,
    /// Requests to a model that only infers.
    Inference,
    /// One collective operation.
    Collective,
    /// One kernel.
    Kernel,
    /// Something else; skipped by name.
    Other,
}

impl Workload {
    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Inference => "inference",
            Self::Collective => "collective",
            Self::Kernel => "kernel",
            Self::Other => "other",
        }
    }

    /// Reads the column `workload`.
    pub fn parse(text: &str) -> Self {
        [Self::Training, Self::Inference, Self::Collective, Self::Kernel]
            .into_iter()
            .find(|workload| workload.name().eq_ignore_ascii_case(text.trim()))
            .unwrap_or(Self::Other)
    }
}

/// How complete a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Grade {
    /// Everything that a simulator needs is in the row; also a row of a file that does not grade.
    A,
    /// One to three things must be assumed.
    B,
    /// Headline or noisy: never scored.
    C,
}

impl Grade {
    /// Its letter.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        }
    }
}

/// The description of a measured point: every column but `metric_value` and `memory_gb`, which no predictor sees. Empty
/// cells are `None` or empty text: unknown, not zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The file that it came from.
    pub file: Arc<Path>,
    /// Line in that file, from 1.
    pub line: u64,
    /// Number of the row in that file, from 0.
    pub index: usize,
    /// Rows of the file with the same `url_or_repo_path`, `op` and `model` before this one, and in all: tells apart
    /// points whose description is equal.
    pub occurrence: (usize, usize),
    /// Name of the source.
    pub source: String,
    /// Citation.
    pub citation: String,
    /// Place in the source.
    pub url_or_repo_path: String,
    /// Commit of the source.
    pub commit: String,
    /// Model as the source names it.
    pub model: String,
    /// Parameters.
    pub params: Option<f64>,
    /// Repeated layers.
    pub layers: Option<u64>,
    /// Width of the residual stream.
    pub hidden: Option<u64>,
    /// Attention heads.
    pub heads: Option<u64>,
    /// Key and value heads.
    pub kv_heads: Option<u64>,
    /// Width of the feed-forward layer.
    pub ffn_hidden: Option<u64>,
    /// Vocabulary.
    pub vocab: Option<u64>,
    /// Tokens of a sample.
    pub seq_len: Option<u64>,
    /// Samples in a micro-batch of one replica.
    pub micro_batch: Option<u64>,
    /// Samples in a step over all replicas.
    pub global_batch: Option<u64>,
    /// Hardware as the source names it.
    pub hardware: String,
    /// Memory of a device, GB as its vendor counts.
    pub gpu_memory_gb: Option<f64>,
    /// Devices.
    pub gpus: Option<u64>,
    /// Devices of a node.
    pub gpus_per_node: Option<u64>,
    /// Interconnect as the source names it.
    pub interconnect: String,
    /// Data-parallel degree.
    pub dp: Option<u64>,
    /// Tensor-parallel degree.
    pub tp: Option<u64>,
    /// Pipeline stages.
    pub pp: Option<u64>,
    /// Model chunks a device.
    pub vpp: Option<u64>,
    /// Context-parallel degree.
    pub cp: Option<u64>,
    /// Expert-parallel degree.
    pub ep: Option<u64>,
    /// Sharding of optimizer, gradients and parameters.
    pub zero_stage_or_fsdp: String,
    /// Sequence parallelism.
    pub sequence_parallel: String,
    /// Recomputation.
    pub recompute: String,
    /// Number formats.
    pub precision: String,
    /// Attention kernel.
    pub flash_attention: String,
    /// Software.
    pub framework: String,
    /// Name of the metric.
    pub metric_name: String,
    /// Its unit.
    pub metric_unit: String,
    /// Free text.
    pub notes: String,
    /// What was running.
    pub workload: Workload,
    /// Column `workload` as written.
    pub workload_text: String,
    /// Operator of a kernel or collective.
    pub op: String,
    /// Bytes of a collective's message.
    pub message_bytes: Option<u64>,
    /// Tokens of a request.
    pub input_len: Option<u64>,
    /// Tokens generated.
    pub output_len: Option<u64>,
    /// Requests at once.
    pub concurrency: Option<u64>,
    /// When.
    pub date: String,
    /// How complete.
    pub grade: Grade,
}

/// Which memory a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryKind {
    /// Peak of the bytes that tensors hold.
    Allocated,
    /// Peak of the bytes that the framework's allocator reserved.
    Reserved,
    /// What the driver reports: the allocator's reserve, the context and the libraries.
    Device,
}

impl Row {
    /// Which memory the row's memory figure counts, from its metric and notes; allocated bytes when nothing says.
    pub fn memory_kind(&self) -> MemoryKind {
        let text = format!("{} {}", self.metric_name, self.notes).to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match () {
            () if says(&["allocated", "max_memory_alloc"]) => MemoryKind::Allocated,
            () if says(&["reserved", "cached"]) => MemoryKind::Reserved,
            () if says(&["nvidia-smi", "nvidia_smi", "gpu memory", "memory used"]) => MemoryKind::Device,
            () if self.workload == Workload::Inference => MemoryKind::Device,
            () => MemoryKind::Allocated,
        }
    }

    /// `file:line`, for messages.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

/// A row together with what was measured; only the scorer holds these.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredRow {
    /// The description.
    pub row: Row,
    /// Column `metric_value`, in `metric_unit`.
    pub measured_value: Option<f64>,
    /// Column `memory_gb` as written.
    pub measured_memory: Option<f64>,
    /// Numbers that could not be read, `column 'gpus': '512 or 1024'`; such a row is skipped by name.
    pub unreadable: Vec<String>,
    /// First 16 hexadecimal digits of the SHA-256 of the row's cells joined by U+001F: identifies the row wherever it
    /// stands, and draws the rows that fits may use.
    pub digest: String,
}
