//! Reads one HTTP/1.x response from bytes that arrive in any pieces.
//!
//! The decoder owns no buffer and does no I/O. It is given what has arrived, says how much of
//! that it has used, and is asked whether the response is whole. Heads are parsed by httparse;
//! bodies are counted and thrown away, so that memory is bounded by [`MAX_HEAD`] whatever the
//! server sends. How a body ends follows RFC 9112, section 6.3.

use std::mem::MaybeUninit;

/// The longest response head, interim heads included, and the longest trailer section, in bytes:
/// what common servers allow at most.
pub const MAX_HEAD: usize = 64 * 1024;

/// The most header fields in one head.
pub const MAX_FIELDS: usize = 128;

/// The longest line that names a chunk's size, its extensions included, in bytes.
const MAX_CHUNK_LINE: usize = 4 * 1024;

/// Below this many bytes a head is parsed as soon as it grows, so that garbage is noticed early.
/// Above, only a line end can complete it, and parsing waits for one: a server that sends single
/// bytes cannot make parsing quadratic.
const EAGER_HEAD: usize = 256;

/// The state of one response.
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunk),
    UntilClose,
    Done,
}

/// Where in the chunked coding (RFC 9112, section 7.1) the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size { size: u64, digits: u8 },
    Extension { size: u64, length: usize },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart { length: usize },
    Trailer { length: usize },
    TrailerLf { length: usize },
    LastLf,
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
        }
    }

    /// Uses what it can of `input` and returns how many bytes that was.
    ///
    /// While the head is incomplete nothing is used: call again with the same bytes and more
    /// behind them. After the response is whole nothing more is used.
    ///
    /// # Errors
    /// When the bytes cannot be a response; the connection is then of no further use.
    pub fn feed(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Done => return Ok(used),
                State::Head => match self.feed_head(rest)? {
                    Some(length) => used += length,
                    None => return Ok(used),
                },
                _ if rest.is_empty() => return Ok(used),
                State::UntilClose => {
                    self.body_bytes += rest.len() as u64;
                    return Ok(input.len());
                }
                State::Length(left) => {
                    let (taken, left) = take(rest, left);
                    self.body_bytes += taken as u64;
                    used += taken;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                }
                State::Chunked(Chunk::Data { left }) => {
                    let (taken, left) = take(rest, left);
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
    fn feed_head(&mut self, input: &[u8]) -> Result<Option<usize>, DecodeError> {
        let fresh = &input[self.head_seen.min(input.len())..];
        let may_be_complete = input.len() <= EAGER_HEAD || fresh.contains(&b'\n');
        self.head_seen = input.len();
        let allowed = MAX_HEAD - self.interim_bytes;
        let length = if may_be_complete { self.parse_head(input)? } else { None };
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

    fn parse_head(&mut self, input: &[u8]) -> Result<Option<usize>, DecodeError> {
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
        self.status = Some(status);
        self.reusable = framing.persistent;
        self.state = if self.answers_head || status == 204 || status == 304 {
            State::Done
        } else if framing.chunked {
            State::Chunked(Chunk::Size { size: 0, digits: 0 })
        } else {
            match framing.length {
                Some(0) => State::Done,
                Some(length) => State::Length(length),
                None => {
                    self.reusable = false;
                    State::UntilClose
                }
            }
        };
        Ok(Some(length))
    }
}

impl Chunk {
    /// Where the byte after `byte` belongs; never called for data.
    fn step(self, byte: u8) -> Result<State, DecodeError> {
        let next = match (self, byte) {
            // Size → (Size | Extension | SizeLf)
            (Chunk::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                // Sixteen hexadecimal digits fill 64 bits.
                if digits == 16 {
                    return Err(DecodeError::ChunkSize);
                }
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                Chunk::Size { size: size << 4 | digit, digits: digits + 1 }
            }
            (Chunk::Size { digits: 0, .. }, _) => return Err(DecodeError::ChunkSize),
            (Chunk::Size { size, .. }, b'\r') => Chunk::SizeLf { size },
            (Chunk::Size { size, .. }, b';' | b' ' | b'\t') => Chunk::Extension { size, length: 0 },
            (Chunk::Size { .. }, _) => return Err(DecodeError::ChunkSize),
            // Extension → (Extension | SizeLf)
            (Chunk::Extension { size, .. }, b'\r') => Chunk::SizeLf { size },
            (Chunk::Extension { .. }, b'\n') => return Err(DecodeError::ChunkFraming),
            (Chunk::Extension { length, .. }, _) if length >= MAX_CHUNK_LINE => {
                return Err(DecodeError::ChunkFraming);
            }
            (Chunk::Extension { size, length }, _) => Chunk::Extension { size, length: length + 1 },
            // SizeLf → (Data | TrailerStart)
            (Chunk::SizeLf { size: 0 }, b'\n') => Chunk::TrailerStart { length: 0 },
            (Chunk::SizeLf { size }, b'\n') => Chunk::Data { left: size },
            // Data → DataCr → DataLf → Size
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => Chunk::Size { size: 0, digits: 0 },
            // TrailerStart → (LastLf | Trailer); Trailer → (Trailer | TrailerLf) → TrailerStart
            (Chunk::TrailerStart { .. }, b'\r') => Chunk::LastLf,
            (Chunk::TrailerStart { length } | Chunk::Trailer { length }, _)
                if length >= MAX_HEAD =>
            {
                return Err(DecodeError::HeadTooLong);
            }
            (Chunk::Trailer { length }, b'\r') => Chunk::TrailerLf { length: length + 1 },
            (Chunk::TrailerStart { .. } | Chunk::Trailer { .. }, b'\n' | 0) => {
                return Err(DecodeError::ChunkFraming);
            }
            (Chunk::TrailerStart { length } | Chunk::Trailer { length }, _) => {
                Chunk::Trailer { length: length + 1 }
            }
            (Chunk::TrailerLf { length }, b'\n') => Chunk::TrailerStart { length: length + 1 },
            // LastLf → done
            (Chunk::LastLf, b'\n') => return Ok(State::Done),
            (
                Chunk::SizeLf { .. }
                | Chunk::DataCr
                | Chunk::DataLf
                | Chunk::TrailerLf { .. }
                | Chunk::LastLf,
                _,
            ) => return Err(DecodeError::ChunkFraming),
            (Chunk::Data { .. }, _) => unreachable!("data is taken in runs"),
        };
        Ok(State::Chunked(next))
    }
}

/// What a head says about where its message ends and whether the connection lives on.
#[derive(Debug, PartialEq, Eq)]
struct Framing {
    chunked: bool,
    length: Option<u64>,
    persistent: bool,
}

impl Framing {
    fn read(version_1_1: bool, fields: &[httparse::Header<'_>]) -> Result<Framing, DecodeError> {
        let mut framing = Framing { chunked: false, length: None, persistent: version_1_1 };
        let mut coded = false;
        let mut close = false;
        for field in fields {
            if field.name.eq_ignore_ascii_case("content-length") {
                for item in list(field.value) {
                    let length = decimal(item).ok_or(DecodeError::ContentLength)?;
                    if framing.length.is_some_and(|earlier| earlier != length) {
                        return Err(DecodeError::ContentLength);
                    }
                    framing.length = Some(length);
                }
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                for item in list(field.value) {
                    if framing.chunked && item.eq_ignore_ascii_case(b"chunked") {
                        return Err(DecodeError::ChunkedTwice);
                    }
                    coded = true;
                    framing.chunked = item.eq_ignore_ascii_case(b"chunked");
                }
            } else if field.name.eq_ignore_ascii_case("connection") {
                for item in list(field.value) {
                    close |= item.eq_ignore_ascii_case(b"close");
                    framing.persistent |= item.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        if coded {
            // Both ways to end a message, or a coding that HTTP/1.0 does not know: read it as
            // coded and trust the connection no further (RFC 9112, sections 6.1 and 6.3).
            framing.persistent &= framing.length.is_none() && version_1_1;
            framing.length = None;
        }
        framing.persistent &= !close;
        Ok(framing)
    }
}

/// How much of `rest` belongs to the `left` bytes awaited, and how many are awaited then.
fn take(rest: &[u8], left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
    (taken, left - taken as u64)
}

/// The items of a comma-separated field value.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A number written in decimal digits and nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Why bytes are not a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The head does not follow the grammar.
    #[error("{0} in the response head")]
    Syntax(httparse::Error),
    /// A status outside 100 to 999.
    #[error("status {0} is no HTTP status")]
    Status(u16),
    /// 101 Switching Protocols, which was not asked for.
    #[error("protocol switched without being asked to")]
    Upgrade,
    /// The head or the trailers are longer than [`MAX_HEAD`].
    #[error("response head longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// More than [`MAX_FIELDS`] header fields.
    #[error("more than {MAX_FIELDS} header fields")]
    TooManyFields,
    /// A length that is no number, or two that differ.
    #[error("invalid content-length")]
    ContentLength,
    /// The chunked coding, applied twice.
    #[error("chunked coding applied twice")]
    ChunkedTwice,
    /// A chunk size that is no hexadecimal number of at most 64 bits.
    #[error("invalid chunk size")]
    ChunkSize,
    /// A chunk, a chunk extension or a trailer that does not end as it should.
    #[error("invalid chunk framing")]
    ChunkFraming,
    /// The connection ended first.
    #[error("connection closed before the response was whole")]
    Truncated,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a decoder makes of pieces, in a buffer as a connection keeps it.
    fn decode(answers_head: bool, pieces: &[&[u8]]) -> Result<Decoder, DecodeError> {
        let mut decoder = Decoder::new(answers_head);
        let mut buffer = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            let used = decoder.feed(&buffer)?;
            buffer.drain(..used);
            if decoder.is_done() {
                return Ok(decoder);
            }
        }
        decoder.end_of_input().map(|()| decoder)
    }

    fn whole(text: &str) -> Result<(u16, u64, bool), DecodeError> {
        let decoder = decode(false, &[text.as_bytes()])?;
        Ok((decoder.status().unwrap_or(0), decoder.body_bytes(), decoder.is_reusable()))
    }

    #[test]
    fn the_ways_a_response_can_end() {
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", (200, 3, true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", (200, 3, true)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", (200, 0, true)),
            ("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", (200, 0, true)),
            ("HTTP/1.1 204 No Content\r\n\r\n", (204, 0, true)),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", (304, 0, true)),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", (200, 13, false)),
            ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", (200, 1, false)),
            (
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na",
                (200, 1, true),
            ),
            ("HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 1\r\n\r\na", (200, 1, false)),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n\
                 0123456789\r\n0\r\nsum: 1\r\nend: 2\r\n\r\n",
                (200, 13, true),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                (200, 0, true),
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\nab", (200, 2, false)),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n\
                 1\r\na\r\n0\r\n\r\n",
                (200, 1, false),
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                 HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nno",
                (503, 2, true),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(whole(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn every_pair_of_split_points_reads_the_same() {
        let text: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nserver: s\r\n\
            transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1f;ext\r\n0123456789012345678901234567890\
            \r\n0\r\ntrailer: t\r\n\r\n";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                let decoder = decode(false, &pieces).unwrap();
                assert_eq!((decoder.status(), decoder.body_bytes()), (Some(200), 34));
                assert!(decoder.is_reusable());
            }
        }
    }

    #[test]
    fn a_response_cut_anywhere_is_truncated() {
        let text: &[u8] =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        for cut in 0..text.len() {
            let result = decode(false, &[&text[..cut]]).map(|_| ());
            assert_eq!(result, Err(DecodeError::Truncated), "cut at {cut}");
        }
    }

    #[test]
    fn the_response_to_a_head_request_has_no_body() {
        let text: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
        let decoder = decode(true, &[text]).unwrap();
        assert!(decoder.is_reusable());
        assert_eq!(decoder.body_bytes(), 0);
    }

    #[test]
    fn what_is_no_response_says_why() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let cases = [
            ("SSH-2.0-x\r\n".to_owned(), DecodeError::Syntax(httparse::Error::Version)),
            ("HTTP/1.1 099 x\r\n\r\n".to_owned(), DecodeError::Status(99)),
            ("HTTP/1.1 101 x\r\n\r\n".to_owned(), DecodeError::Upgrade),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_owned(),
                DecodeError::ContentLength,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n".to_owned(),
                DecodeError::ContentLength,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n".to_owned(),
                DecodeError::ContentLength,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n".to_owned(),
                DecodeError::ContentLength,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n".to_owned(),
                DecodeError::ChunkedTwice,
            ),
            (format!("{chunked}x\r\n"), DecodeError::ChunkSize),
            (format!("{chunked}\r\n"), DecodeError::ChunkSize),
            (format!("{chunked}12345678123456781\r\n"), DecodeError::ChunkSize),
            (format!("{chunked}1\r\nab\r\n"), DecodeError::ChunkFraming),
            (format!("{chunked}1\rx"), DecodeError::ChunkFraming),
            (format!("{chunked}1;{}", "x".repeat(MAX_CHUNK_LINE + 1)), DecodeError::ChunkFraming),
            (format!("{chunked}0\r\nt: {}", "x".repeat(MAX_HEAD)), DecodeError::HeadTooLong),
            (
                format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(129)),
                DecodeError::TooManyFields,
            ),
            ("HTTP/1.1 100 C\r\n\r\n".repeat(4000), DecodeError::HeadTooLong),
        ];
        for (text, expected) in cases {
            assert_eq!(whole(&text), Err(expected), "{text:.60}");
        }
    }

    #[test]
    fn the_head_may_be_as_long_as_the_bound_and_no_longer() {
        let head = |length: usize| {
            let frame = "HTTP/1.1 204 x\r\na: \r\n\r\n".len();
            format!("HTTP/1.1 204 x\r\na: {}\r\n\r\n", "x".repeat(length - frame))
        };
        assert_eq!(whole(&head(MAX_HEAD)), Ok((204, 0, true)));
        assert_eq!(whole(&head(MAX_HEAD + 1)), Err(DecodeError::HeadTooLong));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            prefix in prop::sample::select(vec![
                "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            ]),
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            answers_head: bool,
        ) {
            let mut all = vec![prefix.as_bytes()];
            all.extend(pieces.iter().map(Vec::as_slice));
            let _ = decode(answers_head, &all);
        }

        #[test]
        fn nearly_valid_responses_read_the_same_in_any_pieces(
            text in "HTTP/1\\.[01] [0-5]0[0-4] x\r\n(content-length: [0-9]{1,2}\r\n|\
                     transfer-encoding: chunked\r\n|connection: (close|keep-alive)\r\n){0,3}\r\n\
                     ([0-3]\r\n[a-c]{0,3}\r\n){0,3}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let bytes = text.as_bytes();
            let mut points: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            points.extend([0, bytes.len()]);
            points.sort_unstable();
            let pieces: Vec<&[u8]> = points.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let summary = |r: Result<Decoder, DecodeError>| {
                r.map(|d| (d.status(), d.body_bytes(), d.is_reusable()))
            };
            prop_assert_eq!(summary(decode(false, &pieces)), summary(decode(false, &[bytes])));
        }
    }
}
