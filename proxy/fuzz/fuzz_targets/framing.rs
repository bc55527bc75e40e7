//! Any input, offered whole, byte by byte and cut in one place, gets the same verdict; and a head
//! that passes is one to httparse, of the same length.
//!
//! `.ci/fuzz 60 proxy` runs it for a minute. The first byte of an input says where to cut the
//! rest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::listener::framing::{Framing, Limits, Step, Violation};

/// What passes of `input` when it comes in `pieces`, and what ends it.
fn follow<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Violation>, bool) {
    let mut framing = Framing::new(Limits::default());
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        while !held.is_empty() {
            let is_head = !framing.is_in_body();
            match framing.advance(&held) {
                Ok(Step::Hold) => break,
                Ok(Step::Skip(length)) => drop(held.drain(..length)),
                Ok(Step::Pass(length)) => {
                    assert!(length > 0 && length <= held.len(), "no progress, or too much");
                    if is_head {
                        assert_head(&held[..length]);
                    }
                    passed.extend(held.drain(..length));
                }
                Err(violation) => return (passed, Some(violation), false),
            }
        }
    }
    (passed, None, framing.is_between() && held.is_empty())
}

fn assert_head(head: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let parsed = httparse::Request::new(&mut fields).parse(head);
    assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())));
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, input)) = input.split_first() else { return };
    let whole = follow(std::iter::once(input));
    assert_eq!(follow(input.chunks(1)), whole);
    let (start, rest) = input.split_at(usize::from(*cut).min(input.len()));
    assert_eq!(follow([start, rest].into_iter()), whole);
});
