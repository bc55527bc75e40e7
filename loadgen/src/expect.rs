//! What a good answer looks like, and which backend it came from.
//!
//! A server under load may answer quickly with an error page under status 200, or with another
//! tenant's data; its latency is then of no interest. What is checked here is checked while the
//! answer passes by: nothing of a body is kept but the end that a searched text may begin in.

use std::ops::RangeInclusive;

use http::{HeaderMap, HeaderName};
use memchr::memmem::Finder;

use crate::response::Visit;

/// The longest backend name kept, in bytes.
const MAX_NAME: usize = 128;

/// What answers are checked for.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// Statuses that are well; `None` for those below 400.
    pub statuses: Option<Vec<RangeInclusive<u16>>>,
    /// Bytes that the content must have in it.
    pub body: Option<Vec<u8>>,
    /// The response field that names the backend, for statistics by backend.
    pub backend_header: Option<HeaderName>,
}

impl Expect {
    /// True when an answer with this status is well.
    pub fn allows(&self, status: u16) -> bool {
        match &self.statuses {
            Some(ranges) => ranges.iter().any(|range| range.contains(&status)),
            None => status < 400,
        }
    }
}

/// Looks at one answer after the other on one lane.
#[derive(Debug)]
pub(crate) struct Inspector {
    backend_header: Option<HeaderName>,
    needle: Option<Finder<'static>>,
    /// The end of the content so far, one byte shorter than what is searched for.
    tail: Vec<u8>,
    is_found: bool,
    backend: Option<Vec<u8>>,
}

impl Inspector {
    pub(crate) fn new(expect: &Expect) -> Inspector {
        let needle = expect.body.as_deref().map(|bytes| Finder::new(bytes).into_owned());
        Inspector {
            backend_header: expect.backend_header.clone(),
            needle,
            tail: Vec::new(),
            is_found: false,
            backend: None,
        }
    }

    /// Forgets the answer before.
    pub(crate) fn reset(&mut self) {
        self.tail.clear();
        self.is_found = false;
        self.backend = None;
    }

    /// True when what was searched for has passed, or nothing was searched for.
    pub(crate) fn is_satisfied(&self) -> bool {
        self.needle.as_ref().is_none_or(|needle| self.is_found || needle.needle().is_empty())
    }

    /// What the backend called itself.
    pub(crate) fn backend(&self) -> Option<&[u8]> {
        self.backend.as_deref()
    }

    pub(crate) fn headers(&mut self, headers: &HeaderMap) {
        if let Some(name) = &self.backend_header
            && let Some(value) = headers.get(name)
        {
            self.backend = Some(cut(value.as_bytes()).to_vec());
        }
    }
}

impl Visit for Inspector {
    fn reads_heads(&self) -> bool {
        self.backend_header.is_some()
    }

    fn head(&mut self, fields: &[httparse::Header<'_>]) {
        if let Some(name) = &self.backend_header {
            let field = fields.iter().find(|f| f.name.eq_ignore_ascii_case(name.as_str()));
            self.backend = field.map(|field| cut(field.value).to_vec());
        }
    }

    fn content(&mut self, bytes: &[u8]) {
        let Some(needle) = &self.needle else { return };
        if self.is_found {
            return;
        }
        let kept = needle.needle().len().saturating_sub(1);
        // What lies across the seam, then what lies behind it.
        self.tail.extend_from_slice(&bytes[..bytes.len().min(kept)]);
        self.is_found = needle.find(&self.tail).is_some() || needle.find(bytes).is_some();
        if bytes.len() >= kept {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - kept..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(kept));
        }
    }
}

fn cut(name: &[u8]) -> &[u8] {
    &name[..name.len().min(MAX_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statuses_are_those_named_or_below_400() {
        let plain = Expect::default();
        assert!(plain.allows(399) && !plain.allows(400));
        let named = Expect { statuses: Some(vec![200..=200, 404..=410]), ..Expect::default() };
        let allowed: Vec<u16> = (100..600).filter(|s| named.allows(*s)).collect();
        assert_eq!(allowed, [200, 404, 405, 406, 407, 408, 409, 410]);
    }

    proptest! {
        #[test]
        fn text_is_found_in_any_pieces(
            needle in "[ab]{0,4}", text in "[ab]{0,30}", cuts in prop::collection::vec(0_usize..31, 0..6),
        ) {
            let expect = Expect { body: Some(needle.clone().into_bytes()), ..Expect::default() };
            let mut inspector = Inspector::new(&expect);
            let mut points: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            points.extend([0, text.len()]);
            points.sort_unstable();
            for pair in points.windows(2) {
                inspector.content(&text.as_bytes()[pair[0]..pair[1]]);
            }
            prop_assert_eq!(inspector.is_satisfied(), text.contains(&needle));
        }
    }
}
