//! Records as files: what is written is read back, and what is not ours is refused by name.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::path::Path;

use reports::record::WarningKind;
use reports::{RecordError, RunRecord};
use synthetic::{ELEVEN, FOUR, THREE, run};

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
    record.schema = "meshbench.run/3".to_owned();
    let json = record.to_json()?;
    // A field of the future must not hide that it is the version that differs.
    let json = json.replacen('{', "{ \"novelty\": 1,", 1);
    let error = RunRecord::from_json(&json, Path::new("new/a.json")).expect_err("another schema");
    insta::assert_snapshot!(error, @"new/a.json: the record has schema `meshbench.run/3`, this build reads `meshbench.run/2` and `meshbench.run/1`; read it with the meshbench that wrote it, or run the scenario again");
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

/// Written by meshbench as it was when schema 1 was the only one.
const SCHEMA_1: &str = include_str!("data/schema-1.json");

#[test]
fn a_record_of_schema_1_is_converted_and_says_what_it_lacks() -> Result<(), RecordError> {
    let record = RunRecord::from_json(SCHEMA_1, Path::new("old.json"))?;
    assert_eq!(record.schema, reports::record::SCHEMA);
    assert_eq!((record.accounting.planned, record.accounting.ok), (3, 2));
    assert_eq!(record.latency.response.count(), 3);
    let web = &record.endpoints[0];
    assert_eq!(
        (web.series.arrived.as_slice(), web.series.ok.as_slice()),
        (&[2, 1][..], &[2, 0][..])
    );
    // What was not written down is absent, and not zero.
    assert_eq!((web.busy_us, web.series.busy_us.len()), (None, 0));
    assert!(record.intervals.iter().all(|i| i.response.is_none() && i.throughput.is_none()));
    let kinds: Vec<_> = record.warnings.iter().map(|w| w.kind).collect();
    assert_eq!(kinds, [WarningKind::Other, WarningKind::EarlierSchema]);
    // It is written as what this build writes, and read back.
    assert_eq!(RunRecord::from_json(&record.to_json()?, Path::new("new.json"))?, record);
    Ok(())
}

#[test]
fn a_record_with_series_of_another_length_is_refused() -> Result<(), RecordError> {
    let mut record = run(&THREE, &FOUR[0], 1);
    record.endpoints[1].series.busy_us.pop();
    let error = RunRecord::from_json(&record.to_json()?, Path::new("a.json")).expect_err("damaged");
    insta::assert_snapshot!(error, @"a.json: the series of web-1 are not of one value for each of the 30 intervals; the record is damaged");
    Ok(())
}

#[test]
fn a_record_is_small_and_has_a_line_for_each_interval() -> Result<(), RecordError> {
    let json = run(&ELEVEN, &FOUR[0], 1).to_json()?;
    assert!(json.len() < 200_000, "{} bytes", json.len());
    assert_eq!(json.lines().filter(|line| line.contains("\"length_ms\"")).count(), 60);
    Ok(())
}
