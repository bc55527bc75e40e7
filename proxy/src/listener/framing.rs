//! Where one request ends and the next begins, read so that nobody can read it otherwise. Pure.
//!
//! Request smuggling needs two parties that disagree about where a message ends (RFC 9112 §11.2).
//! We are between two parties, and httparse and hyper are lenient where recipients differ: they
//! take a bare LF for a line end, several equal `Content-Length` fields for one, and silently drop
//! a length that stands beside a transfer coding. Here a request that can be read in two ways is
//! refused, before the parser behind us or an upstream sees a byte of its head.
//!
//! RFC 9112 leaves recipients a choice in most of this; the choices are those of its §§2.2, 3, 5.1,
//! 5.2, 6.1, 6.3 and 7.1 that end in 400, which are also those of Envoy's strict codec and of
//! HAProxy without its `accept-unsafe-violations-in-http-request`.
//!
//! Only lines are looked at: the bytes of a sized body or of a chunk are counted, not read.

mod fields;
#[cfg(test)]
mod tests;

use http::StatusCode;

use self::fields::Head;

/// What a request may take up before its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, with its empty line.
    pub head_bytes: usize,
    /// Fields of a head, and of a trailer section.
    pub fields: usize,
    /// Bytes of a trailer section, with its empty line.
    pub trailer_bytes: usize,
    /// Bytes of all chunk extensions of one body.
    pub extension_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // What the sidecar takes from an upstream too.
            head_bytes: crate::pool::MAX_HEAD_BYTES,
            // hyper's bound, and Envoy's `max_headers_count`.
            fields: 100,
            // Below hyper's 16 KiB, so that what is too much is refused here, with a reason.
            trailer_bytes: 8 * 1024,
            // The same. A proxy that lets extensions be endless does work for no content at all
            // (CVE-2023-39326).
            extension_bytes: 8 * 1024,
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 9112 §2.2: a recipient may take a bare LF for a line end, so another one may not.
    #[error("a line of the request does not end with CR LF")]
    LineEnd,
    /// RFC 9110 §5.5: NUL, CR and the other control characters.
    #[error("the head holds a control character")]
    Control,
    /// RFC 9112 §3: a method, one space, a target of visible ASCII, one space, a version.
    #[error("the request line is not `method target HTTP/1.1`")]
    RequestLine,
    /// RFC 9110 §15.6.6.
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    Version,
    /// RFC 9112 §5.2: a field continued on a line that begins with whitespace.
    #[error("a field is folded over several lines")]
    Folded,
    /// RFC 9112 §5.1: no name, no colon, or whitespace before it.
    #[error("a field's name is not a token followed by a colon")]
    FieldName,
    /// RFC 9112 §6.3: `5, 5`, `+5`, an empty value, more than 2⁶³ − 1, or a second field.
    #[error("Content-Length is not one number, given once")]
    ContentLength,
    /// RFC 9112 §6.1: not exactly `chunked`, a second field, or HTTP/1.0.
    #[error("Transfer-Encoding is not `chunked`, given once, in HTTP/1.1")]
    TransferEncoding,
    /// RFC 9112 §6.1: "ought to be handled as an error".
    #[error("Content-Length and Transfer-Encoding contradict each other")]
    TwoLengths,
    /// RFC 9112 §3.2.
    #[error("HTTP/1.1 requests need a Host field, and exactly one")]
    Host,
    /// RFC 9112 §3: the request line alone is larger than a head may be.
    #[error("the request line is too long")]
    TargetTooLong,
    /// RFC 6585 §5.
    #[error("the head is too large")]
    HeadTooLarge,
    /// RFC 6585 §5.
    #[error("the head has too many fields")]
    TooManyFields,
    /// RFC 9112 §7.1: not 1 to 16 hexadecimal digits.
    #[error("a chunk's size is not a hexadecimal number")]
    ChunkSize,
    /// RFC 9112 §7.1.1: too much of it, or not what an extension may hold.
    #[error("a chunk's extension is malformed or too long")]
    ChunkExtension,
    /// RFC 9112 §7.1: a chunk's data is not followed by CR LF.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// RFC 9110 §6.5.1: a trailer that would change the framing, or too much of them.
    #[error("the trailer section is too large or holds what belongs into the head")]
    Trailers,
}

impl Violation {
    /// What the caller is told.
    pub fn status(self) -> StatusCode {
        match self {
            Violation::TargetTooLong => StatusCode::URI_TOO_LONG,
            Violation::HeadTooLarge | Violation::TooManyFields => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Violation::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// What to do with the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Too little to judge: keep it, and offer it again with more behind it.
    Hold,
    /// So many bytes are an empty line ahead of a request, which RFC 9112 §2.2 wants ignored.
    Skip(usize),
    /// So many bytes are sound, and belong to one request.
    Pass(usize),
}

/// Follows the requests of one connection.
#[derive(Clone, Debug)]
pub struct Framing {
    limits: Limits,
    state: State,
    lines: Lines,
}

#[derive(Clone, Debug)]
enum State {
    Head(Head),
    /// A body of known length, of which so much is to come.
    Sized(u64),
    Chunked {
        next: Chunk,
        extension_bytes: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size,
    Data(u64),
    /// The CR LF behind the data.
    End,
    Trailers {
        fields: usize,
    },
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    Sized(u64),
    Chunked,
}

impl Framing {
    /// At the start of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head(Head::default()), lines: Lines::default() }
    }

    /// True between requests: the next byte begins one.
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Head(_)) && self.lines.searched == 0
    }

    /// True when the next byte belongs to a body.
    pub fn is_in_body(&self) -> bool {
        !matches!(self.state, State::Head(_))
    }

    /// Judges the start of `input`, which must not be empty.
    ///
    /// After [`Step::Pass`] and [`Step::Skip`] the next input begins behind those bytes; a pass
    /// ends at the latest where the request's head or the request itself does. After
    /// [`Step::Hold`] the next input begins with the same bytes. The verdicts do not depend on how
    /// the bytes were split.
    ///
    /// # Errors
    /// The first violation. Nothing of what was not passed before may be used, and the framing of
    /// whatever follows is unknown: the connection must end.
    pub fn advance(&mut self, input: &[u8]) -> Result<Step, Violation> {
        match self.state {
            State::Head(_) => self.head(input),
            State::Sized(left) => {
                let passed = at_most(left, input);
                let left = left - passed as u64;
                self.state =
                    if left == 0 { State::Head(Head::default()) } else { State::Sized(left) };
                Ok(Step::Pass(passed))
            }
            State::Chunked { next: Chunk::Size, .. } => self.chunk_size(input),
            State::Chunked { next: Chunk::Data(left), extension_bytes } => {
                let passed = at_most(left, input);
                let left = left - passed as u64;
                let next = if left == 0 { Chunk::End } else { Chunk::Data(left) };
                self.state = State::Chunked { next, extension_bytes };
                Ok(Step::Pass(passed))
            }
            State::Chunked { next: Chunk::End, extension_bytes } => {
                if !b"\r\n".starts_with(&input[..input.len().min(2)]) {
                    return Err(Violation::ChunkEnd);
                }
                if input.len() < 2 {
                    return Ok(Step::Hold);
                }
                self.state = State::Chunked { next: Chunk::Size, extension_bytes };
                Ok(Step::Pass(2))
            }
            State::Chunked { next: Chunk::Trailers { fields }, .. } => self.trailers(input, fields),
        }
    }

    // Head → (Head | Sized | Chunked)
    fn head(&mut self, input: &[u8]) -> Result<Step, Violation> {
        let State::Head(head) = &mut self.state else { return Ok(Step::Hold) };
        loop {
            let line = match self.lines.next(input, self.limits.head_bytes)? {
                Line::Whole(line) => line,
                Line::Partial => return Ok(Step::Hold),
                Line::BeyondLimit if head.is_begun() => return Err(Violation::HeadTooLarge),
                Line::BeyondLimit => return Err(Violation::TargetTooLong),
            };
            if !line.is_empty() {
                head.line(line, self.limits.fields)?;
                continue;
            }
            let passed = self.lines.restart();
            if !head.is_begun() {
                return Ok(Step::Skip(passed));
            }
            self.state = match head.body()? {
                Body::None => State::Head(Head::default()),
                Body::Sized(length) => State::Sized(length),
                Body::Chunked => State::Chunked { next: Chunk::Size, extension_bytes: 0 },
            };
            return Ok(Step::Pass(passed));
        }
    }

    // Size → (Data | Trailers)
    fn chunk_size(&mut self, input: &[u8]) -> Result<Step, Violation> {
        let State::Chunked { next, extension_bytes } = &mut self.state else {
            return Ok(Step::Hold);
        };
        let longest = LONGEST_SIZE + self.limits.extension_bytes - *extension_bytes;
        let line = match self.lines.next(input, longest)? {
            Line::Whole(line) => line,
            Line::Partial => return Ok(Step::Hold),
            Line::BeyondLimit => return Err(Violation::ChunkExtension),
        };
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let (size, extension) = line.split_at(digits);
        let size = fields::hexadecimal(size).ok_or(Violation::ChunkSize)?;
        match extension.first() {
            None => {}
            Some(b';') if extension.len() + *extension_bytes > self.limits.extension_bytes => {
                return Err(Violation::ChunkExtension);
            }
            Some(b';') if fields::holds_control(extension) => {
                return Err(Violation::ChunkExtension);
            }
            Some(b';') => *extension_bytes += extension.len(),
            Some(_) => return Err(Violation::ChunkSize),
        }
        *next = if size == 0 { Chunk::Trailers { fields: 0 } } else { Chunk::Data(size) };
        Ok(Step::Pass(self.lines.restart()))
    }

    // Trailers → Head
    fn trailers(&mut self, input: &[u8], mut fields: usize) -> Result<Step, Violation> {
        loop {
            let line = match self.lines.next(input, self.limits.trailer_bytes)? {
                Line::Whole(line) => line,
                Line::Partial => return Ok(Step::Hold),
                Line::BeyondLimit => return Err(Violation::Trailers),
            };
            if line.is_empty() {
                self.state = State::Head(Head::default());
                return Ok(Step::Pass(self.lines.restart()));
            }
            fields += 1;
            let (name, _value) = fields::field(line)?;
            if fields > self.limits.fields || fields::delimits_or_routes(name) {
                return Err(Violation::Trailers);
            }
            if let State::Chunked { next, .. } = &mut self.state {
                *next = Chunk::Trailers { fields };
            }
        }
    }
}

/// 16 digits and CR LF.
const LONGEST_SIZE: usize = 18;

/// The length of what `input` holds of the `left` bytes to come.
fn at_most(left: u64, input: &[u8]) -> usize {
    usize::try_from(left).map_or(input.len(), |left| left.min(input.len()))
}

/// Finds lines in an input that is offered again and again, and looks at each byte once.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    /// Bytes of the lines found so far.
    judged: usize,
    /// Bytes that hold no further line end.
    searched: usize,
}

enum Line<'a> {
    /// Without its end.
    Whole(&'a [u8]),
    Partial,
    BeyondLimit,
}

impl Lines {
    /// The next line, as long as all lines together have `most` bytes.
    fn next<'a>(&mut self, input: &'a [u8], most: usize) -> Result<Line<'a>, Violation> {
        let end = memchr::memchr(b'\n', &input[self.searched..]).map(|at| self.searched + at);
        if end.map_or(input.len(), |end| end + 1) > most {
            return Ok(Line::BeyondLimit);
        }
        let Some(end) = end else {
            self.searched = input.len();
            return Ok(Line::Partial);
        };
        let line = &input[self.judged..end];
        self.judged = end + 1;
        self.searched = end + 1;
        line.strip_suffix(b"\r").map(Line::Whole).ok_or(Violation::LineEnd)
    }

    /// Starts over behind the lines found, and says how many bytes they were.
    fn restart(&mut self) -> usize {
        std::mem::take(self).judged
    }
}
