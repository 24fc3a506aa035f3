//! Whatever is wrong with a definition, a table or a record is refused by name.

use std::fs;
use std::path::Path;

use cutplane_experiments::{Experiment, Size, check, record, run};
use tempfile::TempDir;

const DEFINITION: &str = r#"
title = "Ring"
question = "How long?"
analysis = "It grows."

[paper]
title = "A paper"
venue = "A venue"
link = "https://example.org"
place = "Table 1"

[[run]]
name = "ring"
kind = "collective"
metric = "seconds"
published = "published.csv"
[run.fixed]
algorithm = "ring"
bytes = 1e8
gb_per_s = 1.25
[run.sweep]
ranks = [2, 4, 8]

[[claim]]
says = "Eight ranks take 140 ms"
run = "ring"
where = { ranks = 8 }
check = { equals = { value = 0.14, within = 0.001 } }

[[figure]]
name = "ring"
title = "Ring"
runs = ["ring"]
form = "lines"
x = "ranks"
"#;

const TABLE: &str = "ranks,published,citation\n4,0.12,a table\n";

/// An experiment on disk, with texts replaced in its definition and its table.
fn folder(definition: (&str, &str), table: (&str, &str)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    assert!(DEFINITION.contains(definition.0) && TABLE.contains(table.0), "the replaced text is there");
    fs::write(folder.path().join("definition.toml"), DEFINITION.replace(definition.0, definition.1)).unwrap();
    fs::write(folder.path().join("published.csv"), TABLE.replace(table.0, table.1)).unwrap();
    folder
}

/// What reading, checking and running say.
fn refusal(folder: &Path) -> String {
    let tried = Experiment::read(folder).and_then(|experiment| check(&experiment, Size::Full));
    tried.expect_err("it is refused").to_string()
}

#[test]
fn a_wrong_definition_names_what_is_wrong() {
    let cases = [
        (("question =", "qestion ="), "qestion"),
        (("kind = \"collective\"", "kind = \"colective\""), "'colective' is not known; there are row"),
        (("metric = \"seconds\"", "metric = \"hours\""), "'hours' is no metric of kind 'collective'"),
        (("gb_per_s = 1.25", "gbps = 1.25"), "no parameter of that name"),
        (("algorithm = \"ring\"", "algorithm = \"rings\""), "'algorithm' is 'rings'"),
        (("gb_per_s = 1.25\n", ""), "'gb_per_s' is missing"),
        (("ranks = [2, 4, 8]", "ranks = [2, 4, 4]"), "'ranks 4' stands there twice"),
        (("run = \"ring\"", "run = \"wring\""), "run 'wring' is not known; there are ring"),
        (("runs = [\"ring\"]", "runs = [\"king\"]"), "figure 'ring': run 'king' is not known"),
        (("where = { ranks = 8 }", "when = { ranks = 8 }"), "when"),
        (("equals = {", "equal = {"), "equal"),
        (
            ("published = \"published.csv\"", "published = \"absent.csv\""),
            "run 'ring': published: the table 'absent.csv'",
        ),
    ];
    for (replaced, wanted) in cases {
        let folder = folder(replaced, ("ranks", "ranks"));
        let error = refusal(folder.path());
        assert!(error.contains(wanted), "{replaced:?}: {error}");
    }
}

#[test]
fn a_wrong_table_names_column_and_line() {
    let cases = [
        (("ranks,", "rnks,"), "column 'rnks'"),
        (("published,", "printed,"), "column 'published'"),
        (("0.12", "twelve"), "line 2: column 'published': 'twelve' is no number"),
        (("4,", "5,"), "belongs to no case"),
        (("4,0.12,a table\n", ""), "no rows"),
    ];
    for (replaced, wanted) in cases {
        let folder = folder(("title", "title"), replaced);
        let error = refusal(folder.path());
        assert!(error.contains(wanted), "{replaced:?}: {error}");
    }
}

#[test]
fn unknown_models_and_systems_are_named() {
    let row = r#"kind = "row"
metric = "value"
[run.fixed]
model = "resnet-5000"
hardware = "V100-SXM2-16GB"
gpus = 1
micro_batch = 32
framework = "PyTorch"
precision = "fp32"
metric_name = "training throughput"
metric_unit = "images/s"
"#;
    let start = DEFINITION.find("kind = \"collective\"").unwrap();
    let end = DEFINITION.find("[[claim]]").unwrap();
    let old = &DEFINITION[start..end];
    for (text, wanted) in [
        (row.to_owned(), "resnet-5000"),
        (row.replace("resnet-5000", "ResNet-50").replace("V100-SXM2-16GB", "Z9"), "Z9"),
    ] {
        let error = refusal(folder((old, &text), ("ranks", "ranks")).path());
        assert!(error.contains(wanted) && error.contains("run 'ring'"), "{error}");
    }
    let plan =
        "kind = \"plan\"\nmetric = \"step_s\"\n[run.fixed]\nmodel = \"gpt-nano\"\nplan = \"single\"\nbatch = 8\n";
    let error = refusal(folder((old, &format!("{plan}cluster = \"v900:2\"\n")), ("ranks", "ranks")).path());
    assert!(error.contains("v900"), "{error}");
}

#[test]
fn an_interrupted_run_goes_on_and_a_doubled_record_is_refused() {
    let folder = folder(("title", "title"), ("ranks", "ranks"));
    let experiment = Experiment::read(folder.path()).unwrap();
    let finished = run(&experiment, false, &|_, _, _| {}).unwrap();
    let path = finished.path.unwrap();
    assert_eq!((finished.records.len(), finished.predicted_now), (3, 3));
    assert_eq!(finished.verdicts[0].holds, Some(true));

    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    // Killed in the middle of the second record: its line was not written to the end.
    fs::write(&path, format!("{}\n{}\n{}", lines[0], lines[1], &lines[2][..20])).unwrap();
    let resumed = run(&experiment, false, &|_, _, _| {}).unwrap();
    assert_eq!((resumed.records.len(), resumed.predicted_now), (3, 2));
    assert_eq!(resumed.records, finished.records);
    assert_eq!(run(&experiment, false, &|_, _, _| {}).unwrap().predicted_now, 0);

    let again = run(&experiment, true, &|_, _, _| {}).unwrap();
    assert!(again.predicted_now == 3 && again.path.as_deref() != Some(path.as_path()), "recorded anew beside the old");

    fs::write(&path, format!("{whole}{}\n", lines[2])).unwrap();
    let error = record::read(&path).unwrap_err().to_string();
    assert!(error.contains("line 5") && error.contains("ranks 4") && error.contains("first in line 3"), "{error}");
}
