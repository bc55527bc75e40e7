//! Arbitrary bytes in arbitrary pieces: the decoder neither panics nor reads them differently, and
//! one that has read them before reads them as it did.
//!
//! The first byte of the input says whether the request was a HEAD, the second how long pieces
//! are. Run it with `.ci/fuzz 60 loadgen`, or with cargo-fuzz in `loadgen/`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadgen::response::{DecodeError, Decoder};

/// Status, length of the content, and whether the connection lives on.
type Summary = (Option<u16>, u64, bool);

fn decode(decoder: &mut Decoder, bytes: &[u8], piece: usize) -> Result<Summary, DecodeError> {
    let mut buffer = Vec::new();
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        let used = decoder.feed(&buffer)?;
        assert!(used <= buffer.len(), "it used what was not there");
        buffer.drain(..used);
        if decoder.is_done() {
            break;
        }
    }
    decoder.end_of_input()?;
    Ok((decoder.status(), decoder.body_bytes(), decoder.is_reusable()))
}

fuzz_target!(|input: &[u8]| {
    let [kind, size, bytes @ ..] = input else { return };
    let answers_head = kind % 2 == 1;
    let mut decoder = Decoder::new(answers_head);
    let whole = decode(&mut decoder, bytes, bytes.len().max(1)).ok();
    // It remembers the head from here on.
    decoder.reset(answers_head);
    assert_eq!(whole, decode(&mut decoder, bytes, bytes.len().max(1)).ok());
    decoder.reset(!answers_head);
    let other = decode(&mut Decoder::new(!answers_head), bytes, bytes.len().max(1)).ok();
    assert_eq!(other, decode(&mut decoder, bytes, bytes.len().max(1)).ok());
    let pieces = decode(&mut Decoder::new(answers_head), bytes, usize::from(*size) + 1).ok();
    assert_eq!(whole, pieces);
});
