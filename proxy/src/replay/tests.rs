//! Attempts over bodies that come in every order of pieces, pauses and failures.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt as _, Empty, Full};
use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use super::*;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the caller left")]
struct CallerLeft;

/// What an attempt got with one frame.
#[derive(Clone, Debug, PartialEq)]
enum Got {
    Data(String),
    Trailers(HeaderMap),
    End,
    Pending,
    Failed(&'static str),
}

fn data(text: &str) -> Got {
    Got::Data(text.to_owned())
}

fn next<B>(body: &mut ReplayBody<B>) -> Got
where
    B: Body<Data = Bytes, Error = CallerLeft> + Unpin,
{
    match body.frame().now_or_never() {
        None => Got::Pending,
        Some(None) => Got::End,
        Some(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) => Got::Data(String::from_utf8_lossy(&data).into_owned()),
            Err(frame) => Got::Trailers(frame.into_trailers().unwrap_or_default()),
        },
        Some(Some(Err(error))) => Got::Failed(match error {
            ReplayError::Stream(CallerLeft) => "stream",
            ReplayError::Broken => "broken",
            ReplayError::TooLarge { .. } => "too large",
            ReplayError::Superseded => "superseded",
        }),
    }
}

/// All that an attempt gets until it ends, fails or waits; data in one piece.
fn rest<B>(body: &mut ReplayBody<B>) -> (String, Vec<Got>)
where
    B: Body<Data = Bytes, Error = CallerLeft> + Unpin,
{
    let mut text = String::new();
    let mut others = Vec::new();
    loop {
        match next(body) {
            Got::Data(piece) => text += &piece,
            Got::Trailers(trailers) => others.push(Got::Trailers(trailers)),
            last => {
                others.push(last);
                return (text, others);
            }
        }
    }
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("1"))])
}

fn channel() -> (Sender<Bytes, CallerLeft>, Channel<Bytes, CallerLeft>) {
    Channel::new(2 * MAX_CHUNKS)
}

fn send(sender: &mut Sender<Bytes, CallerLeft>, text: &'static str) {
    sender.try_send(Frame::data(Bytes::from_static(text.as_bytes()))).expect("there is room");
}

/// A body that knows its length, or not.
struct Scripted {
    frames: VecDeque<Frame<Bytes>>,
    knows_length: bool,
}

impl Scripted {
    fn new(chunks: &[Vec<u8>], trailers: Option<HeaderMap>, knows_length: bool) -> Self {
        let data = chunks.iter().map(|chunk| Frame::data(Bytes::copy_from_slice(chunk)));
        Self { frames: data.chain(trailers.map(Frame::trailers)).collect(), knows_length }
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = CallerLeft;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallerLeft>>> {
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.knows_length && self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.frames.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64);
        if self.knows_length { SizeHint::with_exact(left.sum()) } else { SizeHint::default() }
    }
}

#[test]
fn an_empty_body_costs_nothing_and_is_always_at_its_end() {
    let replay = Replay::new(Empty::<Bytes>::new(), 10);
    assert!(replay.0.is_none(), "it was allocated");
    for _ in 0..2 {
        let attempt = replay.attempt();
        assert!(attempt.is_end_stream());
        assert_eq!(attempt.size_hint().exact(), Some(0));
    }
    assert_eq!(replay.state(), BodyState::Replayable);
    assert!(replay.is_complete());
}

#[test]
fn a_first_attempt_streams_as_if_nobody_listened() {
    let (mut sender, body) = channel();
    let replay = Replay::new(body, 10);
    let mut first = replay.attempt();
    assert_eq!(next(&mut first), Got::Pending);
    send(&mut sender, "ab");
    assert_eq!(next(&mut first), data("ab"));
    assert_eq!(next(&mut first), Got::Pending);
    drop(sender);
    assert_eq!(next(&mut first), Got::End);
    assert_eq!(next(&mut first), Got::End);
}

#[test]
fn a_second_attempt_goes_on_where_the_stream_is() {
    let (mut sender, body) = channel();
    let replay = Replay::new(body, 10);
    let mut first = replay.attempt();
    send(&mut sender, "ab");
    send(&mut sender, "cd");
    assert_eq!(next(&mut first), data("ab"));
    drop(first);
    let mut second = replay.attempt();
    assert_eq!(rest(&mut second), ("abcd".to_owned(), vec![Got::Pending]));
    send(&mut sender, "ef");
    drop(sender);
    assert_eq!(rest(&mut second), ("ef".to_owned(), vec![Got::End]));
    assert_eq!(rest(&mut replay.attempt()), ("abcdef".to_owned(), vec![Got::End]));
}

#[test]
fn an_attempt_that_was_not_polled_loses_nothing() {
    let (mut sender, body) = channel();
    let replay = Replay::new(body, 10);
    drop(replay.attempt());
    send(&mut sender, "ab");
    drop(sender);
    assert_eq!(rest(&mut replay.attempt()), ("ab".to_owned(), vec![Got::End]));
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_attempt_that_waits_hears_that_a_newer_one_reads() {
    let (mut sender, body) = channel();
    let replay = Replay::new(body, 10);
    let mut first = replay.attempt();
    send(&mut sender, "ab");
    assert_eq!(next(&mut first), data("ab"));
    let woken = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    assert!(Pin::new(&mut first).poll_frame(&mut Context::from_waker(&waker)).is_pending());
    assert!(!woken.0.load(Ordering::Relaxed));

    let mut second = replay.attempt();
    assert!(woken.0.load(Ordering::Relaxed));
    assert_eq!(next(&mut first), Got::Failed("superseded"));
    assert_eq!(next(&mut first), Got::End);
    send(&mut sender, "cd");
    drop(sender);
    assert_eq!(rest(&mut second), ("abcd".to_owned(), vec![Got::End]));
}

#[test]
fn the_newest_attempt_is_woken_when_the_caller_sends() {
    let (mut sender, body) = channel();
    let replay = Replay::new(body, 10);
    let mut first = replay.attempt();
    assert_eq!(next(&mut first), Got::Pending);
    let mut second = replay.attempt();
    let woken = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    assert!(Pin::new(&mut second).poll_frame(&mut Context::from_waker(&waker)).is_pending());
    // Not even if the old one is polled in between.
    assert_eq!(next(&mut first), Got::Failed("superseded"));
    send(&mut sender, "ab");
    assert!(woken.0.load(Ordering::Relaxed));
    assert_eq!(next(&mut second), data("ab"));
}

#[test]
fn hedges_read_side_by_side_once_the_body_is_complete() {
    let (mut sender, body) = channel();
    let replay = Replay::new(body, 10);
    let mut first = replay.attempt();
    send(&mut sender, "ab");
    send(&mut sender, "cd");
    assert_eq!(next(&mut first), data("ab"));
    assert_eq!(next(&mut first), data("cd"));
    assert!(!replay.is_complete());
    drop(sender);
    assert_eq!(next(&mut first), Got::End);
    assert!(replay.is_complete());
    let (mut second, mut third) = (replay.attempt(), replay.attempt());
    assert_eq!(next(&mut second), data("ab"));
    assert_eq!(rest(&mut third), ("abcd".to_owned(), vec![Got::End]));
    drop(replay);
    assert_eq!(rest(&mut second), ("cd".to_owned(), vec![Got::End]));
}

#[test]
fn as_much_as_the_limit_is_kept_and_not_one_byte_more() {
    for (text, is_kept) in [("12345678", true), ("123456789", false)] {
        for pieces in 1..=4 {
            let (mut sender, body) = channel();
            let replay = Replay::new(body, 8);
            let mut first = replay.attempt();
            for piece in text.as_bytes().chunks(text.len().div_ceil(pieces)) {
                sender.try_send(Frame::data(Bytes::from_static(piece))).expect("there is room");
            }
            drop(sender);
            // Whoever reads it gets all of it either way.
            assert_eq!(rest(&mut first), (text.to_owned(), vec![Got::End]));
            let mut second = replay.attempt();
            if is_kept {
                assert_eq!(replay.state(), BodyState::Replayable);
                assert_eq!(rest(&mut second), (text.to_owned(), vec![Got::End]));
            } else {
                assert_eq!(replay.state(), BodyState::TooLarge { limit: 8 });
                assert!(!replay.is_complete());
                assert!(!second.is_end_stream());
                assert_eq!(rest(&mut second), (String::new(), vec![Got::Failed("too large")]));
            }
        }
    }
}

#[test]
fn an_attempt_that_began_with_what_was_kept_outgrows_the_limit_too() {
    let (mut sender, body) = channel();
    let replay = Replay::new(body, 3);
    send(&mut sender, "ab");
    assert_eq!(next(&mut replay.attempt()), data("ab"));
    let mut second = replay.attempt();
    send(&mut sender, "cd");
    send(&mut sender, "ef");
    assert_eq!(rest(&mut second), ("abcdef".to_owned(), vec![Got::Pending]));
    assert_eq!(replay.state(), BodyState::TooLarge { limit: 3 });
    // A third takes the stream away, and can do nothing with it.
    let mut third = replay.attempt();
    assert_eq!(next(&mut third), Got::Failed("too large"));
    assert_eq!(next(&mut second), Got::Failed("superseded"));
}

#[test]
fn a_body_that_says_it_is_too_long_is_not_kept_but_may_be_sent_if_it_was_not_read() {
    let chunks = [b"abc".to_vec(), b"def".to_vec()];
    let replay = Replay::new(Scripted::new(&chunks, None, true), 5);
    drop(replay.attempt());
    assert_eq!(replay.state(), BodyState::Replayable);
    let mut second = replay.attempt();
    assert_eq!(next(&mut second), data("abc"));
    assert_eq!(replay.state(), BodyState::TooLarge { limit: 5 });
    assert_eq!(second.size_hint().exact(), Some(3));
    assert_eq!(next(&mut second), data("def"));
    assert!(second.is_end_stream());
}

#[test]
fn a_body_in_too_many_pieces_is_not_kept() {
    for (pieces, is_kept) in [(MAX_CHUNKS, true), (MAX_CHUNKS + 1, false)] {
        let (mut sender, body) = channel();
        let replay = Replay::new(body, usize::MAX);
        (0..pieces).for_each(|_| send(&mut sender, "x"));
        drop(sender);
        let all = "x".repeat(pieces);
        assert_eq!(rest(&mut replay.attempt()), (all, vec![Got::End]));
        assert_eq!(replay.state() == BodyState::Replayable, is_kept, "{pieces} pieces");
    }
}

#[test]
fn trailers_are_sent_again_also_without_data() {
    for text in ["", "ab"] {
        let (mut sender, body) = channel();
        let replay = Replay::new(body, 10);
        if !text.is_empty() {
            send(&mut sender, text);
        }
        sender.try_send(Frame::trailers(trailers())).expect("there is room");
        for _ in 0..3 {
            let mut attempt = replay.attempt();
            assert!(!attempt.is_end_stream());
            let expected = vec![Got::Trailers(trailers()), Got::End];
            assert_eq!(rest(&mut attempt), (text.to_owned(), expected));
            assert!(attempt.is_end_stream());
            assert!(replay.is_complete());
        }
    }
}

#[test]
fn a_stream_that_failed_fails_every_later_attempt_at_once() {
    let (mut sender, body) = channel();
    let replay = Replay::new(body, 10);
    let mut first = replay.attempt();
    send(&mut sender, "ab");
    assert_eq!(next(&mut first), data("ab"));
    sender.abort(CallerLeft);
    assert_eq!(next(&mut first), Got::Failed("stream"));
    assert_eq!(next(&mut first), Got::End);
    assert_eq!(replay.state(), BodyState::Broken);
    assert!(!replay.is_complete());
    for _ in 0..2 {
        let mut later = replay.attempt();
        assert!(!later.is_end_stream());
        assert_eq!(rest(&mut later), (String::new(), vec![Got::Failed("broken")]));
    }
}

#[test]
fn a_whole_body_that_knows_its_length_is_complete_with_its_last_byte() {
    let body = Full::new(Bytes::from_static(b"abc")).map_err(|never| match never {});
    let replay = Replay::new(body.map_err(|_: CallerLeft| CallerLeft), 3);
    let mut first = replay.attempt();
    assert_eq!(first.size_hint().exact(), Some(3));
    assert_eq!(next(&mut first), data("abc"));
    assert!(first.is_end_stream() && replay.is_complete());
    assert_eq!(replay.attempt().size_hint().exact(), Some(3));
}

#[test]
fn without_another_attempt_to_come_nothing_is_kept() {
    let (mut sender, body) = channel();
    let replay = Replay::new(body, 10);
    let mut only = replay.attempt();
    let chunk = Bytes::from(vec![b'a', b'b']);
    sender.try_send(Frame::data(chunk.clone())).expect("there is room");
    assert_eq!(next(&mut only), data("ab"));
    assert!(!chunk.is_unique(), "it was not kept for a retry");
    drop(replay);
    send(&mut sender, "cd");
    assert_eq!(next(&mut only), data("cd"));
    assert!(chunk.is_unique(), "it is kept for nobody");
    drop(sender);
    assert_eq!(next(&mut only), Got::End);
}

proptest! {
    /// However a body comes in pieces, and wherever each attempt is given up, the last attempt
    /// gets exactly the body; hints are exact whenever the stream's are; and nobody is told that
    /// the end is there before it is.
    #[test]
    fn every_attempt_gets_the_same_bytes(
        chunks in prop::collection::vec(prop::collection::vec(b'a'..=b'z', 0..5), 0..8),
        has_trailers: bool, knows_length: bool,
        given_up_after in prop::collection::vec(0..10_usize, 0..5), spare in 0..3_usize,
    ) {
        let all = String::from_utf8(chunks.concat())?;
        let tail = has_trailers.then(trailers);
        // At the limit, and above it.
        let limit = all.len() + spare;
        let replay = Replay::new(Scripted::new(&chunks, tail.clone(), knows_length), limit);
        for frames in given_up_after.into_iter().chain([usize::MAX]) {
            let mut attempt = replay.attempt();
            let mut text = String::new();
            let mut got_trailers = None;
            for _ in 0..frames {
                let left = (all.len() - text.len()) as u64;
                let (lower, upper) = (attempt.size_hint().lower(), attempt.size_hint().upper());
                prop_assert!(lower <= left && upper.is_none_or(|upper| upper >= left));
                prop_assert!(!knows_length || lower == left && upper == Some(left));
                let says_end = attempt.is_end_stream();
                match next(&mut attempt) {
                    Got::Data(piece) => text += &piece,
                    Got::Trailers(map) => got_trailers = Some(map),
                    Got::End => break,
                    other => prop_assert!(false, "{other:?}"),
                }
                prop_assert!(!says_end, "there was more after the end");
            }
            prop_assert!(all.starts_with(&text));
            if frames == usize::MAX {
                prop_assert_eq!(&text, &all);
                prop_assert_eq!(got_trailers, tail.clone());
                prop_assert!(replay.is_complete() && attempt.is_end_stream());
            }
            prop_assert_eq!(replay.state(), BodyState::Replayable);
        }
    }
}
