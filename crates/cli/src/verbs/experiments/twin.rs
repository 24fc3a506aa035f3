//! Scaled-down twins of experiments, executed on processor ranks: predicted beside measured.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Parser;
use cutplane_experiments::{Experiment, Twin};
use cutplane_record::Provenance;

use crate::verbs::compare::Compare;

/// The arguments of a comparison, read as on the command line.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    compare: Compare,
}

/// Compares the plans of every twin, and leaves records and figures in the experiment's folder. `named`: the user asked for
/// these experiments, so one without a twin is an error.
pub(super) fn run(experiments: &[Experiment], named: bool) -> Result<()> {
    let day = Provenance::capture().day().to_owned();
    let mut executed = 0;
    for experiment in experiments {
        let Some(twin) = &experiment.definition.twin else {
            if named {
                bail!("{}: the definition has no [twin]: nothing to execute", experiment.name);
            }
            continue;
        };
        println!("{}: {}", experiment.name, twin.says);
        let arguments = Arguments::try_parse_from(words(experiment, twin, &day))?;
        arguments.compare.run()?;
        executed += 1;
    }
    println!("{executed} twins executed");
    Ok(())
}

fn words(experiment: &Experiment, twin: &Twin, day: &str) -> Vec<String> {
    let folder = new_folder(experiment, day);
    let mut words = vec!["compare".to_owned(), twin.model.clone()];
    let mut option = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    option("devices", twin.devices.clone());
    option("batch", twin.batch.to_string());
    option("steps", twin.steps.to_string());
    option("seed", experiment.definition.seed.to_string());
    option("out", folder.display().to_string());
    if let Some(tokens) = twin.seq {
        option("seq", tokens.to_string());
    }
    option("plans", twin.plans.join(","));
    words
}

/// `twin/DAY`, or the first of `twin/DAY.01`, ... that is not there yet: what was measured is never overwritten.
fn new_folder(experiment: &Experiment, day: &str) -> PathBuf {
    let root = experiment.folder.join("twin");
    let first = root.join(day);
    let later = (1_u32..100).map(|number| root.join(format!("{day}.{number:02}")));
    std::iter::once(first).chain(later).find(|path| !path.exists()).unwrap_or_else(|| root.join("latest"))
}
