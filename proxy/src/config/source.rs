//! TOML files and the one line that says what is wrong with them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// What is wrong with an input file, on one line: `file:line: field: what, and what would be right`.
///
/// In its alternate form, `{:#}`, the line of the file follows, with a mark below what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    file: PathBuf,
    place: Option<Box<Place>>,
    field: Option<String>,
    message: String,
}

impl InputError {
    /// An error about a whole file.
    pub fn file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, field: None, message: message.into() }
    }

    /// An error about one field, such as `routes[0].cluster`.
    pub fn field(file: &Path, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::file(file, message) }
    }

    /// The same error, at the line where `span` of `text` begins.
    #[must_use]
    pub fn at_span(mut self, text: &str, span: Range<usize>) -> Self {
        self.place = Some(Box::new(Place::of(text, span)));
        self
    }
}

impl std::error::Error for InputError {}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(place) = &self.place {
            write!(f, ":{}", place.line)?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.place {
            Some(place) if f.alternate() => write!(f, "\n{place}"),
            _ => Ok(()),
        }
    }
}

/// Where in a file something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// From 1.
    line: usize,
    /// What stands before it on its line, itself, and what follows.
    parts: [String; 3],
}

/// More of a line than this, before or after what is wrong, is left out.
const MOST_CONTEXT: usize = 60;

impl Place {
    fn of(text: &str, span: Range<usize>) -> Self {
        let (before, rest) = text.split_at(text.floor_char_boundary(span.start));
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = rest.lines().next().unwrap_or_default();
        let length = span.end.saturating_sub(span.start).min(rest.len());
        let (itself, after) = rest.split_at(rest.ceil_char_boundary(length));
        let line = before.matches('\n').count() + 1;
        let (before, after) = (before[start..].chars(), after.chars());
        let left_out = before.clone().count().saturating_sub(MOST_CONTEXT);
        let before = match left_out {
            0 => before.collect(),
            _ => std::iter::once('…').chain(before.skip(left_out)).collect(),
        };
        let after = match after.clone().count() {
            count if count <= MOST_CONTEXT => after.collect(),
            _ => after.take(MOST_CONTEXT).chain(['…']).collect(),
        };
        Self { line, parts: [before, itself.to_owned(), after] }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, itself, after] = &self.parts;
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs, so that the mark stands where the terminal puts what it marks.
        let blank: String = before.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
        let mark = "^".repeat(itself.chars().count().max(1));
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {before}{itself}{after}")?;
        write!(f, "{margin} | {blank}{mark}")
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
    let message = explained(error.message());
    let whole = InputError { field, ..InputError::file(path, message) };
    // What is missing from the file itself is in no line of it.
    let is_all = |span: &Range<usize>| span.start == 0 && span.end >= text.trim_end().len();
    match error.span().filter(|span| !is_all(span)) {
        Some(span) => whole.at_span(text, span),
        None => whole,
    }
}

/// What toml and serde say of an error, on one line, with the name that was probably meant.
pub fn explained(message: &str) -> String {
    // toml puts hints on lines of their own; one error is one line here.
    let message = message.split('\n').collect::<Vec<_>>().join("; ");
    let message = in_toml(message);
    let Some((unknown, known)) = message.split_once(", expected ") else { return message };
    let Some(name) = ["unknown field `", "unknown variant `"]
        .iter()
        .find_map(|words| unknown.strip_prefix(words)?.strip_suffix('`'))
    else {
        return message;
    };
    let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    if known.is_empty() { message } else { format!("{unknown}; {}", suggest(name, &known)) }
}

/// A type as people who write TOML call it.
fn in_toml(message: String) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message };
    let expected = match expected {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number from 0 up",
        "a nonzero usize" | "a nonzero u64" | "a nonzero u32" => "a whole number from 1 up",
        "f64" | "f32" => "a number",
        "a string" => "text in quotes",
        "a sequence" => "a list in brackets",
        "a map" => "a table",
        "a boolean" => "true or false",
        _ => return message,
    };
    format!("{}, expected {expected}", found.replace("invalid type: map", "invalid type: table"))
}

/// More names than this are not listed if one of them was probably meant.
const MOST_LISTED: usize = 8;

/// `did you mean `a`? there is `a` and `b``: for a name that is none of those that there are.
pub fn suggest(name: &str, known: &[&str]) -> String {
    let there_is = format!("there is {}", list(known));
    match nearest(name, known) {
        None => there_is,
        Some(meant) if known.len() > MOST_LISTED => format!("did you mean `{meant}`?"),
        Some(meant) => format!("did you mean `{meant}`? {there_is}"),
    }
}

/// The name that differs least, if it is by no more than a third of its letters.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let distance = |known: &&&str| strsim::osa_distance(&name, &known.to_lowercase());
    let meant = known.iter().min_by_key(distance)?;
    let allowed = (meant.chars().count() / 3).max(1);
    (distance(&meant) <= allowed).then_some(*meant)
}

/// `a, b and c` in backticks.
pub fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        format!("{:#}", InputError::file(Path::new("f"), "wrong").at_span(text, span))
    }

    #[test]
    fn the_line_is_quoted_and_what_is_wrong_is_marked() {
        let text = "a = 1\nrate = -300\n";
        assert_eq!(shown(text, 13..17), "f:2: wrong\n  |\n2 | rate = -300\n  |        ^^^^");
        assert_eq!(format!("{}", InputError::file(Path::new("f"), "wrong")), "f: wrong");
        // Over several lines, at the very end, between two letters of one, and after the end.
        assert_eq!(shown("[[\n]]", 0..5), "f:1: wrong\n  |\n1 | [[\n  | ^^");
        assert_eq!(shown("a", 1..1), "f:1: wrong\n  |\n1 | a\n  |  ^");
        assert_eq!(shown("\té=é", 4..6), "f:1: wrong\n  |\n1 | \té=é\n  | \t  ^");
        assert!(shown("é", 1..2).starts_with("f:1: wrong"));
        assert!(shown("a", 7..9).starts_with("f:1: wrong"));
        let long = format!("{}x{}", "<".repeat(500), ">".repeat(500));
        let line = shown(&long, 500..501);
        assert!(line.lines().all(|line| line.chars().count() < 140), "{line}");
    }

    #[test]
    fn the_name_that_was_meant_is_suggested() {
        let known = ["rate", "mix", "headers"];
        assert_eq!(
            suggest("rat", &known),
            "did you mean `rate`? there is `rate`, `mix` and `headers`"
        );
        assert_eq!(suggest("colour", &known), "there is `rate`, `mix` and `headers`");
        assert_eq!(suggest("x", &[]), "there is none");
        let many: Vec<_> = "a1 b2 c3 d4 e5 f6 g7 h8 round_robin".split(' ').collect();
        assert_eq!(suggest("roundrobin", &many), "did you mean `round_robin`?");
        let of_serde = "unknown field `rat`, expected one of `rate`, `mix`";
        assert_eq!(
            explained(of_serde),
            "unknown field `rat`; did you mean `rate`? there is `rate` and `mix`"
        );
        assert_eq!(
            explained("invalid type: string \"x\", expected f64"),
            "invalid type: string \"x\", expected a number"
        );
        assert_eq!(explained("a\nb"), "a; b");
        assert_eq!(
            explained("unknown field `a`, expected no fields"),
            "unknown field `a`, expected no fields"
        );
    }
}
