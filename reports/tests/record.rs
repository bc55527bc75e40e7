//! Records as files: what is written is read back, and what is not ours is refused by name.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::path::Path;

use reports::{RecordError, RunRecord};
use synthetic::{FOUR, THREE, run};

#[test]
fn a_record_reads_back_equal() -> Result<(), RecordError> {
    let record = run(&THREE, &FOUR[0], 7);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join(record.file_name());
    record.write(&path)?;
    assert_eq!(RunRecord::read(&path)?, record);
    assert_eq!(record.file_name(), "gray-failure--round_robin--seed-7.json");
    assert_eq!(record.to_json()?, run(&THREE, &FOUR[0], 7).to_json()?);
    Ok(())
}

#[test]
fn another_schema_is_refused_with_both_versions_and_the_file() -> Result<(), RecordError> {
    let mut record = run(&THREE, &FOUR[0], 1);
    record.schema = "meshbench.run/2".to_owned();
    let json = record.to_json()?;
    // A field of the future must not hide that it is the version that differs.
    let json = json.replacen('{', "{ \"novelty\": 1,", 1);
    let error = RunRecord::from_json(&json, Path::new("old/a.json")).expect_err("another schema");
    insta::assert_snapshot!(error, @"old/a.json: the record has schema `meshbench.run/2`, this build reads `meshbench.run/1`; run the scenario again, or read the record with the meshbench that wrote it");
    Ok(())
}

#[test]
fn what_is_no_record_is_refused_with_the_place() -> Result<(), RecordError> {
    let error = RunRecord::from_json("{\"a\": 1}", Path::new("b.json")).expect_err("no record");
    assert!(matches!(error, RecordError::Malformed { .. }));
    assert!(error.to_string().starts_with("b.json: not a run record: missing field `schema`"));
    let json = run(&THREE, &FOUR[0], 1).to_json()?;
    let json = json.replacen("\"seed\"", "\"sede\"", 1);
    let error = RunRecord::from_json(&json, Path::new("b.json")).expect_err("a field misspelt");
    assert!(error.to_string().contains("unknown field `sede`"), "{error}");
    let error = RunRecord::read(Path::new("does/not/exist.json")).expect_err("no file");
    assert!(matches!(error, RecordError::Io { .. }));
    Ok(())
}

#[test]
fn a_rate_that_is_no_number_is_refused() {
    let mut record = run(&THREE, &FOUR[0], 1);
    record.plan.rate_per_s = f64::NAN;
    assert!(matches!(record.validate(Path::new("a")), Err(RecordError::Rate { .. })));
}
