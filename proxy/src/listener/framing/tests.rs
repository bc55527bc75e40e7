use proptest::prelude::*;

use super::*;

/// What is made of a whole input: the bytes that pass, and the violation that ends it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    passed: Vec<u8>,
    violation: Option<Violation>,
    /// How far the input was from the start of a request at its end.
    is_between: bool,
}

/// Offers `input` in pieces that end at `cuts`, as a connection would.
fn follow(input: &[u8], cuts: &[usize]) -> Outcome {
    let mut framing = Framing::new(Limits::default());
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(input.len());
    let mut start = 0;
    for end in ends {
        held.extend_from_slice(&input[start..end]);
        start = end;
        while !held.is_empty() {
            match framing.advance(&held) {
                Ok(Step::Hold) => break,
                Ok(Step::Skip(length)) => drop(held.drain(..length)),
                Ok(Step::Pass(length)) => {
                    assert!(length > 0, "no progress");
                    passed.extend(held.drain(..length));
                }
                Err(violation) => {
                    return Outcome { passed, violation: Some(violation), is_between: false };
                }
            }
        }
    }
    let is_between = framing.is_between() && held.is_empty();
    Outcome { passed, violation: None, is_between }
}

fn violation(input: &[u8]) -> Option<Violation> {
    let whole = follow(input, &[]);
    let every_byte: Vec<_> = (0..input.len()).collect();
    assert_eq!(follow(input, &every_byte), whole, "it matters how this is split");
    whole.violation
}

fn is_whole(input: &[u8]) -> bool {
    violation(input).is_none() && follow(input, &[]).is_between
}

/// A request with these fields beside its Host.
fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n")
}

fn chunked(body: &str) -> String {
    with("transfer-encoding: chunked") + body
}

#[test]
fn sound_requests_pass_as_they_are() {
    let requests = [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\nHOST:\r\n\r\n".to_owned(),
        "M-SEARCH http://a:1/%20?q=%00#x HTTP/1.1\r\nHost:\t a \t\r\n\r\n".to_owned(),
        with("x: \u{e9}\t\u{ff}\r\ny:\r\nz: :"),
        with("content-length: 0"),
        with("Content-Length:  005 ") + "\n\r\0\n\r",
        chunked("0\r\n\r\n"),
        chunked("5;a=b;c=\"d e\"\r\n\r\n\0\r\n\r\n0000A\r\n0123456789\r\n0;x\r\nx-sum: 1\r\n\r\n"),
        with("TRANSFER-ENCODING:Chunked") + "0\r\n\r\n",
    ];
    for request in &requests {
        assert!(is_whole(request.as_bytes()), "{request:?}: {:?}", violation(request.as_bytes()));
        assert_eq!(follow(request.as_bytes(), &[]).passed, request.as_bytes());
    }
    let ahead = requests.concat();
    assert!(is_whole(ahead.as_bytes()));
    assert_eq!(follow(ahead.as_bytes(), &[]).passed, ahead.as_bytes());
}

/// RFC 9112 §2.2: what old clients send behind a body.
#[test]
fn empty_lines_ahead_of_a_request_are_dropped() {
    let outcome = follow(b"\r\n\r\nGET / HTTP/1.0\r\n\r\n\r\n", &[]);
    assert_eq!(outcome.passed, b"GET / HTTP/1.0\r\n\r\n");
    assert!(outcome.is_between);
    assert_eq!(violation(b"\nGET / HTTP/1.0\r\n\r\n"), Some(Violation::LineEnd));
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused() {
    let cases = [
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", Violation::LineEnd),
        ("GET / HTTP/1.1\r\nhost: a\n\r\n", Violation::LineEnd),
        ("GET / HTTP/1.1\r\nhost: a\r\n\n", Violation::LineEnd),
        ("GET / HTTP/1.1\r\rhost: a\r\n\r\n", Violation::RequestLine),
        ("GET / HTTP/1.1\r\nhost: a\rb: c\r\n\r\n", Violation::Control),
        ("GET / HTTP/1.1\r\nhost: a\0\r\n\r\n", Violation::Control),
        ("GET / HTTP/1.1\r\nhost: a\x7f\r\n\r\n", Violation::Control),
        ("GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n", Violation::Folded),
        ("GET / HTTP/1.1\r\n\thost: a\r\n\r\n", Violation::Folded),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", Violation::FieldName),
        ("GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n", Violation::FieldName),
        ("GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n", Violation::FieldName),
        ("GET / HTTP/1.1\r\nhost: a\r\nx\u{e9}: b\r\n\r\n", Violation::FieldName),
        ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", Violation::RequestLine),
        ("GET / a HTTP/1.1\r\nhost: a\r\n\r\n", Violation::RequestLine),
        ("GET /\u{e9} HTTP/1.1\r\nhost: a\r\n\r\n", Violation::RequestLine),
        ("GET / HTTP/1.1 \r\nhost: a\r\n\r\n", Violation::RequestLine),
        (" GET / HTTP/1.1\r\nhost: a\r\n\r\n", Violation::RequestLine),
        ("G(T / HTTP/1.1\r\nhost: a\r\n\r\n", Violation::RequestLine),
        ("GET\t/\tHTTP/1.1\r\nhost: a\r\n\r\n", Violation::RequestLine),
        ("GET /\r\n\r\n", Violation::RequestLine),
        ("GET / http/1.1\r\nhost: a\r\n\r\n", Violation::RequestLine),
        ("GET / HTTP/1.10\r\nhost: a\r\n\r\n", Violation::RequestLine),
        ("GET / HTTP/1.2\r\nhost: a\r\n\r\n", Violation::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Violation::Version),
        ("GET / HTTP/1.1\r\n\r\n", Violation::Host),
        ("GET / HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n", Violation::Host),
        ("GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", Violation::Host),
    ];
    for (input, expected) in cases {
        assert_eq!(violation(input.as_bytes()), Some(expected), "{input:?}");
        assert_eq!(follow(input.as_bytes(), &[]).passed, b"", "{input:?}");
    }
}

#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    let lengths = ["5, 5", "+5", "-5", "5 5", "0x5", "", "5;", "9223372036854775808"];
    for length in lengths {
        let input = with(&format!("content-length: {length}"));
        assert_eq!(violation(input.as_bytes()), Some(Violation::ContentLength), "{length:?}");
    }
    for fields in
        ["content-length: 5\r\nContent-Length: 5", "content-length: 5\r\ncontent-length: 6"]
    {
        assert_eq!(violation(with(fields).as_bytes()), Some(Violation::ContentLength));
    }
    let longest = with("content-length: 9223372036854775807");
    assert_eq!(violation(longest.as_bytes()), None);

    let codings = [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "chunked,",
        "\"chunked\"",
        "chunked;q=1",
        "chunked\u{e9}",
        "identity",
        "gzip, chunked",
        "",
    ];
    for coding in codings {
        let input = with(&format!("transfer-encoding: {coding}"));
        assert_eq!(violation(input.as_bytes()), Some(Violation::TransferEncoding), "{coding:?}");
    }
    let twice = with("transfer-encoding: chunked\r\ntransfer-encoding: chunked");
    assert_eq!(violation(twice.as_bytes()), Some(Violation::TransferEncoding));
    let old = "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(violation(old.as_bytes()), Some(Violation::TransferEncoding));

    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 0\r\ntransfer-encoding: chunked",
    ] {
        assert_eq!(violation(with(fields).as_bytes()), Some(Violation::TwoLengths), "{fields:?}");
    }
}

#[test]
fn chunks_that_can_be_read_in_two_ways_are_refused() {
    let cases = [
        ("0x5\r\nhello\r\n", Violation::ChunkSize),
        ("+5\r\nhello\r\n", Violation::ChunkSize),
        (" 5\r\nhello\r\n", Violation::ChunkSize),
        ("5 \r\nhello\r\n", Violation::ChunkSize),
        ("5 ;a\r\nhello\r\n", Violation::ChunkSize),
        (";a\r\nhello\r\n", Violation::ChunkSize),
        ("\r\nhello\r\n", Violation::ChunkSize),
        ("g\r\nhello\r\n", Violation::ChunkSize),
        ("00000000000000005\r\nhello\r\n", Violation::ChunkSize),
        ("8000000000000000\r\nhello\r\n", Violation::ChunkSize),
        ("5\nhello\r\n", Violation::LineEnd),
        ("5\rhello\r\n", Violation::ChunkSize),
        ("5;a\nhello\r\n", Violation::LineEnd),
        ("5;a\0\r\nhello\r\n", Violation::ChunkExtension),
        ("5;a\rb\r\nhello\r\n", Violation::ChunkExtension),
        ("5\r\nhello0\r\n", Violation::ChunkEnd),
        ("5\r\nhello\n0\r\n", Violation::ChunkEnd),
        ("5\r\nhello\r0\r\n", Violation::ChunkEnd),
        ("0\r\nhost: b\r\n\r\n", Violation::Trailers),
        ("0\r\nContent-Length: 5\r\n\r\n", Violation::Trailers),
        ("0\r\ntransfer-encoding: chunked\r\n\r\n", Violation::Trailers),
        ("0\r\nx : b\r\n\r\n", Violation::FieldName),
        ("0\r\nx: b\n\r\n", Violation::LineEnd),
        ("0\r\n b\r\n\r\n", Violation::Folded),
    ];
    for (body, expected) in cases {
        assert_eq!(violation(chunked(body).as_bytes()), Some(expected), "{body:?}");
    }
    assert_eq!(violation(chunked("7fffffffffffffff\r\n").as_bytes()), None);
}

#[test]
fn what_stands_outside_a_body_has_bounds() {
    let Limits { head_bytes, fields, trailer_bytes, extension_bytes } = Limits::default();
    let filled = |around: usize, total: usize| "x".repeat(total - around);

    let head = |total| with(&format!("x: {}", filled(with("x: ").len(), total)));
    assert!(is_whole(head(head_bytes).as_bytes()));
    assert_eq!(violation(head(head_bytes + 1).as_bytes()), Some(Violation::HeadTooLarge));
    let line = |total| format!("GET /{} HTTP/1.0\r\n", filled(16, total));
    assert_eq!(violation(line(head_bytes).as_bytes()), None);
    assert_eq!(violation(line(head_bytes + 1).as_bytes()), Some(Violation::TargetTooLong));

    let many = |count: usize| with("x: y\r\n".repeat(count - 1).trim_end());
    assert!(is_whole(many(fields).as_bytes()));
    assert_eq!(violation(many(fields + 1).as_bytes()), Some(Violation::TooManyFields));

    let trailers = |total| chunked(&format!("0\r\nx: {}\r\n\r\n", filled(7, total)));
    assert!(is_whole(trailers(trailer_bytes).as_bytes()));
    assert_eq!(violation(trailers(trailer_bytes + 1).as_bytes()), Some(Violation::Trailers));
    let many = |count: usize| chunked(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(count)));
    assert!(is_whole(many(fields).as_bytes()));
    assert_eq!(violation(many(fields + 1).as_bytes()), Some(Violation::Trailers));

    let extended = |total: usize| {
        let half = filled(1, total / 2);
        chunked(&format!("1;{half}\r\nx\r\n0;{}\r\n\r\n", filled(total / 2 + 1, total)))
    };
    assert!(is_whole(extended(extension_bytes).as_bytes()));
    let more = extended(extension_bytes + 1);
    assert_eq!(violation(more.as_bytes()), Some(Violation::ChunkExtension));
    let endless = chunked(&format!("1;{}", "x".repeat(extension_bytes + 18)));
    assert_eq!(violation(endless.as_bytes()), Some(Violation::ChunkExtension));
}

/// Every byte at every place of a value and of a target, so that none of eight is forgotten.
#[test]
fn each_byte_is_judged_wherever_it_stands() {
    for byte in 0..=u8::MAX {
        for place in 0..20 {
            let mut value = [b'x'; 20];
            value[place] = byte;
            let is_control = byte < b' ' && byte != b'\t' || byte == 0x7f;
            assert_eq!(fields::field(&[b"n:", &value[..]].concat()).is_err(), is_control);

            let line = [b"GET /", &value[..], b" HTTP/1.0\r\n\r\n"].concat();
            assert_eq!(violation(&line).is_none(), byte.is_ascii_graphic(), "{byte:#x} at {place}");
        }
    }
}

/// Pieces of requests, sound and not, so that random sequences get far.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let fixed = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.0\r\n",
        "host: a\r\n",
        "content-length: 3\r\n",
        "content-length: 0\r\n",
        "transfer-encoding: chunked\r\n",
        "x: y\r\n",
        "\r\n",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "0\r\n",
        "a;b=c\r\n0123456789\r\n",
        "\n",
        "\r",
        " ",
        ":",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    ]);
    prop_oneof![
        9 => fixed.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ]
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn verdicts_do_not_depend_on_how_the_input_is_split(
        input in input(),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let whole = follow(&input, &[]);
        prop_assert_eq!(&follow(&input, &cuts), &whole);
        let every_byte: Vec<_> = (0..input.len()).collect();
        prop_assert_eq!(&follow(&input, &every_byte), &whole);
    }

    /// What passes, the parser behind us reads in the same way.
    #[test]
    fn a_head_that_passes_is_one_to_httparse(input in input()) {
        let mut framing = Framing::new(Limits::default());
        let mut rest = &input[..];
        while !rest.is_empty() {
            let is_head = !framing.is_in_body();
            match framing.advance(rest) {
                Ok(Step::Pass(length)) => {
                    if is_head {
                        let mut fields = [httparse::EMPTY_HEADER; 100];
                        let parsed = httparse::Request::new(&mut fields).parse(&rest[..length]);
                        prop_assert_eq!(parsed, Ok(httparse::Status::Complete(length)));
                    }
                    rest = &rest[length..];
                }
                Ok(Step::Skip(length)) => rest = &rest[length..],
                Ok(Step::Hold) | Err(_) => break,
            }
        }
    }
}
