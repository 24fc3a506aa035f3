//! From a run to its cases: the cartesian product of its lists, or the rows of its table.

use crate::definition::{Experiment, Run};
use crate::error::ExperimentError;
use crate::published::{self, Published};
use crate::value::{Parameters, label, matches};

/// Which cases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// All.
    Full,
    /// Those that the definition calls smallest; all where it names none.
    Smallest,
}

/// One question.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// All parameters.
    pub parameters: Parameters,
    /// Those that tell it from the other cases of its run.
    pub varying: Parameters,
    /// What was published, and where.
    pub published: Option<(f64, String)>,
}

impl Case {
    /// The case in a line.
    pub fn label(&self) -> String {
        if self.varying.is_empty() { "the only case".to_owned() } else { label(&self.varying) }
    }
}

/// The cases of a run, in the order of its lists.
///
/// # Errors
/// [`ExperimentError`]: a table that cannot be read; two cases alike; a published value that belongs to no case.
pub fn cases(experiment: &Experiment, run: &Run, size: Size) -> Result<Vec<Case>, ExperimentError> {
    let table = published::read(experiment, run)?;
    let starts: Vec<(Parameters, Option<&Published>)> = match (run.cases_from_published, run.cases.is_empty()) {
        (true, _) => table.iter().map(|row| (row.parameters.clone(), Some(row))).collect(),
        (false, true) => vec![(Parameters::new(), None)],
        (false, false) => run.cases.iter().map(|case| (case.clone(), None)).collect(),
    };
    let mut found = Vec::new();
    for (start, row) in starts {
        for swept in product(run) {
            let mut varying = start.clone();
            varying.extend(swept);
            let mut parameters = run.fixed.clone();
            parameters.extend(varying.clone());
            let row = row.or_else(|| table.iter().find(|row| matches(&parameters, &row.parameters)));
            let published = row.map(|row| (row.value, row.citation.clone()));
            found.push(Case { parameters, varying, published });
        }
    }
    check(experiment, run, &table, &found)?;
    name(experiment, run, &mut found)?;
    let wanted = |case: &Case| {
        run.smallest.iter().all(|(name, values)| case.parameters.get(name).is_some_and(|own| values.contains(own)))
    };
    if size == Size::Smallest {
        found.retain(wanted);
        if found.is_empty() {
            let field = format!("run '{}': smallest", run.name);
            return Err(ExperimentError::field(&experiment.path(), field, "no case is left: name values of the run"));
        }
    }
    Ok(found)
}

/// All combinations of the swept lists, the last name turning fastest.
fn product(run: &Run) -> Vec<Parameters> {
    run.sweep.iter().fold(vec![Parameters::new()], |so_far, (name, values)| {
        let with = |before: &Parameters| -> Vec<Parameters> {
            let one = |value: &crate::value::Value| {
                let mut case = before.clone();
                case.insert(name.clone(), value.clone());
                case
            };
            values.iter().map(one).collect()
        };
        so_far.iter().flat_map(with).collect()
    })
}

fn check(experiment: &Experiment, run: &Run, table: &[Published], found: &[Case]) -> Result<(), ExperimentError> {
    let refuse =
        |problem: String| Err(ExperimentError::field(&experiment.path(), format!("run '{}'", run.name), problem));
    for (at, case) in found.iter().enumerate() {
        if found[..at].iter().any(|before| before.parameters == case.parameters) {
            return refuse(format!("case '{}' stands there twice: remove one", case.label()));
        }
    }
    let alone = table.iter().find(|row| !found.iter().any(|case| matches(&case.parameters, &row.parameters)));
    match alone {
        Some(row) => refuse(format!(
            "the published value {} for '{}' belongs to no case: sweep over its parameters",
            row.value,
            label(&row.parameters)
        )),
        None => Ok(()),
    }
}

/// Leaves of the names of cases what tells them apart: the run's keys, or all that varies.
fn name(experiment: &Experiment, run: &Run, cases: &mut [Case]) -> Result<(), ExperimentError> {
    let Some(keys) = &run.keys else {
        shorten(cases);
        return Ok(());
    };
    for case in cases.iter_mut() {
        case.varying = case.parameters.clone();
        case.varying.retain(|name, _| keys.contains(name));
    }
    let twice = (1..cases.len()).find(|at| cases[..*at].iter().any(|before| before.varying == cases[*at].varying));
    twice.map_or(Ok(()), |at| {
        let problem =
            format!("several cases are called '{}': add the parameter that they differ in", cases[at].label());
        Err(ExperimentError::field(&experiment.path(), format!("run '{}': keys", run.name), problem))
    })
}

fn shorten(cases: &mut [Case]) {
    let Some(first) = cases.first().filter(|_| cases.len() > 1).map(|case| case.varying.clone()) else { return };
    let is_shared = |(name, value): &(&String, &crate::value::Value)| {
        cases.iter().all(|case| case.varying.get(*name) == Some(value))
    };
    let shared: Vec<String> = first.iter().filter(is_shared).map(|(name, _)| name.clone()).collect();
    for case in cases {
        case.varying.retain(|name, _| !shared.contains(name));
    }
}
