//! Text in which some places differ from request to request.
//!
//! A server that is asked for the same thing over and over answers from a cache. What is put into
//! the places is a function of the seed and the request's number alone: it does not depend on the
//! thread that sends it, and a run can be repeated to the byte.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::TargetError;

/// The most random hexadecimal digits in one place.
const MAX_HEX: u64 = 64;

/// Text with places to fill in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(Vec<u8>),
    /// The request's number in the plan, from 0.
    Index,
    /// A whole number between these, both included.
    Random {
        low: u64,
        high: u64,
    },
    /// So many random hexadecimal digits.
    Hex(u64),
}

/// Whose places are to be filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw {
    pub(crate) seed: u64,
    pub(crate) index: u64,
}

impl Draw {
    /// 64 random bits for the `place`-th use within this request.
    pub(crate) fn bits(self, place: u64) -> u64 {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.index.to_le_bytes());
        key[8..].copy_from_slice(&place.to_le_bytes());
        xxh3_64_with_seed(&key, self.seed)
    }

    /// A whole number below `bound`, evenly but for a part in 2⁶⁴ / `bound`.
    pub(crate) fn below(self, place: u64, bound: u64) -> u64 {
        ((u128::from(self.bits(place)) * u128::from(bound)) >> 64) as u64
    }
}

impl Template {
    /// Reads `{{index}}`, `{{random LOW..HIGH}}` and `{{hex N}}`.
    pub(super) fn parse(text: &[u8]) -> Result<Template, TargetError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = memchr::memmem::find(rest, b"{{") {
            let Some(length) = memchr::memmem::find(&rest[start..], b"}}") else { break };
            if start > 0 {
                pieces.push(Piece::Literal(rest[..start].to_vec()));
            }
            let inside = String::from_utf8_lossy(&rest[start + 2..start + length]).into_owned();
            pieces.push(piece(inside.trim()).ok_or(TargetError::Template(inside))?);
            rest = &rest[start + length + 2..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_vec()));
        }
        Ok(Template { pieces })
    }

    /// Text that is taken as it stands.
    pub(super) fn literal(text: &[u8]) -> Template {
        Template { pieces: vec![Piece::Literal(text.to_vec())] }
    }

    /// The text, if every request has the same.
    pub(super) fn as_literal(&self) -> Option<&[u8]> {
        match self.pieces.as_slice() {
            [] => Some(b""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the text of one request. `place` numbers the random places across the templates of
    /// a target, so that two of them differ.
    pub(super) fn render(&self, draw: Draw, place: &mut u64, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Index => push_decimal(out, draw.index),
                Piece::Random { low, high } => {
                    let offset = match (high - low).checked_add(1) {
                        Some(count) => draw.below(*place, count),
                        None => draw.bits(*place),
                    };
                    push_decimal(out, low + offset);
                    *place += 1;
                }
                Piece::Hex(digits) => {
                    for chunk in 0..digits.div_ceil(16) {
                        let bits = draw.bits(*place);
                        *place += 1;
                        for digit in 0..(digits - chunk * 16).min(16) {
                            let nibble = (bits >> (60 - 4 * digit)) & 0xf;
                            out.push(b"0123456789abcdef"[nibble as usize]);
                        }
                    }
                }
            }
        }
    }
}

fn piece(text: &str) -> Option<Piece> {
    let mut words = text.split_whitespace();
    let piece = match (words.next()?, words.next()) {
        ("index", None) => Piece::Index,
        ("random", Some(range)) => {
            let (low, high) = range.split_once("..")?;
            let (low, high) = (low.parse().ok()?, high.parse().ok()?);
            (low <= high).then_some(Piece::Random { low, high })?
        }
        ("hex", Some(digits)) => {
            let digits = digits.parse().ok().filter(|n| (1..=MAX_HEX).contains(n))?;
            Piece::Hex(digits)
        }
        _ => return None,
    };
    words.next().is_none().then_some(piece)
}

/// Appends a number in decimal, without allocating.
pub(super) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(text: &str, seed: u64, index: u64) -> String {
        let mut out = Vec::new();
        Template::parse(text.as_bytes()).unwrap().render(Draw { seed, index }, &mut 0, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn places_are_filled_in_by_seed_and_index() {
        assert_eq!(render("/item/{{index}}?x={y}", 1, 42), "/item/42?x={y}");
        assert_eq!(render("{{ random 7..7 }}", 1, 2), "7");
        assert_eq!(render("{{hex 20}}", 1, 2).len(), 20);
        assert_eq!(render("{{hex 8}}", 1, 2), render("{{hex 8}}", 1, 2));
        assert_ne!(render("{{hex 8}}", 1, 2), render("{{hex 8}}", 1, 3));
        assert_ne!(render("{{hex 8}}", 1, 2), render("{{hex 8}}", 2, 2));
        let twice = render("{{hex 8}}-{{hex 8}}", 1, 2);
        assert_ne!(twice[..8], twice[9..]);
        assert!(render("{{random 0..18446744073709551615}}", 0, 0).parse::<u64>().is_ok());
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "{{}}",
            "{{name}}",
            "{{random 3}}",
            "{{random 3..1}}",
            "{{hex 0}}",
            "{{hex 65}}",
            "{{index 1}}",
        ] {
            assert!(
                matches!(Template::parse(text.as_bytes()), Err(TargetError::Template(_))),
                "{text}"
            );
        }
        assert_eq!(Template::parse(b"{{ open").unwrap().as_literal(), Some(&b"{{ open"[..]));
    }

    proptest! {
        #[test]
        fn random_numbers_stay_in_their_range(low: u64, span: u64, seed: u64, index: u64) {
            let high = low.saturating_add(span);
            let text = render(&format!("{{{{random {low}..{high}}}}}"), seed, index);
            let number: u64 = text.parse().unwrap();
            prop_assert!((low..=high).contains(&number));
        }

        #[test]
        fn numbers_read_as_written(number: u64) {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
