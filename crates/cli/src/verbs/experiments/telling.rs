//! How experiments are told: JSON, and lines for people.

use cutplane_experiments::{Executed, Experiment, Finished, TwinVerdict, judge_twin, record};
use cutplane_report::{Align, table};
use serde_json::{Value, json};

/// An experiment with its records and claims.
pub(super) fn as_json(experiment: &Experiment, finished: &Finished) -> Value {
    json!({
        "name": experiment.name,
        "title": experiment.definition.title,
        "question": experiment.definition.question,
        "definition": experiment.digest,
        "predicted_now": finished.predicted_now,
        "path": finished.path,
        "records": finished.records,
        "claims": finished.verdicts,
    })
}

/// One line, and one for each claim.
pub(super) fn told(experiment: &Experiment, finished: &Finished, figures: usize) -> String {
    let path = finished.path.as_ref().map(|path| format!("  {}", path.display())).unwrap_or_default();
    let drawn = if figures > 0 { format!(", {figures} figures") } else { String::new() };
    let mut text = format!(
        "{}: {} cases, {} predicted now{drawn}{path}\n",
        experiment.name,
        finished.records.len(),
        finished.predicted_now
    );
    for verdict in &finished.verdicts {
        let mark = match verdict.holds {
            Some(true) => "holds     ",
            Some(false) if verdict.disagreement.is_some() => "disagrees ",
            Some(false) => "FAILS     ",
            None => "not judged",
        };
        text.push_str(&format!("  {mark} {}: {}\n", verdict.says, verdict.detail));
    }
    text
}

/// Predicted beside published values.
pub(super) fn values(finished: &Finished) -> String {
    let rows: Vec<Vec<String>> = finished
        .records
        .iter()
        .map(|record| {
            let published = record.published.map(record::short).unwrap_or_default();
            let error = record.relative_error().map(|error| format!("{:+.1}%", 100.0 * error)).unwrap_or_default();
            let predicted = record::short(record.predicted);
            vec![record.run.clone(), record.case.clone(), record.unit.clone(), published, predicted, error]
        })
        .collect();
    let columns = [
        ("run", Align::Left),
        ("case", Align::Left),
        ("unit", Align::Left),
        ("published", Align::Right),
        ("predicted", Align::Right),
        ("error", Align::Right),
    ];
    format!("{}\n\n", table(&columns, &rows, None))
}

/// What a twin executed, with its claims.
pub(super) fn twin_as_json(experiment: &Experiment, executed: &Executed) -> Value {
    json!({
        "name": experiment.name,
        "path": executed.path,
        "day": executed.day,
        "commit": executed.commit,
        "plans": executed.plans,
        "median_error": executed.median_error(),
        "rank_correlation": executed.rank_correlation(),
        "claims": twin_verdicts(experiment, executed),
    })
}

fn twin_verdicts(experiment: &Experiment, executed: &Executed) -> Vec<TwinVerdict> {
    experiment.definition.twin.as_ref().map(|twin| judge_twin(twin, executed)).unwrap_or_default()
}

/// A table of the plans, a line of their errors, and one for each claim.
pub(super) fn twin_told(experiment: &Experiment, executed: &Executed) -> String {
    let ms = |seconds: f64| record::short(1e3 * seconds);
    let row = |plan: &cutplane_experiments::TwinTimes| {
        let (predicted, measured) = (ms(plan.predicted_step_s), ms(plan.measured_step_s));
        vec![plan.plan.clone(), predicted, measured, ms(plan.measured_mad_s), format!("{:+.1}%", 100.0 * plan.error())]
    };
    let rows: Vec<Vec<String>> = executed.plans.iter().map(row).collect();
    let columns = [
        ("plan", Align::Left),
        ("predicted ms", Align::Right),
        ("measured ms", Align::Right),
        ("spread ms", Align::Right),
        ("error", Align::Right),
    ];
    let mut text = format!(
        "{}: twin, {} plans, median error {:.1}%  {}\n{}\n",
        experiment.name,
        executed.plans.len(),
        100.0 * executed.median_error(),
        executed.path.display(),
        table(&columns, &rows, None)
    );
    for TwinVerdict { measured, predicted } in twin_verdicts(experiment, executed) {
        let word = |holds: Option<bool>| match holds {
            Some(true) => "holds",
            Some(false) => "does not hold",
            None => "is not judged",
        };
        let (says, detail) = (&measured.says, &measured.detail);
        text.push_str(&format!("  {says}: measured, it {} ({detail}); ", word(measured.holds)));
        text.push_str(&format!("predicted, it {} ({})\n", word(predicted.holds), predicted.detail));
    }
    text
}
