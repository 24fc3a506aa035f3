//! Plan files: read whole or refused by file and field, written whole or not at all.

use std::path::Path;

use crate::common::{cores, model, plan};
use cutplane_plan::{PLAN_VERSION, Plan, PlanFileError, PlanViolation, Schedule, read_plan, write_plan};

fn example() -> Plan {
    plan(&model(true), &cores(2, 1.0), &[0..2, 2..4], 1, Schedule::OneFOneB, 4)
}

/// Writes the example's JSON after `change` and reads it as a plan.
fn read_changed(change: impl FnOnce(String) -> String) -> Result<Plan, PlanFileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    std::fs::write(&path, change(serde_json::to_string_pretty(&example()).unwrap())).unwrap();
    read_plan(&path)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_plan_survives_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    write_plan(&path, &example()).unwrap();
    assert_eq!(read_plan(&path).unwrap(), example());
    assert_eq!(names(folder.path()), ["plan.json"]);
}

#[test]
fn another_version_is_refused_before_its_fields_are_read() {
    let error = read_changed(|_| r#"{"format": "cutplane-plan", "version": 99, "new_field": {}}"#.into()).unwrap_err();
    let expected = PlanViolation::Version { found: 99, expected: PLAN_VERSION };
    assert!(matches!(&error, PlanFileError::Version { violation, .. } if *violation == expected));
    let text = error.to_string();
    assert!(text.contains("plan.json: field 'version' is 99; this build reads version 2"), "{text}");
}

#[test]
fn another_format_is_refused() {
    let error = read_changed(|text| text.replace("cutplane-plan", "cutplane-device-profile")).unwrap_err();
    assert!(error.to_string().contains("field 'format' is 'cutplane-device-profile'"), "{error}");
}

#[test]
fn alien_and_truncated_files_are_refused() {
    let alien = read_changed(|_| r#"{"name": "left-pad", "private": true}"#.into()).unwrap_err();
    assert!(alien.to_string().contains("plan.json: not a plan: missing field `format`"), "{alien}");
    let text = read_changed(|_| "to be, or not to be".into()).unwrap_err();
    assert!(text.to_string().contains("plan.json: not a plan: expected"), "{text}");
    let cut = read_changed(|text| text[..text.len() / 2].to_owned()).unwrap_err();
    assert!(cut.to_string().contains("plan.json: not a plan: EOF"), "{cut}");
    let empty = read_changed(|_| String::new()).unwrap_err();
    assert!(matches!(empty, PlanFileError::Json { .. }));
}

#[test]
fn unknown_fields_and_wrong_types_are_named() {
    let unknown = read_changed(|text| text.replacen("\"schedule\"", "\"shedule\"", 1)).unwrap_err();
    assert!(unknown.to_string().contains("shedule"), "{unknown}");
    let negative = read_changed(|text| text.replacen("\"micro_batches\": 4", "\"micro_batches\": -4", 1)).unwrap_err();
    assert!(negative.to_string().contains("invalid value: integer `-4`"), "{negative}");
    let schedule = read_changed(|text| text.replacen("1f1b", "2f2b", 1)).unwrap_err();
    assert!(schedule.to_string().contains("unknown variant `2f2b`"), "{schedule}");
    let ops = read_changed(|text| text.replacen("\"0-1\"", "\"1-0\"", 1)).unwrap_err();
    assert!(ops.to_string().contains("ranges must be ascending"), "{ops}");
}

#[test]
fn a_missing_file_is_named() {
    let error = read_plan(Path::new("/no/such/plan.json")).unwrap_err();
    assert!(error.to_string().starts_with("/no/such/plan.json: cannot read"), "{error}");
}

#[test]
fn an_unwritable_place_is_refused_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |path: &Path| {
        let error = write_plan(path, &example()).unwrap_err();
        assert!(matches!(error, PlanFileError::Io { action: "write", .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("{}: cannot write", path.display())), "{error}");
    };
    refuse(&folder.path().join("no-such-folder/plan.json"));
    assert_eq!(names(folder.path()), Vec::<String>::new());
    // The place of the file is taken by a folder: the rename fails after everything was written.
    let taken = folder.path().join("plan.json");
    std::fs::create_dir(&taken).unwrap();
    refuse(&taken);
    assert_eq!(names(folder.path()), ["plan.json"]);
    assert_eq!(names(&taken), Vec::<String>::new());
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    refuse(&file.join("plan.json"));
    assert_eq!(names(folder.path()), ["file", "plan.json"]);
}

#[test]
fn a_second_write_replaces_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    write_plan(&path, &example()).unwrap();
    let mut longer = example();
    longer.name = "second".into();
    write_plan(&path, &longer).unwrap();
    assert_eq!(read_plan(&path).unwrap().name, "second");
    assert_eq!(names(folder.path()), ["plan.json"]);
}
