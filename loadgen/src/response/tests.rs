//! Responses whole, in pieces, and broken.

use super::chunk::MAX_CHUNK_LINE;
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
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na", (200, 1, true)),
        ("HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 1\r\n\r\na", (200, 1, false)),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n\
             0123456789\r\n0\r\nsum: 1\r\nend: 2\r\n\r\n",
            (200, 13, true),
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", (200, 0, true)),
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
    let text: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
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
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_owned(), DecodeError::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n".to_owned(), DecodeError::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n".to_owned(), DecodeError::ContentLength),
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
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(129)), DecodeError::TooManyFields),
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

/// Whole responses, of which some share their first bytes with others.
fn any_response() -> impl Strategy<Value = String> {
    let status = prop::sample::select(vec!["200 OK", "200 Ok", "204 No Content", "503 Busy"]);
    let fields = prop::sample::select(vec![
        "",
        "date: Mon\r\n",
        "date: Tue\r\n",
        "connection: close\r\n",
        "date: Mon\r\nconnection: close\r\n",
    ]);
    let ending = prop::sample::select(vec![
        "content-length: 2\r\n\r\nok",
        "content-length: 2\r\n\r\nHT",
        "content-length: 0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "\r\nuntil the end",
    ]);
    let interim = prop::sample::select(vec!["", "", "", "HTTP/1.1 103 Early Hints\r\n\r\n"]);
    (interim, status, fields, ending).prop_map(|(interim, status, fields, ending)| {
        format!("{interim}HTTP/1.1 {status}\r\n{fields}{ending}")
    })
}

proptest! {
    /// What a decoder remembers of the responses before changes nothing.
    #[test]
    fn a_decoder_that_is_used_again_reads_like_a_new_one(
        responses in prop::collection::vec((any_response(), any::<bool>(), 1_usize..60), 1..12),
    ) {
        let mut used = Decoder::new(false);
        for (text, answers_head, piece) in &responses {
            let mut fresh = Decoder::new(*answers_head);
            used.reset(*answers_head);
            let mut buffers = (Vec::new(), Vec::new());
            for bytes in text.as_bytes().chunks(*piece) {
                buffers.0.extend_from_slice(bytes);
                buffers.1.extend_from_slice(bytes);
                let (one, other) = (fresh.feed(&buffers.0), used.feed(&buffers.1));
                prop_assert_eq!(&one, &other);
                buffers.0.drain(..one.unwrap());
                buffers.1.drain(..other.unwrap());
            }
            prop_assert_eq!(fresh.end_of_input(), used.end_of_input());
            let summary = |d: &Decoder| (d.status(), d.body_bytes(), d.is_reusable(), d.is_done());
            prop_assert_eq!(summary(&fresh), summary(&used));
        }
    }
}
