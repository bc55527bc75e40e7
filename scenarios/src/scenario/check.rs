//! What contradicts something else in a scenario, subject by subject.

mod expectation;
mod fault;
mod load;
mod service;

use std::path::Path;

use proxy::config::InputError;
use toml::Spanned;

use super::{Expectation, File, Service, Variant, matches};

/// Checks a scenario that reads well field by field; what is expected of it comes back checked.
pub(super) fn check(
    file: &File,
    variants: &[Variant],
    path: &Path,
    text: &str,
) -> Result<Vec<Expectation>, InputError> {
    let instances = file.instances();
    let checker = Checker { file, variants, instances, path, text };
    checker.load()?;
    for (index, service) in file.services.iter().enumerate() {
        checker.service(index, service)?;
    }
    checker.faults()?;
    let expectations = file.expect.iter().enumerate();
    expectations.map(|(index, written)| checker.expectation(index, written)).collect()
}

struct Checker<'a> {
    file: &'a File,
    variants: &'a [Variant],
    instances: Vec<String>,
    path: &'a Path,
    text: &'a str,
}

impl Checker<'_> {
    fn wrong<T>(&self, field: String, at: &Spanned<T>, message: String) -> InputError {
        InputError::field(self.path, field, message).at_span(self.text, at.span())
    }

    fn instance(&self, field: String, name: &Spanned<String>) -> Result<(), InputError> {
        if self.instances.iter().any(|known| matches(name.get_ref(), known)) {
            return Ok(());
        }
        let of_service = |service: &Service| {
            let known: Vec<_> = service.instance_names().collect();
            match known.as_slice() {
                [only] => format!("`{only}`"),
                [first, .., last] => format!("`{first}` to `{last}`"),
                [] => "none".to_owned(),
            }
        };
        let there_is: Vec<_> = self.file.services.iter().map(of_service).collect();
        let name_text = name.get_ref();
        let message =
            format!("no instance is called `{name_text}`; there is {}", there_is.join(", "));
        Err(self.wrong(field, name, message))
    }
}
