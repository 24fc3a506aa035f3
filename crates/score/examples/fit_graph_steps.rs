//! Fits the graph step model: `fit_graph_steps PRIORS.toml OUT.toml FILE.csv ...`.

use std::path::Path;

use cutplane_score::{fit_graph_steps, read_rows};
use cutplane_sim::graph_step::GraphCalibration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [priors, out, files @ ..] = arguments.as_slice() else {
        return Err("usage: fit_graph_steps PRIORS.toml OUT.toml FILE.csv ...".into());
    };
    let start = GraphCalibration::from_toml(&std::fs::read_to_string(priors)?)?;
    let mut rows = Vec::new();
    for file in files {
        rows.extend(read_rows(Path::new(file))?.rows);
    }
    let fit = fit_graph_steps(&rows, &start);
    println!("{} rows fitted, median error {:.1} %", fit.rows_fitted, 100.0 * fit.median_error);
    for fitted in &fit.rows {
        let row = &rows[fitted.index].row;
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
            fitted.measured,
            fitted.predicted,
            if fitted.fitted { "fitted" } else { "scored" }
        );
    }
    let head = "# Numbers of the graph step model (`cutplane_sim::graph_step`), written by `fit_graph_steps`, not by hand.\n\n";
    cutplane_plan::write_atomically(Path::new(out), (head.to_owned() + &fit.calibration.to_toml()?).as_bytes())?;
    Ok(())
}
