//! A file of targets with weights.
//!
//! ```toml
//! [[targets]]
//! url = "http://127.0.0.1:8080/item/{{random 1..1000}}"
//! weight = 9
//!
//! [[targets]]
//! url = "http://127.0.0.1:8080/order"
//! method = "POST"
//! headers = { content-type = "application/json" }
//! body = '{"order": {{index}} }'
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use loadgen::{Aim, Mix, Target, TargetError};

use super::Failure;
use super::settings::usage;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    targets: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: String,
    /// Its share is this out of the sum of all weights.
    #[serde(default = "one")]
    weight: u32,
    /// GET, or POST with a body, if left out.
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
}

fn one() -> u32 {
    1
}

/// Reads and checks a file.
pub(super) fn read(path: &Path) -> Result<Mix, Failure> {
    let named = |why: String| usage(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
    parse(&text).map_err(named)
}

fn parse(text: &str) -> Result<Mix, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    let aims = (1..)
        .zip(file.targets)
        .map(|(number, entry)| aim(entry).map_err(|error| format!("target {number}: {error}")));
    Mix::new(aims.collect::<Result<_, _>>()?).map_err(|error| error.to_string())
}

fn aim(entry: Entry) -> Result<Aim, TargetError> {
    let mut target = Target::from_url(&entry.url)?;
    if let Some(method) = entry.method.as_deref().or(entry.body.as_ref().map(|_| "POST")) {
        target = target.with_method(method)?;
    }
    for (name, value) in &entry.headers {
        target = target.with_header(name, value)?;
    }
    if let Some(body) = &entry.body {
        target = target.with_body_template(body)?;
    }
    Ok(Aim { address: target.address(), target, weight: entry.weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_its_defaults() {
        let text = "[[targets]]\nurl = 'http://a/{{index}}'\nweight = 9\n[[targets]]\n\
                    url = 'http://b/'\nheaders = { accept = 'x' }\nbody = '{{hex 4}}'\n";
        let mix = parse(text).unwrap();
        let seen: Vec<_> =
            mix.aims().iter().map(|a| (a.target.method().as_str(), a.weight)).collect();
        assert_eq!(seen, [("GET", 9), ("POST", 1)]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, words) in [
            ("", "missing field `targets`"),
            ("targets = []", "0 targets"),
            ("[[targets]]\nurl = 'http://a/'\nwait = 3\n", "line 3: unknown field `wait`"),
            ("[[targets]]\nurl = 'a'\n", "target 1: `a` is not a URL"),
            ("[[targets]]\nurl = 'http://a/{{x}}'\n", "target 1: `{{x}}` is no place"),
            ("[[targets]]\nurl = 'http://a/'\nweight = 0\n", "a weight of 0"),
            ("[[targets]]\nurl = 'http://a/'\nweight = -1\n", "line 3"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "no `{words}` in {error}");
        }
    }
}
