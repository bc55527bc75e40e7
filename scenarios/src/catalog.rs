//! The scenarios that come with the program, and files of one's own.

use std::path::{Path, PathBuf};

use proxy::config::{InputError, source, suggest};

use crate::scenario::Scenario;

/// Name and text of each file of the catalogue, in the order of the names.
static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/catalog.rs"));

/// The names of the catalogue.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// Every scenario of the catalogue.
///
/// # Errors
/// When one of them is wrong, which a test excludes.
pub fn all() -> Result<Vec<Scenario>, InputError> {
    names().map(load).collect()
}

/// A scenario of the catalogue by name, or else a file by path.
///
/// # Errors
/// When there is neither, or the file is wrong.
pub fn load(name: &str) -> Result<Scenario, InputError> {
    if let Some((known_as, text)) = FILES.iter().find(|(known, _)| *known == name) {
        let scenario = Scenario::parse(Path::new(&format!("catalog/{name}.toml")), text)?;
        return Ok(Scenario { called: (*known_as).to_owned(), ..scenario });
    }
    let path = PathBuf::from(name);
    let looks_like_a_file = path.extension().is_some() || path.components().count() > 1;
    if !looks_like_a_file {
        let known: Vec<_> = names().collect();
        let message = format!(
            "no scenario of this name is in the catalogue; {}; give a file as a path that ends in \
             .toml",
            suggest(name, &known)
        );
        return Err(InputError::file(&path, message));
    }
    Scenario::parse(&path, &source::read(&path)?)
}
