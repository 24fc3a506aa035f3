//! Running experiments.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cutplane_record::Provenance;

use crate::cases::{Case, Size, cases};
use crate::claim::Verdict;
use crate::definition::{Experiment, Run};
use crate::error::ExperimentError;
use crate::kinds::{Answer, Ask, Kind};
use crate::record::{Record, Recorder};
use crate::value::Parameters;

/// What became of an experiment.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its records.
    pub records: Vec<Record>,
    /// Of these, how many were predicted now rather than read.
    pub predicted_now: usize,
    /// Its claims, in the order of the definition.
    pub verdicts: Vec<Verdict>,
    /// Where the records are; `None` when nothing was written.
    pub path: Option<PathBuf>,
}

/// Called after each case, with how many there are.
pub type Progress<'a> = &'a dyn Fn(usize, usize, &Record);

/// Predicts all cases that are not recorded yet, appends them to the records and judges the claims.
///
/// # Errors
/// [`ExperimentError`]; what was recorded before it stays, and the next run goes on there.
pub fn run(experiment: &Experiment, again: bool, progress: Progress<'_>) -> Result<Finished, ExperimentError> {
    let mut recorder = Recorder::open(experiment, Provenance::capture(), again)?;
    let mut now = 0;
    let all = all_cases(experiment, Size::Full)?;
    let count = all.len();
    let predictor = Predictor::new(experiment)?;
    let mut known = HashMap::new();
    for (at, (run, case)) in all.into_iter().enumerate() {
        if !recorder.has(&run.name, &case.label()) {
            let record = predictor.record(run, &case, &mut known)?;
            progress(at + 1, count, &record);
            recorder.append(record)?;
            now += 1;
        }
    }
    let records = recorder.records().to_vec();
    let verdicts = judge(experiment, &records);
    Ok(Finished { records, predicted_now: now, verdicts, path: Some(recorder.path().to_owned()) })
}

/// Predicts the smallest cases and judges the claims on them; nothing is written.
///
/// # Errors
/// [`ExperimentError`].
pub fn check(experiment: &Experiment, size: Size) -> Result<Finished, ExperimentError> {
    let predictor = Predictor::new(experiment)?;
    let mut known = HashMap::new();
    let found = all_cases(experiment, size)?;
    let records: Result<Vec<Record>, _> =
        found.iter().map(|(run, case)| predictor.record(run, case, &mut known)).collect();
    let records = records?;
    Ok(Finished { verdicts: judge(experiment, &records), predicted_now: records.len(), records, path: None })
}

/// Judges the claims of an experiment on records.
pub fn judge(experiment: &Experiment, records: &[Record]) -> Vec<Verdict> {
    experiment.definition.claims.iter().map(|claim| claim.judge(records)).collect()
}

fn all_cases(experiment: &Experiment, size: Size) -> Result<Vec<(&Run, Case)>, ExperimentError> {
    let mut all = Vec::new();
    for run in &experiment.definition.runs {
        all.extend(cases(experiment, run, size)?.into_iter().map(|case| (run, case)));
    }
    Ok(all)
}

/// Answers by the parameters of their question: base cases of relative values recur.
type Known = HashMap<String, Answer>;

struct Predictor<'a> {
    experiment: &'a Experiment,
    folders: Vec<PathBuf>,
}

impl<'a> Predictor<'a> {
    fn new(experiment: &'a Experiment) -> Result<Self, ExperimentError> {
        let root = experiment.folder.parent().unwrap_or(Path::new("."));
        let mut folders = vec![experiment.folder.clone()];
        if let Some(needs) = &experiment.definition.needs {
            folders.extend(needs.folders.iter().map(|folder| root.join(folder)));
            if !folders.iter().any(|folder| folder.join(&needs.file).exists()) {
                return Err(ExperimentError::Absent {
                    experiment: experiment.name.clone(),
                    file: needs.file.display().to_string(),
                    from: needs.from.clone(),
                    into: folders.last().map(|folder| folder.display().to_string()).unwrap_or_default(),
                });
            }
        }
        Ok(Self { experiment, folders })
    }

    fn record(&self, run: &Run, case: &Case, known: &mut Known) -> Result<Record, ExperimentError> {
        let kind = self.experiment.kind(run)?;
        let answer = self.relative(kind, run, case, known).map_err(|problem| ExperimentError::Case {
            experiment: self.experiment.name.clone(),
            run: run.name.clone(),
            case: case.label(),
            problem,
        })?;
        let own = kind.metrics().into_iter().find(|metric| metric.name == run.metric);
        let of_row = || case.parameters.get("metric_unit").map(ToString::to_string);
        let of_metric = || own.map(|metric| metric.unit).filter(|unit| !unit.is_empty()).map(str::to_owned);
        let unit = run.unit.clone().or_else(of_metric).or_else(of_row).unwrap_or_else(|| "-".to_owned());
        Ok(Record {
            run: run.name.clone(),
            case: case.label(),
            metric: run.metric.clone(),
            unit,
            predicted: answer.value,
            low: answer.low,
            high: answer.high,
            published: case.published.as_ref().map(|(value, _)| *value),
            basis: answer.basis,
            parameters: case.varying.clone(),
        })
    }

    fn relative(&self, kind: &dyn Kind, run: &Run, case: &Case, known: &mut Known) -> Result<Answer, String> {
        let own = self.answer(kind, run, &case.parameters, known)?;
        let Some(relative) = &run.relative else { return Ok(own) };
        let mut base = case.parameters.clone();
        base.extend(relative.to.clone());
        let other = self.answer(kind, run, &base, known)?;
        let ratio = if relative.inverted { other.value / own.value } else { own.value / other.value };
        let per = relative.per.as_ref().map_or(Ok(1.0), |name| {
            let number = |parameters: &Parameters| parameters.get(name).and_then(crate::value::Value::number);
            number(&case.parameters)
                .zip(number(&base))
                .map(|(own, base)| own / base)
                .ok_or_else(|| format!("'{name}' of 'relative.per' is no number of this case"))
        })?;
        Ok(Answer { value: ratio / per, low: None, high: None, basis: own.basis })
    }

    fn answer(&self, kind: &dyn Kind, run: &Run, parameters: &Parameters, known: &mut Known) -> Result<Answer, String> {
        let key = format!("{} {} {parameters:?}", run.kind, run.metric);
        if let Some(answer) = known.get(&key) {
            return Ok(answer.clone());
        }
        let ask = Ask { parameters, folders: &self.folders, seed: self.experiment.definition.seed };
        let answer = kind.answer(&run.metric, &ask)?;
        if !answer.value.is_finite() {
            return Err(format!("the prediction is {}: its parameters leave the range of the model", answer.value));
        }
        known.insert(key, answer.clone());
        Ok(answer)
    }
}
