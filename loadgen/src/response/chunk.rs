//! The chunked coding, a byte at a time (RFC 9112, section 7.1).

use super::{DecodeError, MAX_HEAD, State};

/// The longest line that names a chunk's size, its extensions included, in bytes.
pub(super) const MAX_CHUNK_LINE: usize = 4 * 1024;

/// Where in the coding the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
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

impl Chunk {
    /// Where the byte after `byte` belongs; never called for data.
    pub(super) fn step(self, byte: u8) -> Result<State, DecodeError> {
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
