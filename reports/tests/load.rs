//! Folders of records: what is well is read, what is not is named.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::{Path, PathBuf};

use reports::{LoadError, RunRecord, Skipped, load};
use synthetic::{FOUR, Model, THREE, run};

const SMALL: Model = Model { rate: 10, ..THREE };

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
}

fn json(record: &RunRecord) -> String {
    record.to_json().expect("a record")
}

/// The reasons without the folder, which has another name each time.
fn reasons(skipped: &[Skipped], dir: &Path) -> String {
    let dir = format!("{}/", dir.display());
    skipped.iter().map(|s| s.reason.replace(&dir, "") + "\n").collect()
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_loaded() -> Result<(), LoadError> {
    let dir = tempfile::tempdir().expect("a folder");
    let well = run(&SMALL, &FOUR[0], 1);
    write(dir.path(), "one/records/a.json", &json(&well));
    write(dir.path(), "two/b.json", &json(&run(&SMALL, &FOUR[0], 2)));
    write(dir.path(), "two/old.json", include_str!("data/schema-1.json"));
    // Copied together from two machines: the same run once more, and another that claims to be it.
    write(dir.path(), "two/copy.json", &json(&well));
    let mut other = well.clone();
    other.trace_hash = None;
    write(dir.path(), "two/other.json", &json(&other));
    write(dir.path(), "two/cut-off.json", &json(&well)[..2000]);
    write(dir.path(), "two/empty.json", "");
    write(dir.path(), "two/newer.json", &json(&well).replace("run/2", "run/9"));
    write(dir.path(), "two/alien.json", "{\"name\": \"package\"}");
    write(dir.path(), "two/notes.txt", "no record, and nobody said so");
    let damaged = json(&well).replacen("\"HISTF", "\"HISTX", 1);
    write(dir.path(), "two/damaged.json", &damaged);

    let loaded = load(&[dir.path().to_owned()])?;
    let seeds: Vec<u64> = loaded.records.iter().map(|record| record.seed).collect();
    assert_eq!(seeds, [1, 2, 1]);
    insta::assert_snapshot!(reasons(&loaded.skipped, dir.path()));
    Ok(())
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let missing = PathBuf::from("not/there");
    let error = load(&[missing]).expect_err("nothing there");
    assert!(error.to_string().starts_with("not/there: "), "{error}");
}

#[test]
fn a_record_may_be_named_itself() -> Result<(), LoadError> {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "a.json", &json(&run(&SMALL, &FOUR[0], 1)));
    let loaded = load(&[dir.path().join("a.json"), dir.path().to_owned()])?;
    assert_eq!((loaded.records.len(), loaded.skipped.len()), (1, 0));
    Ok(())
}
