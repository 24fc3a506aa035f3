//! What an inference row asks: one batch of equal requests that start together.

use crate::parse::words::number_after;
use crate::parse::{self, Transformer, TransformerKind};
use crate::prediction::{Origin, Skip, TraceEntry};
use crate::row::Row;

use super::engine::{Engine, engine};

/// One batch of equal requests.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    /// The model.
    pub(super) model: Transformer,
    /// Requests of the batch.
    pub(super) batch: u64,
    /// Tokens of each prompt.
    pub(super) input: u64,
    /// Tokens generated for each; 0 for an encoder.
    pub(super) output: u64,
    /// Ranks that share every layer.
    pub(super) tp: u64,
    /// Pipeline stages.
    pub(super) pp: u64,
    /// Number formats.
    pub(super) precision: parse::Precision,
    /// The software.
    pub(super) engine: &'static Engine,
    /// What was assumed.
    pub(super) trace: Vec<TraceEntry>,
}

/// What engines serve where a row does not say.
const HALF: parse::Precision =
    parse::Precision { products: parse::Products::F16, autocast: false, pure: false, compiled: false };

impl Request {
    pub(super) fn of(row: &Row) -> Result<Self, Skip> {
        let missing = |reason, column: &str| Skip::new(reason, format!("column '{column}' is empty"));
        let named = named_row(row);
        let model = parse::transformer(&named)?;
        if model.kind == TransformerKind::EncoderDecoder {
            return Err(Skip::new("unsupported-model", format!("inference of encoder-decoders: '{}'", row.model)));
        }
        let (engine, mut trace) = engine(row, model.kind)?;
        let precision = parse::precision(&row.precision)?.unwrap_or_else(|| {
            let assumed = "f16".to_owned();
            trace.push(TraceEntry { name: "precision".into(), value: assumed, origin: Origin::Assumed });
            HALF
        });
        let input = row.input_len.or(row.seq_len).ok_or_else(|| missing("missing-input-length", "input_len"))?;
        let encoder = model.kind == TransformerKind::Encoder;
        let output = match (encoder, row.output_len.or_else(|| number_after(&row.notes, &["output_tokens="]))) {
            (true, _) => 0,
            (false, Some(output)) if output > 0 => output,
            (false, _) => return Err(missing("missing-output-length", "output_len")),
        };
        let batch = row.concurrency.or(row.global_batch).or(row.micro_batch);
        let batch = batch.ok_or_else(|| missing("missing-batch", "concurrency"))?;
        let (tp, pp) = degrees(row, &mut trace)?;
        Ok(Self { model, batch, input, output, tp, pp, precision, engine, trace })
    }
}

/// Some tables name the model in the metric: `FP16 llama2-7b: throughput`.
fn named_row(row: &Row) -> Row {
    let model = if row.model.is_empty() { row.metric_name.split(':').next().unwrap_or_default() } else { &row.model };
    Row { model: model.to_owned(), ..row.clone() }
}

/// `tp, pp`: from the columns, else from a metric that names them (`TP2, PP1`).
fn degrees(row: &Row, trace: &mut Vec<TraceEntry>) -> Result<(u64, u64), Skip> {
    let lower = row.metric_name.to_ascii_lowercase();
    let gpus = row.gpus.unwrap_or(1);
    let pp = row.pp.or_else(|| number_after(&lower, &["pp"])).unwrap_or(1);
    let tp = row.tp.or_else(|| number_after(&lower, &["tp"])).unwrap_or_else(|| {
        let left = (gpus / pp).max(1);
        if left > 1 {
            trace.push(TraceEntry {
                name: "tensor parallelism".into(),
                value: left.to_string(),
                origin: Origin::Assumed,
            });
        }
        left
    });
    if tp * pp > gpus && row.gpus.is_some() {
        return Err(Skip::new("layout-contradicts-gpus", format!("tp {tp}, pp {pp} on {gpus} devices")));
    }
    Ok((tp, pp))
}
