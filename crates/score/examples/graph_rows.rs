//! Scores files of training rows and prints each row beside its prediction.

use std::path::Path;

use cutplane_score::{Profile, read_rows, score_rows};

fn main() {
    let filter = std::env::var("FILTER").unwrap_or_default();
    for path in std::env::args().skip(1) {
        let rows = read_rows(Path::new(&path)).expect("rows");
        let rows: Vec<_> = rows.rows.into_iter().filter(|row| row.row.model.contains(&filter)).collect();
        for scored in score_rows(rows, &Profile::default()) {
            let row = &scored.measured.row;
            let pair = scored.pair();
            println!(
                "{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{:.1}|{}",
                row.source,
                row.grade.letter(),
                row.model,
                row.hardware,
                row.framework,
                row.precision,
                row.gpus.unwrap_or(0),
                row.micro_batch.unwrap_or(0),
                row.zero_stage_or_fsdp,
                row.metric_name,
                scored.measured.measured_value.unwrap_or(0.0),
                pair.map_or(0.0, |pair| pair.0),
                match &scored.outcome {
                    cutplane_score::Outcome::Skipped(skip) => skip.to_string(),
                    other => other.name().to_owned(),
                },
            );
        }
    }
}
