//! Arbitrary bytes in arbitrary pieces: the decoder neither panics nor reads them differently.
//!
//! The first byte of the input says whether the request was a HEAD, the second how long pieces
//! are. Run it with `cargo +nightly fuzz run response` in `loadgen/`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadgen::response::{DecodeError, Decoder};

fn decode(answers_head: bool, bytes: &[u8], piece: usize) -> Result<Decoder, DecodeError> {
    let mut decoder = Decoder::new(answers_head);
    let mut buffer = Vec::new();
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        let used = decoder.feed(&buffer)?;
        assert!(used <= buffer.len(), "it used what was not there");
        buffer.drain(..used);
        if decoder.is_done() {
            return Ok(decoder);
        }
    }
    decoder.end_of_input().map(|()| decoder)
}

fuzz_target!(|input: &[u8]| {
    let [kind, size, bytes @ ..] = input else { return };
    let answers_head = kind % 2 == 1;
    let summary = |result: Result<Decoder, DecodeError>| {
        result.map(|d| (d.status(), d.body_bytes(), d.is_reusable())).ok()
    };
    let whole = summary(decode(answers_head, bytes, bytes.len().max(1)));
    let pieces = summary(decode(answers_head, bytes, usize::from(*size) + 1));
    assert_eq!(whole, pieces);
});
