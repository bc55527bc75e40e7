//! Files that a scenario refers to: read once, with it, and kept with its text.

use std::collections::BTreeMap;
use std::fs::File as OpenFile;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

use proxy::config::InputError;
use sim::ServiceTime;

use super::{File, What};

/// The longest file that is read: [`sim`] takes a hundred thousand lines of one.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// How to read a file by the name that a scenario gives it.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Files beside a scenario on a disk.
pub(super) fn beside(scenario: &Path) -> impl Fn(&str) -> Result<String, String> {
    let folder = scenario.parent().unwrap_or(Path::new("")).to_owned();
    move |name| {
        let path = folder.join(name);
        let mut text = String::new();
        let file = OpenFile::open(&path)
            .and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text).map(|_| ()));
        file.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if text.len() as u64 > MOST_BYTES {
            let most = MOST_BYTES / 1024 / 1024;
            return Err(format!("{} is longer than {most} MiB", path.display()));
        }
        Ok(text)
    }
}

/// Reads what a scenario refers to; returns the texts by their names.
pub(super) fn read(
    file: &mut File,
    path: &Path,
    text: &str,
    read: ReadFile<'_>,
) -> Result<BTreeMap<String, String>, InputError> {
    let mut files = BTreeMap::new();
    for (field, span, time) in service_times(file) {
        let Some(empirical) = time.empirical_mut() else { continue };
        let name = empirical.file().to_owned();
        let wrong = |message: String| {
            InputError::field(path, field.clone(), message).at_span(text, span.clone())
        };
        let content = read(&name).map_err(&wrong)?;
        empirical.read(&content).map_err(|reason| wrong(format!("{name}: {reason}")))?;
        files.insert(name, content);
    }
    Ok(files)
}

/// All service times of a scenario: the field, its place in the text, and the time.
fn service_times(
    file: &mut File,
) -> impl Iterator<Item = (String, Range<usize>, &mut ServiceTime)> {
    let services = file.services.iter_mut().enumerate().flat_map(|(index, service)| {
        let field = format!("services[{index}].service_time");
        let span = service.service_time.span();
        let own = (field, span, service.service_time.get_mut());
        let errors = service.errors.as_mut().and_then(|errors| {
            let (field, span) = (format!("services[{index}].errors.time"), errors.span());
            Some((field, span, errors.get_mut().time.as_mut()?))
        });
        [own].into_iter().chain(errors)
    });
    let faults = file.faults.iter_mut().enumerate().filter_map(|(index, fault)| {
        let span = fault.at.span();
        match &mut fault.what {
            What::Slow(time) => Some((format!("faults[{index}].what.slow"), span, time)),
            _ => None,
        }
    });
    services.chain(faults)
}
