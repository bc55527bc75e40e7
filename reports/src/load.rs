//! Records from files and folders: what can be read, and by name what cannot.
//!
//! A folder of records of several machines and days is seldom all well: a copy was cut off, a file
//! is of a newer meshbench. That must not cost the report of the others, nor go unnoticed, so what
//! cannot be read is skipped, and said at the top of whatever is made of the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::record::RunRecord;

/// Files that are read at most: ten times what one command of the runner makes.
const MOST_FILES: usize = 100_000;
/// How deep folders are searched: that of a report in a folder of reports of several machines.
const DEEPEST: usize = 4;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The records, in order of scenario, variant, seed and file.
    pub records: Vec<RunRecord>,
    /// What could not be used.
    pub skipped: Vec<Skipped>,
}

/// A file that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why not, in one sentence that names the file.
    pub reason: String,
}

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or folder is not there or cannot be opened.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// There are more files than anybody meant.
    #[error(
        "{path}: more than {MOST_FILES} files; name the folders of the records themselves",
        path = path.display()
    )]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
}

/// Reads every record below these files and folders. Of a folder all files that end in `.json` are
/// taken for records, and all folders in it, four deep. Copies of one record count once.
///
/// # Errors
/// When a path that was named cannot be opened, or there are too many files. A file that is no
/// record is no error: it is in [`Loaded::skipped`].
pub fn load(paths: &[PathBuf]) -> Result<Loaded, LoadError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            find(path, DEEPEST, &mut files)?;
        } else if let Err(source) = fs::metadata(path) {
            return Err(LoadError::Io { path: path.clone(), source });
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    files.dedup();
    let mut loaded = Loaded::default();
    let mut known: BTreeMap<String, (PathBuf, usize)> = BTreeMap::new();
    for (path, read) in read_all(files) {
        let record = match read {
            Ok(record) => record,
            Err(reason) => {
                loaded.skipped.push(Skipped { path, reason });
                continue;
            }
        };
        match known.get(&run_key(&record)) {
            Some((_, place)) if loaded.records[*place] == record => {}
            Some((first, _)) => {
                let reason = format!(
                    "{}: it is of the same run as {}, and differs from it",
                    path.display(),
                    first.display()
                );
                loaded.skipped.push(Skipped { path, reason });
            }
            None => {
                known.insert(run_key(&record), (path, loaded.records.len()));
                loaded.records.push(record);
            }
        }
    }
    Ok(loaded)
}

/// What tells runs apart: two records with the same are of one run.
fn run_key(record: &RunRecord) -> String {
    let RunRecord { scenario, world, system, variant, seed, plan, environment, .. } = record;
    let (rate, machine) = (plan.rate_per_s, &environment.machine);
    let started = environment.started_unix_s;
    format!(
        "{}\u{0}{world:?}\u{0}{system}\u{0}{variant}\u{0}{seed}\u{0}{rate}\u{0}{machine:?}\u{0}\
         {started:?}",
        scenario.name
    )
}

fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    let failed = |source| LoadError::Io { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // A link could lead in a circle.
        if path.is_symlink() && path.is_dir() {
            continue;
        }
        if path.is_dir() {
            if depth > 0 {
                find(&path, depth - 1, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            return Err(LoadError::TooMany { path: folder.to_owned() });
        }
    }
    Ok(())
}

type Read = Result<RunRecord, String>;

/// Reads files on all cores; what comes back is in their order.
fn read_all(files: Vec<PathBuf>) -> Vec<(PathBuf, Read)> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Read>> = Mutex::default();
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = files.get(place) else { return };
            let read = RunRecord::read(path).map_err(|error| error.to_string());
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(place, read);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores.min(files.len()) {
            scope.spawn(work);
        }
    });
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    files.into_iter().zip(done.into_values()).collect()
}
