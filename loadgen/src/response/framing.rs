//! Where a message ends, and whether its connection lives on (RFC 9112, sections 6.3 and 9.3).

use super::DecodeError;

/// What a head says about where its message ends and whether the connection lives on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) chunked: bool,
    pub(super) length: Option<u64>,
    pub(super) persistent: bool,
}

impl Framing {
    pub(super) fn read(
        version_1_1: bool,
        fields: &[httparse::Header<'_>],
    ) -> Result<Framing, DecodeError> {
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
