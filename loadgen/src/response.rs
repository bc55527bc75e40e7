//! Reads one HTTP/1.x response from bytes that arrive in any pieces.
//!
//! The decoder owns no buffer and does no I/O. It is given what has arrived, says how much of
//! that it has used, and is asked whether the response is whole. Heads are parsed by httparse;
//! bodies are counted, shown to a visitor ([`Visit`]) and thrown away, so that memory is bounded by
//! [`MAX_HEAD`] whatever the server sends. How a body ends follows RFC 9112, section 6.3.

mod chunk;
mod error;
mod framing;

use std::mem::MaybeUninit;

use chunk::Chunk;
pub use error::DecodeError;
use framing::Framing;

/// The longest response head, interim heads included, and the longest trailer section, in bytes:
/// what common servers allow at most.
pub const MAX_HEAD: usize = 64 * 1024;

/// The most header fields in one head.
pub const MAX_FIELDS: usize = 128;

/// Below this many bytes a head is parsed as soon as it grows, so that garbage is noticed early.
/// Above, only a line end can complete it, and parsing waits for one: a server that sends single
/// bytes cannot make parsing quadratic.
const EAGER_HEAD: usize = 256;

/// The longest head that is remembered: what servers answer under load is shorter.
const MAX_KNOWN: usize = 1024;

/// The state of one response, and afterwards of the next on the same connection.
///
/// Under load a server answers the same again and again, and its head changes with the date only,
/// once a second. So the last head is remembered, and one that is the same to the last byte is not
/// parsed again: that would be a third of what a request costs outside of the kernel.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The request was a HEAD: the response has no body, whatever its head says.
    answers_head: bool,
    state: State,
    status: Option<u16>,
    reusable: bool,
    body_bytes: u64,
    /// Bytes of finished interim heads.
    interim_bytes: usize,
    /// Bytes of the unfinished head that have been looked at.
    head_seen: usize,
    /// The last head that was whole, if it is worth remembering.
    known: Vec<u8>,
    /// What was made of it.
    meaning: Meaning,
}

/// What a final head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    answers_head: bool,
    status: u16,
    reusable: bool,
    /// What follows it.
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunk),
    UntilClose,
    Done,
}

impl Decoder {
    /// A decoder for the response to one request; `answers_head` if that request was a HEAD.
    pub fn new(answers_head: bool) -> Self {
        Self {
            answers_head,
            state: State::Head,
            status: None,
            reusable: false,
            body_bytes: 0,
            interim_bytes: 0,
            head_seen: 0,
            known: Vec::new(),
            meaning: Meaning { answers_head, status: 0, reusable: false, state: State::Head },
        }
    }

    /// Makes ready for the next response.
    pub fn reset(&mut self, answers_head: bool) {
        self.answers_head = answers_head;
        self.state = State::Head;
        self.status = None;
        self.reusable = false;
        self.body_bytes = 0;
        self.interim_bytes = 0;
        self.head_seen = 0;
    }

    /// Uses what it can of `input` and returns how many bytes that was.
    ///
    /// While the head is incomplete nothing is used: call again with the same bytes and more
    /// behind them. After the response is whole nothing more is used.
    ///
    /// # Errors
    /// When the bytes cannot be a response; the connection is then of no further use.
    pub fn feed(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        self.feed_to(input, &mut ())
    }

    /// The same, showing the final head and the content to `visit` as they pass.
    ///
    /// # Errors
    /// As [`Decoder::feed`].
    pub fn feed_to(&mut self, input: &[u8], visit: &mut impl Visit) -> Result<usize, DecodeError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Done => return Ok(used),
                State::Head => match self.feed_head(rest, visit)? {
                    Some(length) => used += length,
                    None => return Ok(used),
                },
                _ if rest.is_empty() => return Ok(used),
                State::UntilClose => {
                    visit.content(rest);
                    self.body_bytes += rest.len() as u64;
                    return Ok(input.len());
                }
                State::Length(left) => {
                    let (taken, left) = take(rest, left);
                    visit.content(&rest[..taken]);
                    self.body_bytes += taken as u64;
                    used += taken;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                }
                State::Chunked(Chunk::Data { left }) => {
                    let (taken, left) = take(rest, left);
                    visit.content(&rest[..taken]);
                    self.body_bytes += taken as u64;
                    used += taken;
                    self.state = State::Chunked(if left == 0 {
                        Chunk::DataCr
                    } else {
                        Chunk::Data { left }
                    });
                }
                State::Chunked(chunk) => {
                    self.state = chunk.step(rest[0])?;
                    used += 1;
                }
            }
        }
    }

    /// Told that the connection has ended: a body without a length is then whole.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when the response was not whole.
    pub fn end_of_input(&mut self) -> Result<(), DecodeError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Head | State::Length(_) | State::Chunked(_) => Err(DecodeError::Truncated),
        }
    }

    /// True when head and body have arrived.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The status, once the final head has arrived.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// True when the connection may carry another request after this response.
    pub fn is_reusable(&self) -> bool {
        self.is_done() && self.reusable
    }

    /// Bytes of content so far, without framing.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Parses a head if it is complete, and returns its length.
    fn feed_head(
        &mut self,
        input: &[u8],
        visit: &mut impl Visit,
    ) -> Result<Option<usize>, DecodeError> {
        if self.is_known(input) && !visit.reads_heads() {
            self.head_seen = 0;
            self.follow(self.meaning);
            return Ok(Some(self.known.len()));
        }
        let fresh = &input[self.head_seen.min(input.len())..];
        let may_be_complete = input.len() <= EAGER_HEAD || fresh.contains(&b'\n');
        self.head_seen = input.len();
        let allowed = MAX_HEAD - self.interim_bytes;
        let length = if may_be_complete { self.parse_head(input, visit)? } else { None };
        match length {
            Some(length) if length > allowed => Err(DecodeError::HeadTooLong),
            None if input.len() > allowed => Err(DecodeError::HeadTooLong),
            Some(length) => {
                self.head_seen = 0;
                if self.state == State::Head {
                    self.interim_bytes += length;
                }
                Ok(Some(length))
            }
            None => Ok(None),
        }
    }

    fn parse_head(
        &mut self,
        input: &[u8],
        visit: &mut impl Visit,
    ) -> Result<Option<usize>, DecodeError> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut head = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut head,
            input,
            &mut fields,
        );
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(DecodeError::TooManyFields),
            Err(error) => return Err(DecodeError::Syntax(error)),
        };
        let status = head.code.unwrap_or_default();
        match status {
            101 => return Err(DecodeError::Upgrade),
            100..=199 => return Ok(Some(length)),
            200..=999 => {}
            _ => return Err(DecodeError::Status(status)),
        }
        let framing = Framing::read(head.version == Some(1), head.headers)?;
        visit.head(head.headers);
        let (state, reusable) = match framing.length {
            _ if self.answers_head || status == 204 || status == 304 => {
                (State::Done, framing.persistent)
            }
            _ if framing.chunked => {
                (State::Chunked(Chunk::Size { size: 0, digits: 0 }), framing.persistent)
            }
            Some(0) => (State::Done, framing.persistent),
            Some(length) => (State::Length(length), framing.persistent),
            None => (State::UntilClose, false),
        };
        self.meaning = Meaning { answers_head: self.answers_head, status, reusable, state };
        self.known.clear();
        if length <= MAX_KNOWN && !visit.reads_heads() {
            self.known.extend_from_slice(&input[..length]);
        }
        self.follow(self.meaning);
        Ok(Some(length))
    }

    /// True when the head that was remembered comes again. Heads end in an empty line, so that
    /// what begins with one has no other.
    fn is_known(&self, input: &[u8]) -> bool {
        !self.known.is_empty()
            && self.interim_bytes == 0
            && self.meaning.answers_head == self.answers_head
            && input.starts_with(&self.known)
    }

    fn follow(&mut self, meaning: Meaning) {
        self.status = Some(meaning.status);
        self.reusable = meaning.reusable;
        self.state = meaning.state;
    }
}

/// Shown what passes through a decoder.
pub trait Visit {
    /// True if [`Visit::head`] has to see every head, also one that came before.
    fn reads_heads(&self) -> bool {
        true
    }

    /// The fields of the final head.
    fn head(&mut self, fields: &[httparse::Header<'_>]) {
        let _ = fields;
    }

    /// The next bytes of content, without framing.
    fn content(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }
}

/// Nobody looks.
impl Visit for () {
    fn reads_heads(&self) -> bool {
        false
    }
}

/// How much of `rest` belongs to the `left` bytes awaited, and how many are awaited then.
fn take(rest: &[u8], left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
    (taken, left - taken as u64)
}

#[cfg(test)]
mod tests;
