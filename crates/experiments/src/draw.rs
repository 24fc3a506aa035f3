//! Drawing the figures of a definition from records.

use std::path::{Path, PathBuf};

use cutplane_report::{
    BarGroup, CURVES_SIZE, Curve, Curves, FIDELITY_SIZE, Fidelity, FidelityPoint, GroupedBars, HeatMap, Pair,
    ReportError, Saved, curves, fidelity, grouped_bars, grouped_bars_size, heat_map, heat_map_size, save,
};

use crate::definition::Experiment;
use crate::error::ExperimentError;
use crate::figure::{FigureForm, FigureSpec};
use crate::record::{Record, RecordFile, short};
use crate::twin::{Executed, TwinTimes};
use crate::value::Value;

/// Folder of the figures in the folder of an experiment.
pub const FIGURES: &str = "figures";

/// Name of the figure of a twin.
pub(crate) const TWIN_FIGURE: &str = "twin";

/// Draws all figures of an experiment, as SVG and PNG, from records alone.
///
/// # Errors
/// [`ExperimentError`]: a folder that cannot be written, a figure that cannot be drawn.
pub fn draw(experiment: &Experiment, file: &RecordFile) -> Result<Vec<PathBuf>, ExperimentError> {
    let folder = experiment.folder.join(FIGURES);
    std::fs::create_dir_all(&folder).map_err(ExperimentError::write(&folder))?;
    let failed = |spec: &FigureSpec, source| ExperimentError::Figure {
        experiment: experiment.name.clone(),
        figure: spec.name.clone(),
        source,
    };
    let mut paths = Vec::new();
    for spec in &experiment.definition.figures {
        let records: Vec<&Record> = file.records.iter().filter(|record| spec.runs.contains(&record.run)).collect();
        if records.is_empty() {
            continue;
        }
        let saved = one(spec, &records, experiment, &folder).map_err(|source| failed(spec, source))?;
        paths.push(saved.svg);
    }
    Ok(paths)
}

/// Draws what the experiment's twin executed: step times, predicted beside measured.
///
/// # Errors
/// As [`draw`].
pub fn draw_twin(experiment: &Experiment, executed: &Executed) -> Result<PathBuf, ExperimentError> {
    let folder = experiment.folder.join(FIGURES);
    std::fs::create_dir_all(&folder).map_err(ExperimentError::write(&folder))?;
    let group = |plan: &TwinTimes| BarGroup {
        name: plan.plan.clone(),
        pairs: vec![Pair { predicted: Some(1e3 * plan.predicted_step_s), given: Some(1e3 * plan.measured_step_s) }],
    };
    let groups: Vec<BarGroup> = executed.plans.iter().map(group).collect();
    let what = experiment.definition.twin.as_ref().map(|twin| format!("{} on {}", twin.model, twin.devices));
    let figure = GroupedBars {
        title: &format!("{}, executed", what.unwrap_or_default()),
        subtitle: &format!("predicted beside measured, {}", executed.day),
        y_title: "time of a step (ms)",
        log_y: false,
        given_name: "measured",
        series: &[String::new()],
        groups: &groups,
    };
    let drawn =
        save(&folder.join(TWIN_FIGURE), grouped_bars_size(groups.len(), 2), |canvas| grouped_bars(canvas, &figure));
    let failed = |source| ExperimentError::Figure {
        experiment: experiment.name.clone(),
        figure: TWIN_FIGURE.to_owned(),
        source,
    };
    Ok(drawn.map_err(failed)?.svg)
}

fn one(spec: &FigureSpec, records: &[&Record], experiment: &Experiment, folder: &Path) -> Result<Saved, ReportError> {
    let stem = folder.join(&spec.name);
    let has_published = records.iter().any(|record| record.published.is_some());
    let told = if has_published { "predicted beside published" } else { "predicted" };
    let subtitle = format!("{}, {} · {told}", experiment.definition.paper.venue, experiment.definition.paper.place);
    match spec.form {
        FigureForm::Lines => lines(spec, records, &subtitle, &stem),
        FigureForm::Bars => bars(spec, records, &subtitle, &stem),
        FigureForm::Scatter => points(spec, records, &stem),
        FigureForm::HeatMap => map(spec, records, &subtitle, &stem),
    }
}

fn y_title(spec: &FigureSpec, records: &[&Record]) -> String {
    let unit = records.first().map(|record| record.unit.clone()).unwrap_or_default();
    spec.y_title.clone().unwrap_or(unit)
}

/// The run, where several are shown, and the values of the series' parameters.
fn series_of(spec: &FigureSpec, record: &Record) -> String {
    let values = spec.series.iter().filter_map(|name| match record.parameters.get(name)? {
        Value::Text(text) => Some(text.clone()),
        other => Some(format!("{name} {other}")),
    });
    let run = (spec.runs.len() > 1).then(|| record.run.clone());
    run.into_iter().chain(values).collect::<Vec<_>>().join(", ")
}

fn number(record: &Record, name: &str) -> Option<f64> {
    record.parameters.get(name).and_then(Value::number)
}

/// Groups by a name, in the order of their first members.
fn grouped<'a>(records: &[&'a Record], name: impl Fn(&Record) -> String) -> Vec<(String, Vec<&'a Record>)> {
    let mut groups: Vec<(String, Vec<&'a Record>)> = Vec::new();
    for record in records {
        let own = name(record);
        match groups.iter_mut().find(|(known, _)| *known == own) {
            Some((_, list)) => list.push(record),
            None => groups.push((own, vec![record])),
        }
    }
    groups
}

fn lines(spec: &FigureSpec, records: &[&Record], subtitle: &str, stem: &Path) -> Result<Saved, ReportError> {
    let x = spec.x.as_deref().unwrap_or_default();
    let curve = |(name, list): (String, Vec<&Record>)| {
        let mut sorted: Vec<(f64, &Record)> =
            list.into_iter().filter_map(|record| Some((number(record, x)?, record))).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        Curve {
            name,
            predicted: sorted.iter().map(|(x, record)| (*x, record.predicted)).collect(),
            given: sorted.iter().filter_map(|(x, record)| Some((*x, record.published?))).collect(),
            labels: Vec::new(),
        }
    };
    let all: Vec<Curve> = grouped(records, |record| series_of(spec, record)).into_iter().map(curve).collect();
    let y_title = y_title(spec, records);
    let figure = Curves {
        title: &spec.title,
        subtitle,
        x_title: spec.x_title.as_deref().unwrap_or(x),
        y_title: &y_title,
        log_x: spec.log_x,
        log_y: spec.log_y,
        bytes: x.ends_with("bytes"),
        ideal: spec.ideal,
        given_name: "published",
        curves: &all,
    };
    save(stem, CURVES_SIZE, |canvas| curves(canvas, &figure))
}

fn bars(spec: &FigureSpec, records: &[&Record], subtitle: &str, stem: &Path) -> Result<Saved, ReportError> {
    let group_of = |record: &Record| match spec.x.as_ref().and_then(|x| record.parameters.get(x)) {
        Some(value) => value.to_string(),
        None => record.case.clone(),
    };
    let series: Vec<String> =
        grouped(records, |record| series_of(spec, record)).into_iter().map(|(name, _)| name).collect();
    let pair = |list: &[&Record], name: &String| {
        let found = list.iter().find(|record| series_of(spec, record) == *name);
        Pair { predicted: found.map(|record| record.predicted), given: found.and_then(|record| record.published) }
    };
    let group = |(name, list): (String, Vec<&Record>)| BarGroup {
        name,
        pairs: series.iter().map(|name| pair(&list, name)).collect(),
    };
    let groups: Vec<BarGroup> = grouped(records, group_of).into_iter().map(group).collect();
    let y_title = y_title(spec, records);
    let figure = GroupedBars {
        title: &spec.title,
        subtitle,
        y_title: &y_title,
        log_y: spec.log_y,
        given_name: "published",
        series: &series,
        groups: &groups,
    };
    let has_given = records.iter().any(|record| record.published.is_some());
    let bars = series.len() * if has_given { 2 } else { 1 };
    save(stem, grouped_bars_size(groups.len(), bars), |canvas| grouped_bars(canvas, &figure))
}

fn points(spec: &FigureSpec, records: &[&Record], stem: &Path) -> Result<Saved, ReportError> {
    let groups = grouped(records, |record| series_of(spec, record));
    let series: Vec<String> = groups.iter().map(|(name, _)| name.clone()).collect();
    let point = |series: usize| {
        move |record: &&Record| Some(FidelityPoint { predicted: record.predicted, measured: record.published?, series })
    };
    let points: Vec<FidelityPoint> =
        groups.iter().enumerate().flat_map(|(at, (_, list))| list.iter().filter_map(point(at))).collect();
    let mut errors: Vec<f64> = records.iter().filter_map(|record| record.relative_error()).map(f64::abs).collect();
    errors.sort_by(f64::total_cmp);
    let median = errors.get(errors.len() / 2).copied().unwrap_or_default();
    let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    let summary = format!("{} values · median error {:.1}% · mean {:.1}%", errors.len(), 100.0 * median, 100.0 * mean);
    let metric = format!("({})", y_title(spec, records));
    let figure = Fidelity { source: &spec.title, metric: &metric, summary: &summary, series: &series, points: &points };
    save(stem, FIDELITY_SIZE, |canvas| fidelity(canvas, &figure))
}

fn map(spec: &FigureSpec, records: &[&Record], subtitle: &str, stem: &Path) -> Result<Saved, ReportError> {
    let (x, y) = (spec.x.as_deref().unwrap_or_default(), spec.y.as_deref().unwrap_or_default());
    let name = |record: &Record, of: &str| record.parameters.get(of).map(ToString::to_string).unwrap_or_default();
    let names = |of: &str| -> Vec<String> {
        grouped(records, |record| name(record, of)).into_iter().map(|(name, _)| name).collect()
    };
    let (columns, rows) = (names(x), names(y));
    let at = |list: &[String], own: &str| list.iter().position(|known| known == own);
    let found: Vec<((usize, usize, f64), String)> = records
        .iter()
        .filter_map(|record| {
            let (column, row) = (at(&columns, &name(record, x))?, at(&rows, &name(record, y))?);
            Some(((column, row, record.predicted), short(record.predicted)))
        })
        .collect();
    let (cells, texts): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let figure = HeatMap {
        title: &spec.title,
        subtitle,
        x_title: spec.x_title.as_deref().unwrap_or(x),
        y_title: spec.y_title.as_deref().unwrap_or(y),
        columns: &columns,
        rows: &rows,
        cells: &cells,
        texts: &texts,
    };
    save(stem, heat_map_size(columns.len(), rows.len()), |canvas| heat_map(canvas, &figure))
}
