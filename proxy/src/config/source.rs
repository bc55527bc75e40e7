//! TOML files and the one line that says what is wrong with them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// What is wrong with an input file, on one line: `file:line: field: what, and what would be right`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    file: PathBuf,
    line: Option<usize>,
    field: Option<String>,
    message: String,
}

impl InputError {
    /// An error about a whole file.
    pub fn file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, field: None, message: message.into() }
    }

    /// An error about one field, such as `routes[0].cluster`.
    pub fn field(file: &Path, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::file(file, message) }
    }

    /// The same error, at the line where `span` of `text` begins.
    #[must_use]
    pub fn at_span(mut self, text: &str, span: Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        self.line = Some(before.matches('\n').count() + 1);
        self
    }
}

impl std::error::Error for InputError {}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Reads a whole file.
///
/// # Errors
/// Says which file, and the operating system's reason.
pub fn read(path: &Path) -> Result<String, InputError> {
    std::fs::read_to_string(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
            _ => error.to_string(),
        };
        InputError::file(path, reason)
    })
}

/// Reads TOML into a type.
///
/// # Errors
/// The first thing that is wrong, with its line and the path of its field.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, InputError> {
    let deserializer =
        toml::Deserializer::parse(text).map_err(|error| from_toml(path, text, None, &error))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        // The name under which toml passes a value together with its place in the file.
        let field = error.path().to_string().replace(".$__serde_spanned_private_value", "");
        let field = (field != ".").then_some(field);
        from_toml(path, text, field, error.inner())
    })
}

fn from_toml(
    path: &Path,
    text: &str,
    field: Option<String>,
    error: &toml::de::Error,
) -> InputError {
    // toml puts hints on lines of their own; one error is one line here.
    let message = error.message().split('\n').collect::<Vec<_>>().join("; ");
    let whole = InputError { field, ..InputError::file(path, message) };
    match error.span() {
        Some(span) => whole.at_span(text, span),
        None => whole,
    }
}
