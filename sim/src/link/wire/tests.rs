use std::ops::Range;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::*;
use crate::link::{LinkFault, LinkFaultKind, Way};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn link(faults: Vec<(Range<Duration>, LinkFault)>) -> Arc<Link> {
    let schedule = Schedule::new(ms(1), faults);
    Arc::new(Link::new(schedule, Clock::start(), (1, "a/b")))
}

fn both(kind: LinkFaultKind) -> LinkFault {
    LinkFault { way: Way::Both, kind }
}

/// The caller's end of a connection over a link, and the instance's.
async fn connected(link: &Arc<Link>) -> (BoxedIo, DuplexStream) {
    let (far, instance) = duplex(BUFFER_BYTES);
    let caller = link.clone().connect(|| async { Ok::<_, io::Error>(far) }).await.unwrap();
    (caller, instance)
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_end_of_a_black_hole() {
    let way = LinkFault { way: Way::Responses, kind: LinkFaultKind::BlackHole };
    let link = link(vec![(ms(100)..ms(500), way)]);
    let begin = Instant::now();
    let (mut caller, mut instance) = connected(&link).await;
    tokio::time::sleep(ms(150)).await;
    caller.write_all(b"question").await.unwrap();
    let mut buffer = [0; 8];
    instance.read_exact(&mut buffer).await.unwrap();
    assert_eq!(begin.elapsed(), ms(150), "the other way is open");
    instance.write_all(b"answer").await.unwrap();
    caller.read_exact(&mut buffer[..6]).await.unwrap();
    // Sent again after 200 and 400 ms.
    assert_eq!((&buffer[..6], begin.elapsed()), (&b"answer"[..], ms(750)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_is_missed_when_its_last_segment_arrives() {
    let delay = LinkFaultKind::Delay { latency: ms(30), jitter: ms(0) };
    let link = link(vec![(ms(0)..ms(10_000), both(delay))]);
    let begin = Instant::now();
    let (mut caller, mut instance) = connected(&link).await;
    assert_eq!(begin.elapsed(), ms(60));
    caller.write_all(b"last words").await.unwrap();
    drop(caller);
    let mut all = Vec::new();
    instance.read_to_end(&mut all).await.unwrap();
    assert_eq!((all.as_slice(), begin.elapsed()), (&b"last words"[..], ms(90)));
    assert!(instance.write_all(&[0; 1024 * 1024]).await.is_err(), "nobody is there");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_is_heard_of_behind_its_last_bytes() {
    let link = link(vec![(ms(0)..ms(10), both(LinkFaultKind::BlackHole))]);
    let (mut caller, mut instance) = connected(&link).await;
    instance.write_all(b"half an ans").await.unwrap();
    drop(instance);
    let mut all = Vec::new();
    caller.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"half an ans");
}

#[tokio::test(start_paused = true)]
async fn who_sends_faster_than_the_other_reads_has_to_wait() {
    let loss = LinkFaultKind::Loss(0.0);
    let link = link(vec![(ms(0)..ms(10), both(loss))]);
    let (mut caller, instance) = connected(&link).await;
    let sending = async {
        let chunk = [0; 1024];
        let mut sent = 0;
        while tokio::time::timeout(ms(1), caller.write_all(&chunk)).await.is_ok() {
            sent += chunk.len();
        }
        sent
    };
    let sent = sending.await;
    let most = 2 * BUFFER_BYTES + WINDOW_BYTES + 2 * FLIGHT_BYTES;
    assert!((BUFFER_BYTES..=most).contains(&sent), "{sent}");
    drop(instance);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_come_about_times_out() {
    let link = link(vec![(ms(0)..ms(1_000_000), both(LinkFaultKind::BlackHole))]);
    let begin = Instant::now();
    let refused = link.connect(|| async { Ok::<_, io::Error>(duplex(1).0) }).await;
    assert_eq!(refused.err().map(|e| e.kind()), Some(io::ErrorKind::TimedOut));
    assert_eq!(begin.elapsed(), ms(127_000));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_given_up_breaks() {
    let link = link(vec![(ms(1)..ms(10_000_000), both(LinkFaultKind::BlackHole))]);
    let (mut caller, mut instance) = connected(&link).await;
    tokio::time::sleep(ms(10)).await;
    caller.write_all(b"lost").await.unwrap();
    let mut all = Vec::new();
    caller.read_to_end(&mut all).await.unwrap();
    assert!(all.is_empty());
    instance.read_to_end(&mut all).await.unwrap();
    assert!(all.is_empty());
}

fn faults() -> impl Strategy<Value = Vec<(Range<Duration>, LinkFault)>> {
    let way = prop_oneof![Just(Way::Both), Just(Way::Requests), Just(Way::Responses)];
    let kind = prop_oneof![
        Just(LinkFaultKind::BlackHole),
        (0.0..0.6).prop_map(LinkFaultKind::Loss),
        (0_u64..300, 0_u64..300).prop_map(|(latency, jitter)| LinkFaultKind::Delay {
            latency: ms(latency),
            jitter: ms(jitter)
        }),
    ];
    let fault = (0_u64..5000, 1_u64..5000, way, kind)
        .prop_map(|(at, length, way, kind)| (ms(at)..ms(at + length), LinkFault { way, kind }));
    proptest::collection::vec(fault, 0..6)
}

/// Pieces to send, each after a pause in milliseconds.
fn pieces() -> impl Strategy<Value = Vec<(u64, usize)>> {
    proptest::collection::vec((0_u64..400, 1_usize..20_000), 1..25)
}

/// Sends pieces, and then the end of the stream; bytes are counted on, so that each says its place.
async fn say<W: AsyncWrite + Unpin>(mut to: W, pieces: &[(u64, usize)]) {
    let mut place = 0_usize;
    for (pause, length) in pieces {
        tokio::time::sleep(ms(*pause)).await;
        let piece: Vec<_> = (place..place + length).map(|n| (n % 251) as u8).collect();
        to.write_all(&piece).await.unwrap();
        place += length;
    }
    to.shutdown().await.unwrap();
}

async fn hear<R: AsyncRead + Unpin>(mut from: R) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.unwrap();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever goes wrong and ends: each byte arrives once and in order, in both directions, and so
    /// do both ends of the stream.
    #[test]
    fn each_byte_arrives_once_and_in_order(
        faults in faults(),
        questions in pieces(),
        answers in pieces(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (heard_there, heard_back) = runtime.block_on(async {
            let link = link(faults);
            let (caller, instance) = connected(&link).await;
            let (caller_in, caller_out) = split(caller);
            let (instance_in, instance_out) = split(instance);
            let (heard_there, heard_back, (), ()) = tokio::join!(
                hear(instance_in),
                hear(caller_in),
                say(caller_out, &questions),
                say(instance_out, &answers),
            );
            (heard_there, heard_back)
        });
        for (heard, pieces) in [(heard_there, questions), (heard_back, answers)] {
            let sent: usize = pieces.iter().map(|(_, length)| length).sum();
            prop_assert_eq!(heard.len(), sent);
            prop_assert!(heard.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
        }
    }
}
