//! What twins executed: kept, read back, judged and told.

use std::path::{Path, PathBuf};

use cutplane_experiments::{Experiment, Told, draw_twin, executed, judge_twin, keep_executed, page};

const DEFINITION: &str = r#"
title = "t"
question = "q"
analysis = "a"
[paper]
title = "p"
venue = "v"
link = "l"
place = "figure 1"
[twin]
model = "gpt-nano"
devices = "cpu:2"
plans = ["single", "dp2"]
batch = 8
says = "two cores are faster"
[[twin.claim]]
says = "data parallelism gains"
check = { ratio = { of = { plan = "single" }, over = { plan = "dp2" }, at_least = 1.5 } }
"#;

const HEADER: &str = "experiment,case,source,plan_digest,model,parameters,devices,global_batch,sequence_length,precision,n,\
median_ns,mad_ns,min_ns,max_ns,peak_memory_bytes,loss,seed,backend,date,tool_version,commit,host,cpu_model,error";

fn row(case: &str, source: &str, batch: u64, ms: u64) -> String {
    format!(
        "compare,{case},{source},d,gpt-nano,1,cpu:2,{batch},64,f32,3,{0}.0,0.0,{0}.0,{0}.0,1048576,,0,b,\
         2026-11-23T20:00:00Z,0.1.0,c0ffee,h,EPYC,",
        ms * 1_000_000
    )
}

fn experiment(folder: &Path) -> Experiment {
    std::fs::write(folder.join("definition.toml"), DEFINITION).unwrap();
    Experiment::read(folder).unwrap()
}

fn table(folder: &Path, rows: &[String]) -> PathBuf {
    let path = folder.join("measured.csv");
    std::fs::write(&path, format!("{HEADER}\n{}\n", rows.join("\n"))).unwrap();
    path
}

#[test]
fn the_newest_record_of_all_plans_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(folder.path());
    assert_eq!(executed(&experiment).unwrap(), None);
    let both = |batch: u64, dp2: u64| {
        let of = |case: &str, ms: u64| [row(case, "predicted", batch, ms), row(case, "measured", batch, ms + 1)];
        [of("single", 20), of("dp2", dp2)].concat()
    };
    let first = keep_executed(&experiment, &table(folder.path(), &both(8, 10))).unwrap();
    let second = keep_executed(&experiment, &table(folder.path(), &both(8, 16))).unwrap();
    assert_eq!(first.file_name().unwrap(), "2026-11-23.csv");
    assert_eq!(second.file_name().unwrap(), "2026-11-23.01.csv");
    // Another batch, and a record that lacks a plan, are not of this twin.
    keep_executed(&experiment, &table(folder.path(), &both(4, 10))).unwrap();
    keep_executed(&experiment, &table(folder.path(), &both(8, 10)[..2])).unwrap();
    let found = executed(&experiment).unwrap().expect("a record");
    assert_eq!(found.path, second);
    assert_eq!((found.plans.len(), found.commit.as_str(), found.day.as_str()), (2, "c0ffee", "2026-11-23"));
    assert!((found.plans[1].error() - (16.0 / 17.0 - 1.0)).abs() < 1e-12 && found.median_error() > 0.0);

    let verdict = judge_twin(experiment.definition.twin.as_ref().unwrap(), &found).remove(0);
    assert_eq!((verdict.measured.holds, verdict.predicted.holds), (Some(false), Some(false)));
    assert!(verdict.measured.detail.starts_with("ratio 1.235"), "{}", verdict.measured.detail);

    let drawn = draw_twin(&experiment, &found).unwrap();
    assert!(std::fs::read_to_string(&drawn).unwrap().contains("dp2") && drawn.ends_with("figures/twin.svg"));
    let told = page(&[Told { experiment, file: None, executed: Some(found) }], "x", "command");
    for wanted in [
        "| dp2 | 16 ms | 17 ms | 0 ms | -5.9% | 1 MiB | 1 MiB |",
        "2 plans, 5.3%",
        "**does not hold** data parallelism",
    ] {
        assert!(told.contains(wanted), "{wanted} is not in\n{told}");
    }
}

#[test]
fn a_twin_without_a_measurement_is_told_with_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(folder.path());
    let name = experiment.name.clone();
    let told = page(&[Told { experiment, file: None, executed: None }], "x", "command");
    assert!(told.contains("| not yet |") && told.contains(&format!("run {name} --execute`")), "{told}");
}
