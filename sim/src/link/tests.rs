use std::collections::VecDeque;
use std::convert::Infallible;

use proxy::rng::stream;
use rand::TryRng;

use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Uniform numbers as they are written down, then 1, with which nothing is lost.
struct Script(VecDeque<f64>);

fn script(numbers: &[f64]) -> Script {
    Script(numbers.iter().copied().collect())
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let next = self.0.pop_front().unwrap_or(0.999_999);
        Ok((next * (1_u64 << 53) as f64) as u64 * (1 << 11))
    }

    fn try_fill_bytes(&mut self, _bytes: &mut [u8]) -> Result<(), Infallible> {
        unreachable!("nothing here draws bytes")
    }
}

/// A link of 5 ms each way with one fault.
fn link(window: Range<Duration>, way: Way, kind: LinkFaultKind) -> Schedule {
    Schedule::new(ms(5), vec![(window, LinkFault { way, kind })])
}

fn black_hole(window: Range<Duration>, way: Way) -> Schedule {
    link(window, way, LinkFaultKind::BlackHole)
}

/// When parts arrive, in milliseconds, with their segments.
fn arrivals(parts: &[Part]) -> Vec<(u128, usize)> {
    parts.iter().map(|part| (part.at.as_millis(), part.bytes.div_ceil(SEGMENT_BYTES))).collect()
}

/// What becomes of a flight of so many segments.
fn send(
    flow: &mut Flow,
    segments: usize,
    now: u64,
    on: &Schedule,
    draws: &[f64],
) -> Vec<(u128, usize)> {
    arrivals(&flow.send(segments * SEGMENT_BYTES, ms(now), on, &mut script(draws)).unwrap())
}

#[test]
fn what_is_not_disturbed_arrives_at_once() {
    let link = black_hole(s(1)..s(2), Way::Both);
    let mut flow = Flow::new(Direction::There);
    assert_eq!(send(&mut flow, 9, 999, &link, &[]), [(999, 9)]);
    assert_eq!(send(&mut flow, 1, 2000, &link, &[]), [(2000, 1)]);
}

#[test]
fn a_black_hole_is_left_by_a_timeout_that_doubles() {
    // Sent again after 200, 400, 800 … ms: at 1.2, 1.6, 2.4, 4.0 and 7.2 s.
    let mut flow = Flow::new(Direction::There);
    let link = black_hole(s(1)..s(5), Way::Both);
    assert_eq!(send(&mut flow, 9, 1000, &link, &[]), [(7200, 1), (7210, 8)]);
    // Between the end of the hole and the timeout, new bytes wait behind the old ones.
    assert_eq!(send(&mut flow, 1, 6000, &link, &[]), [(7210, 1)]);
    assert_eq!(send(&mut flow, 1, 7300, &link, &[]), [(7300, 1)]);
    // One millisecond before the hole, and after its end, nothing is held.
    assert_eq!(send(&mut Flow::new(Direction::There), 1, 999, &link, &[]), [(999, 1)]);
    assert_eq!(send(&mut Flow::new(Direction::There), 1, 5000, &link, &[]), [(5000, 1)]);
}

#[test]
fn a_black_hole_has_a_way() {
    let hole = |way| black_hole(s(0)..ms(100), way);
    let arrival = |way, direction| send(&mut Flow::new(direction), 1, 50, &hole(way), &[]);
    let (held, free) = ([(250, 1)], [(50, 1)]);
    assert_eq!(arrival(Way::Requests, Direction::There), held);
    assert_eq!(arrival(Way::Requests, Direction::Back), free);
    assert_eq!(arrival(Way::Responses, Direction::There), free);
    assert_eq!(arrival(Way::Responses, Direction::Back), held);
    assert_eq!(arrival(Way::Both, Direction::Back), held);
}

#[test]
fn a_lost_segment_holds_those_behind_it() {
    let link = link(s(0)..s(100), Way::Both, LinkFaultKind::Loss(0.1));
    let mut flow = Flow::new(Direction::Back);
    // The second of three is lost: too few behind it tell of it, so the timeout does.
    assert_eq!(send(&mut flow, 3, 0, &link, &[0.5, 0.05, 0.5]), [(0, 1), (200, 2)]);
    // In the meantime another flight arrives, and waits.
    assert_eq!(send(&mut flow, 1, 100, &link, &[0.5]), [(200, 1)]);
    // Lost behind the gap: sent again when the sender has heard of 200 ms, at 210 ms.
    assert_eq!(send(&mut flow, 1, 150, &link, &[0.05]), [(210, 1)]);
    // Lost once more on its second way: 200 ms, then 400 ms.
    assert_eq!(send(&mut flow, 1, 1000, &link, &[0.05, 0.05]), [(1600, 1)]);
}

#[test]
fn three_segments_behind_a_gap_repair_it_in_a_round_trip() {
    let link = link(s(0)..s(100), Way::Both, LinkFaultKind::Loss(0.1));
    let lost = |behind: usize| {
        let draws: Vec<_> = [0.05].into_iter().chain(vec![0.5; behind]).collect();
        send(&mut Flow::new(Direction::There), behind + 1, 0, &link, &draws)
    };
    assert_eq!(lost(2), [(200, 3)]);
    assert_eq!(lost(3), [(10, 4)]);
    // Two gaps are told of at the same time.
    let draws = [0.05, 0.05, 0.5, 0.5, 0.5];
    let mut flow = Flow::new(Direction::There);
    assert_eq!(send(&mut flow, 5, 0, &link, &draws), [(10, 5)]);
}

#[test]
fn a_long_way_has_a_long_timeout() {
    let delay = LinkFaultKind::Delay { latency: ms(50), jitter: ms(20) };
    let window = || s(0)..s(100);
    let both = |kind| (window(), LinkFault { way: Way::Both, kind });
    let link = Schedule::new(ms(5), vec![both(delay), both(LinkFaultKind::Loss(0.1))]);
    let mut flow = Flow::new(Direction::There);
    // Half of the jitter: 60 ms.
    assert_eq!(send(&mut flow, 1, 0, &link, &[0.5, 0.5]), [(60, 1)]);
    // A round trip is at most 150 ms, so the timeout is 450 ms.
    assert_eq!(send(&mut flow, 1, 1000, &link, &[0.05, 0.5, 0.0]), [(1500, 1)]);
}

#[test]
fn jitter_does_not_change_the_order() {
    let delay = LinkFaultKind::Delay { latency: ms(0), jitter: ms(100) };
    let link = link(s(0)..s(100), Way::Both, delay);
    let mut flow = Flow::new(Direction::There);
    assert_eq!(send(&mut flow, 1, 0, &link, &[0.9]), [(90, 1)]);
    assert_eq!(send(&mut flow, 1, 10, &link, &[0.1]), [(90, 1)]);
    assert_eq!(send(&mut flow, 1, 50, &link, &[0.5]), [(100, 1)]);
}

#[test]
fn a_connection_is_given_up_after_fifteen_repetitions() {
    let forever = black_hole(s(0)..s(10_000), Way::Both);
    let sent = Flow::new(Direction::There).send(1, s(0), &forever, &mut script(&[]));
    // 0.2 s doubled up to 120 s: 0.2 × (2^10 − 1) = 204.6, then five times and the last wait 120 s.
    assert_eq!(sent, Err(GivenUp { at: ms(204_600 + 6 * 120_000) }));
}

#[test]
fn a_syn_is_sent_again_after_one_three_and_seven_seconds() {
    let connect = |way, until: Duration, now: u64| {
        black_hole(s(0)..until, way).connect(ms(now), &mut script(&[])).map(|shake| shake.syn)
    };
    assert_eq!(connect(Way::Both, ms(1), 0), Ok(s(1)));
    assert_eq!(connect(Way::Requests, ms(2900), 0), Ok(s(3)));
    assert_eq!(connect(Way::Responses, ms(3001), 0), Ok(s(7)), "the answer is lost as well");
    assert_eq!(connect(Way::Both, ms(3000), 500), Ok(ms(3500)));
    assert_eq!(connect(Way::Both, s(63), 0), Ok(s(63)));
    assert_eq!(connect(Way::Both, s(64), 0), Err(GivenUp { at: s(127) }));
    let delay = LinkFaultKind::Delay { latency: ms(50), jitter: ms(0) };
    let shake = link(s(0)..s(1), Way::Responses, delay).connect(ms(7), &mut script(&[]));
    assert_eq!(shake, Ok(Handshake { syn: ms(7), answer: ms(50) }));
}

#[test]
fn losses_are_as_many_as_they_should_be() {
    let link = link(s(0)..s(100_000), Way::Both, LinkFaultKind::Loss(0.05));
    let mut rng = stream(1, "link");
    let late = |n: &u64| {
        let mut flow = Flow::new(Direction::There);
        let parts = flow.send(100, s(*n), &link, &mut rng).unwrap();
        parts[0].at > s(*n)
    };
    let late = (0..20_000).filter(late).count();
    // 1000 expected, with a standard deviation of 31.
    assert!((850..1150).contains(&late), "{late}");
}
