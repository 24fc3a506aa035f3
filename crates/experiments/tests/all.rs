//! Every experiment of the project: its definition is sound, its smallest size can be predicted, its claims are judged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cutplane_experiments::{ExperimentError, Size, check, draw, experiments, record};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../paper-experiments")
}

#[test]
fn every_definition_runs_at_its_smallest_size_and_every_claim_is_judged_or_explained() {
    let all = experiments(&root()).unwrap();
    assert!(all.len() >= 20, "{} experiments", all.len());
    for experiment in &all {
        // Searches of minutes on downloaded files: `cutplane experiments check` runs them.
        if let Some(needs) = &experiment.definition.needs {
            println!("left out {}: needs {}", experiment.name, needs.from);
            continue;
        }
        let finished = match check(experiment, Size::Smallest) {
            Err(ExperimentError::Absent { .. }) => continue,
            other => other.unwrap(),
        };
        assert!(!finished.records.is_empty(), "{}: no cases", experiment.name);
        assert!(!finished.verdicts.is_empty(), "{}: no claims", experiment.name);
        let cited: BTreeSet<&str> = finished.records.iter().map(|record| record.basis.as_str()).collect();
        assert!(cited.iter().any(|basis| !basis.is_empty()), "{}: says nothing of its basis", experiment.name);
    }
}

#[test]
fn every_experiment_has_records_of_its_definition() {
    for experiment in experiments(&root()).unwrap() {
        let file = record::latest(&experiment).unwrap();
        assert!(file.is_some(), "{}: run 'cutplane experiments run {0}'", experiment.name);
    }
}

#[test]
fn figures_of_every_form_are_drawn_from_records_alone() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["zero-memory", "korthikanti-layer-times", "vtrain-multi-node"] {
        let mut experiment = cutplane_experiments::experiment(&root(), name).unwrap();
        let file = record::latest(&experiment).unwrap().expect("records");
        experiment.folder = folder.path().join(name);
        let drawn = draw(&experiment, &file).unwrap();
        assert_eq!(drawn.len(), experiment.definition.figures.len(), "{name}");
        let text = std::fs::read_to_string(&drawn[0]).unwrap();
        assert!(text.contains("<svg") && text.contains("predicted"), "{name}");
    }
}
