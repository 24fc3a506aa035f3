//! Scaled-down twins of experiments, executed on processor ranks: predicted beside measured.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use cutplane_experiments::{Experiment, Twin, draw_twin, executed, keep_executed};
use cutplane_graph::DeviceGraph;
use cutplane_record::{Provenance, read_profile};

use super::telling::{twin_as_json, twin_told};
use crate::output;
use crate::pricing::groups;
use crate::verbs::compare::Compare;

/// The arguments of a comparison, read as on the command line.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    compare: Compare,
}

/// Compares the plans of every twin. Records stay in the experiment's folder, traces and figures of each plan below `out`.
/// `named`: the user asked for these experiments, so one without a twin is an error.
pub(super) fn run(experiments: &[Experiment], named: bool, json: bool) -> Result<()> {
    let here = Provenance::capture();
    let mut measured_now = BTreeSet::new();
    let (mut all, mut count) = (Vec::new(), 0);
    for experiment in experiments {
        let Some(twin) = &experiment.definition.twin else {
            if named {
                bail!("{}: the definition has no [twin]: nothing to execute", experiment.name);
            }
            continue;
        };
        if !json {
            println!("{}: {}", experiment.name, twin.says);
        }
        // One measurement of the machine serves all twins on the same devices.
        let profile = measured_now.insert(twin.devices.clone()) && !has_fresh_profile(&twin.devices, &here)?;
        let folder = new_folder(&format!("twin-{}", experiment.name), here.day());
        let mut arguments = Arguments::try_parse_from(words(experiment, twin, &folder, profile))?;
        arguments.compare.quiet = true;
        arguments.compare.run().with_context(|| format!("the twin of {}", experiment.name))?;
        keep_executed(experiment, &folder.join("records.csv"))?;
        let kept = executed(experiment)?.with_context(|| {
            format!("{}: not all plans of the twin were measured; they are in {}", experiment.name, folder.display())
        })?;
        let figure = draw_twin(experiment, &kept)?;
        count += 1;
        if json {
            let mut told = twin_as_json(experiment, &kept);
            (told["figure"], told["folder"]) = (serde_json::json!(figure), serde_json::json!(folder));
            all.push(told);
        } else {
            println!("{}saved    {}, {}/\n", twin_told(experiment, &kept), figure.display(), folder.display());
        }
    }
    if json {
        return output::print_json(&serde_json::json!({ "executed": all }));
    }
    println!("{count} twins executed; `cutplane experiments page` tells of them");
    Ok(())
}

/// Whether the cache has a profile of every kind of device, of this day, host and commit, measured while no other program
/// disturbed it: a profile of another build or of a busy machine says nothing of the steps that are about to be measured.
fn has_fresh_profile(devices: &str, here: &Provenance) -> Result<bool> {
    let devices = DeviceGraph::build(cutplane_zoo::cluster(devices)?)?;
    for group in groups(&devices) {
        let path = group.cache_path()?;
        let Ok(profile) = read_profile(&path) else { return Ok(false) };
        let made = &profile.provenance;
        let same = made.day() == here.day() && made.host == here.host && made.commit == here.commit;
        if !same || !profile.notes.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn words(experiment: &Experiment, twin: &Twin, folder: &Path, profile: bool) -> Vec<String> {
    let mut words = vec!["compare".to_owned(), twin.model.clone()];
    let mut option = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    option("devices", twin.devices.clone());
    option("batch", twin.batch.to_string());
    option("steps", twin.steps.to_string());
    option("seed", experiment.definition.seed.to_string());
    option("out", folder.display().to_string());
    for (name, number) in [("seq", twin.seq), ("layers", twin.layers)] {
        if let Some(number) = number {
            option(name, number.to_string());
        }
    }
    option("plans", twin.plans.join(","));
    if profile {
        words.push("--fresh-profile".to_owned());
    }
    words
}

/// `out/DAY-NAME`, or the first of `out/DAY-NAME.01`, ... that is not there yet.
fn new_folder(name: &str, day: &str) -> PathBuf {
    let later = (1_u32..1000).map(|number| format!("{name}.{number:02}"));
    let names = std::iter::once(name.to_owned()).chain(later);
    let mut folders = names.map(|name| output::default_folder(None, day, &name));
    folders.find(|path| !path.exists()).unwrap_or_else(|| output::default_folder(None, day, "twin"))
}
