//! The lines of a head, and what of them decides where its body ends.

use super::{Body, Violation};

/// What a head has said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    version: Option<Version>,
    fields: usize,
    hosts: usize,
    length: Option<u64>,
    is_chunked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

impl Head {
    /// True once there was a request line.
    pub(super) fn is_begun(&self) -> bool {
        self.version.is_some()
    }

    /// Takes the next line, which is not empty.
    pub(super) fn line(&mut self, line: &[u8], most_fields: usize) -> Result<(), Violation> {
        let Some(version) = self.version else {
            self.version = Some(request_line(line)?);
            return Ok(());
        };
        let (name, value) = field(line)?;
        self.fields += 1;
        if self.fields > most_fields {
            return Err(Violation::TooManyFields);
        }
        // The length of a name tells the three apart from nearly everything else.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if self.hosts > 1 {
                    return Err(Violation::Host);
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Violation::ContentLength);
                }
                self.length = Some(decimal(trim(value)).ok_or(Violation::ContentLength)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let is_chunked = trim(value).eq_ignore_ascii_case(b"chunked");
                if self.is_chunked || !is_chunked || version == Version::Http10 {
                    return Err(Violation::TransferEncoding);
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// What follows the head, now that it is whole.
    pub(super) fn body(&self) -> Result<Body, Violation> {
        if self.version == Some(Version::Http11) && self.hosts == 0 {
            return Err(Violation::Host);
        }
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(Violation::TwoLengths),
            (None, true) => Ok(Body::Chunked),
            (None | Some(0), false) => Ok(Body::None),
            (Some(length), false) => Ok(Body::Sized(length)),
        }
    }
}

fn request_line(line: &[u8]) -> Result<Version, Violation> {
    let (Some(first), Some(last)) = (memchr::memchr(b' ', line), memchr::memrchr(b' ', line))
    else {
        return Err(Violation::RequestLine);
    };
    // With only one space the target is empty; with more than two there is one in it.
    let target = line.get(first + 1..last).unwrap_or_default();
    let (method, version) = (&line[..first], &line[last + 1..]);
    if method.is_empty()
        || token_length(method) != first
        || target.is_empty()
        || !is_visible(target)
    {
        return Err(Violation::RequestLine);
    }
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Violation::Version)
        }
        _ => Err(Violation::RequestLine),
    }
}

/// A field's name and its value, with the whitespace around it.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let length = token_length(line);
    let (name, rest) = line.split_at(length);
    match rest.split_first() {
        Some((b':', value)) if !name.is_empty() => match holds_control(value) {
            true => Err(Violation::Control),
            false => Ok((name, value)),
        },
        Some((b' ' | b'\t', _)) if name.is_empty() => Err(Violation::Folded),
        _ => Err(Violation::FieldName),
    }
}

/// Fields that must not come after the body: by then everybody has acted on them.
pub(super) fn delimits_or_routes(name: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding", b"host"]
        .iter()
        .any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

/// True for all that a field value may not hold (RFC 9110 §5.5).
pub(super) fn holds_control(bytes: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    let (words, rest) = bytes.as_chunks();
    // Only what may hold a tab is looked at closely.
    words.iter().any(|word| holds_below(*word, b' ') && word.iter().any(is_control))
        || rest.iter().any(is_control)
}

/// True for visible ASCII only, which is all that a target is made of (RFC 3986 §2).
fn is_visible(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    let holds_obsolete = |word: [u8; 8]| u64::from_ne_bytes(word) & (EACH * 0x80) != 0;
    words.iter().all(|word| !holds_below(*word, b'!') && !holds_obsolete(*word))
        && rest.iter().all(u8::is_ascii_graphic)
}

/// 1 in each byte.
const EACH: u64 = u64::from_ne_bytes([1; 8]);

/// True when one of eight bytes is below `least`, which is at most 0x80, or is DEL. The borrow of
/// a subtraction shows in the high bit of the byte that was too small; it may mislead about the
/// bytes above that one, but not about whether there is one.
fn holds_below(bytes: [u8; 8], least: u8) -> bool {
    let word = u64::from_ne_bytes(bytes);
    let below = |word: u64, least: u8| word.wrapping_sub(EACH * u64::from(least)) & !word;
    (below(word, least) | below(word ^ (EACH * 0x7f), 1)) & (EACH * 0x80) != 0
}

/// The length of the token that `bytes` begin with (RFC 9110 §5.6.2).
fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !IN_TOKEN[usize::from(*byte)]).unwrap_or(bytes.len())
}

static IN_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Digits and nothing else, at most 2⁶³ − 1: more is taken for negative by somebody.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    i64::try_from(value).is_ok().then_some(value)
}

/// 1 to 16 hexadecimal digits, at most 2⁶³ − 1.
pub(super) fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })?;
    i64::try_from(value).is_ok().then_some(value)
}
