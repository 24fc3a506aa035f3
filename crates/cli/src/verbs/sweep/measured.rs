//! A sweep over this machine's cores: every plan predicted and measured.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use cutplane_record::{Measurement, Provenance, Source, append_measurements, read_measurements};
use cutplane_report::{CURVES_SIZE, Curve, Curves, FIDELITY_SIZE, Fidelity, FidelityPoint, curves, fidelity, save};
use serde_json::json;

use super::Sweep;
use crate::output;
use crate::verbs::compare::Compare;

/// The arguments of a comparison, read as on the command line.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    compare: Compare,
}

/// Compares the plans of every number of cores, keeps all records in one file and draws scaling and errors.
pub(super) fn run(sweep: &Sweep) -> Result<()> {
    ensure!(
        sweep.cluster == "cpu",
        "--run measures on this machine's cores: use --cluster cpu, not '{}'",
        sweep.cluster
    );
    ensure!(sweep.vary.is_empty(), "--run compares the default plans of every number of cores: leave --vary out");
    let (_, model) = sweep.model.load()?;
    let day = Provenance::capture().day().to_owned();
    let folder = output::default_folder(sweep.out.as_ref(), &day, &format!("sweep-{}", model.name()));
    output::prepare_folder(&folder)?;
    let all = folder.join("records.csv");
    ensure!(!all.exists(), "{}: holds a sweep already; choose another folder with --out", all.display());
    for devices in &sweep.devices {
        let own = folder.join(format!("cores-{devices}"));
        let mut arguments = Arguments::try_parse_from(words(sweep, *devices, &own))?;
        arguments.compare.quiet = sweep.json;
        arguments.compare.run()?;
        append_measurements(&all, &read_measurements(&own.join("records.csv"))?)?;
    }
    let rows = read_measurements(&all)?;
    let drawn = draw(sweep, &folder, model.name(), &rows)?;
    if sweep.json {
        return output::print_json(&json!({ "records": rows, "table": all, "figures": drawn }));
    }
    println!("saved    {}, {} figures: {}", all.display(), drawn.len(), drawn.join(", "));
    Ok(())
}

fn words(sweep: &Sweep, devices: u64, folder: &Path) -> Vec<String> {
    let mut words = vec!["compare".to_owned(), sweep.model.model.clone()];
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.into_iter().flat_map(|value| [format!("--{name}"), value]));
    };
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    option("devices", Some(format!("cpu:{devices}")));
    option("batch", Some(sweep.batch(devices).to_string()));
    option("out", Some(folder.display().to_string()));
    option("seq", number(sweep.model.seq));
    option("layers", number(sweep.model.layers));
    option("hidden", number(sweep.model.hidden));
    option("heads", number(sweep.model.heads));
    option("vocab", number(sweep.model.vocab));
    words
}

/// Samples a second.
fn rate(row: &Measurement) -> f64 {
    row.global_batch as f64 / (row.median_ns * 1e-9)
}

fn draw(sweep: &Sweep, folder: &Path, model: &str, rows: &[Measurement]) -> Result<Vec<&'static str>> {
    let of = |source: Source| rows.iter().filter(move |row| row.source == source && row.error.is_none());
    let best = |source: Source| -> Vec<(f64, f64)> {
        let at = |devices: &u64| {
            let name = format!("cpu:{devices}");
            let own = of(source).filter(|row| row.devices == name).map(rate);
            (*devices as f64, own.fold(0.0, f64::max))
        };
        sweep.devices.iter().map(at).filter(|(_, rate)| *rate > 0.0).collect()
    };
    let curve = Curve {
        name: "best plan".to_owned(),
        predicted: best(Source::Predicted),
        given: best(Source::Measured),
        labels: Vec::new(),
    };
    let figure = Curves {
        title: &format!("{model} on cores: scaling"),
        subtitle: "predicted beside measured",
        x_title: "cores",
        y_title: "samples a second",
        log_x: false,
        log_y: false,
        bytes: false,
        ideal: true,
        given_name: "measured",
        curves: &[curve],
    };
    let name = if sweep.batch_per_device.is_some() { "weak-scaling" } else { "strong-scaling" };
    save(&folder.join(name), CURVES_SIZE, |canvas| curves(canvas, &figure))?;
    errors(&folder.join("errors"), model, &pairs(rows))?;
    Ok(vec![name, "errors"])
}

/// Predicted and measured step times of one plan, ms, with its cores.
fn pairs(rows: &[Measurement]) -> Vec<(String, f64, f64)> {
    let predicted = rows.iter().filter(|row| row.source == Source::Predicted);
    let same = |row: &Measurement, other: &Measurement| {
        other.source == Source::Measured && (&other.case, &other.devices) == (&row.case, &row.devices)
    };
    predicted
        .filter_map(|row| Some((row, rows.iter().find(|other| same(row, other))?)))
        .map(|(row, other)| (row.devices.clone(), row.median_ns * 1e-6, other.median_ns * 1e-6))
        .collect()
}

fn errors(stem: &Path, model: &str, pairs: &[(String, f64, f64)]) -> Result<()> {
    let mut series: Vec<String> = pairs.iter().map(|pair| pair.0.clone()).collect();
    series.dedup();
    let point = |(devices, predicted, measured): &(String, f64, f64)| {
        let series = series.iter().position(|known| known == devices)?;
        Some(FidelityPoint { predicted: *predicted, measured: *measured, series })
    };
    let points: Vec<FidelityPoint> = pairs.iter().filter_map(point).collect();
    let mut sizes: Vec<f64> = pairs.iter().map(|(_, predicted, measured)| (predicted / measured - 1.0).abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let median = sizes.get(sizes.len() / 2).context("no plan was measured")?;
    let summary = format!("{} plans · median error {:.1}%", sizes.len(), 100.0 * median);
    let figure = Fidelity { source: model, metric: "step (ms)", summary: &summary, series: &series, points: &points };
    save(stem, FIDELITY_SIZE, |canvas| fidelity(canvas, &figure))?;
    Ok(())
}
