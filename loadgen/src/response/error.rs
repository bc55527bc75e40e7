//! Why bytes are not a response.

use super::{MAX_FIELDS, MAX_HEAD};

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
