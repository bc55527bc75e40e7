//! Who has to hold an expectation, who has to miss it, and how sure the verdict has to be.

use proxy::config::{InputError, suggest};
use reports::verdict::FEWEST;
use toml::Spanned;

use super::Checker;
use crate::scenario::expectation::WrittenExpectation;
use crate::scenario::formula::Bounds;
use crate::scenario::{Variant, matches};

impl Checker<'_> {
    /// The variants that have to hold it.
    pub(super) fn variants_of(
        &self,
        index: usize,
        written: &WrittenExpectation,
        bounds: &Bounds,
    ) -> Result<Vec<String>, InputError> {
        let field = |name: &str| format!("expect[{index}].{name}");
        let must_fail = self.all_named(index, "must_fail", &written.must_fail)?;
        let base = bounds.compared_with.as_ref();
        let is_base = |name: &str| base.is_some_and(|(base, _)| base == name);
        for (list, names) in
            [("of", written.of.as_deref()), ("must_fail", Some(written.must_fail.as_slice()))]
        {
            if let Some(twin) = names.iter().copied().flatten().find(|name| is_base(name.get_ref()))
            {
                let message = "it would be compared with itself; leave it out".to_owned();
                return Err(self.wrong(field(list), twin, message));
            }
        }
        let Some(named) = &written.of else {
            let rest = self.variants.iter().map(|variant| variant.name.clone());
            let rest: Vec<_> =
                rest.filter(|name| !must_fail.contains(name) && !is_base(name)).collect();
            if rest.is_empty() && must_fail.is_empty() {
                let message = "there is no other variant to compare with it".to_owned();
                let at = base.map_or(written.that.span(), |(_, at)| at.clone());
                let at = if written.compared_with.is_some() { at } else { written.that.span() };
                return Err(self.wrong(field("compared_with"), &Spanned::new(at, ()), message));
            }
            return Ok(rest);
        };
        let of = self.all_named(index, "of", named)?;
        let of: Vec<_> = of.into_iter().filter(|name| !is_base(name)).collect();
        if let Some(both) = of.iter().find(|name| must_fail.contains(name))
            && let Some(at) = written.must_fail.iter().find(|name| matches(name.get_ref(), both))
        {
            let message = format!("`{both}` cannot both hold it and miss it; leave it out of one");
            return Err(self.wrong(field("must_fail"), at, message));
        }
        if of.is_empty() && must_fail.is_empty() {
            let message = "name at least one variant, or leave it out for all".to_owned();
            return Err(self.wrong(field("of"), &written.that, message));
        }
        Ok(of)
    }

    /// The variants that a list names, each once, in the order of the file.
    pub(super) fn all_named(
        &self,
        index: usize,
        list: &str,
        names: &[Spanned<String>],
    ) -> Result<Vec<String>, InputError> {
        for name in names {
            self.variant(format!("expect[{index}].{list}"), name)?;
        }
        let named = |variant: &str| names.iter().any(|name| matches(name.get_ref(), variant));
        let all = self.variants.iter().map(|variant| variant.name.clone());
        Ok(all.filter(|variant| named(variant)).collect())
    }

    fn variant(&self, field: String, variant: &Spanned<String>) -> Result<(), InputError> {
        let name = variant.get_ref();
        let is_pattern = |known: &Variant| matches(name, &known.name);
        if self.variants.iter().any(is_pattern) { Ok(()) } else { self.no_variant(field, variant) }
    }

    /// As [`Self::variant`], but not a pattern.
    pub(super) fn one_variant(
        &self,
        field: String,
        variant: &Spanned<String>,
    ) -> Result<(), InputError> {
        let is_it = |known: &Variant| &known.name == variant.get_ref();
        if self.variants.iter().any(is_it) { Ok(()) } else { self.no_variant(field, variant) }
    }

    fn no_variant(&self, field: String, variant: &Spanned<String>) -> Result<(), InputError> {
        let name = variant.get_ref();
        let names: Vec<_> = self.variants.iter().map(|variant| variant.name.as_str()).collect();
        let message = format!("`{name}` is not compared here; {}", suggest(name, &names));
        Err(self.wrong(field, variant, message))
    }

    pub(super) fn confidence(
        &self,
        index: usize,
        written: &WrittenExpectation,
    ) -> Result<Option<f64>, InputError> {
        let Some(confidence) = &written.confidence else { return Ok(None) };
        let field = || format!("expect[{index}].confidence");
        if !(0.5..=0.9999).contains(confidence.get_ref()) {
            let message = "write a probability from 0.5 to 0.9999, such as 0.95".to_owned();
            return Err(self.wrong(field(), confidence, message));
        }
        if self.file.seeds.get() < FEWEST as u64 {
            let seeds = self.file.seeds;
            let message = format!(
                "{seeds} seeds are too few for an interval; write `seeds = {FEWEST}` or more"
            );
            return Err(self.wrong(field(), confidence, message));
        }
        Ok(Some(*confidence.get_ref()))
    }
}
