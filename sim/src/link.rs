//! Links that lose, delay and swallow, as TCP lets those notice who use it. Pure; the shell that
//! moves bytes is [`wire`].
//!
//! An application never sees a lost segment. It sees that bytes are late, and that those behind
//! them are late too, because TCP delivers in order. So a link is modelled by *when* bytes arrive:
//!
//! - What is lost, or sent into a black hole, is sent again after a retransmission timeout (RFC
//!   6298). That is 3 round trips, which is what section 2.2 sets after the first measurement, but at
//!   least 200 ms, which is Linux's floor where section 2.4 has a second. It doubles each time
//!   (section 5.5), up to 2 minutes. After 15 times the connection is given up (Linux's
//!   `tcp_retries2`).
//! - If three later segments of the same flight arrive, their acknowledgements tell of the gap, and
//!   the segment is sent again after one round trip (fast retransmit, RFC 5681 section 3.2).
//! - What else is lost behind a gap that a timeout fills is sent again when the sender has heard of
//!   that, a round trip later: selective acknowledgements tell it what is missing (RFC 6675).
//! - A SYN, or its answer, that is lost is sent again after 1 s, 3 s, 7 s … (RFC 6298, sections 2.1
//!   and 5.5), and given up at 127 s (Linux's `tcp_syn_retries`).
//!
//! Not modelled: bandwidth, the congestion window, and lost acknowledgements, which the ones behind
//! them stand in for. Times here come on top of what the network itself takes.

pub mod wire;

use std::ops::Range;
use std::time::Duration;

use rand::{Rng, RngExt as _};

/// Bytes of a segment: an Ethernet frame's, without the headers of IPv4 and TCP.
pub const SEGMENT_BYTES: usize = 1460;
/// The shortest time after which something is sent again: Linux's `TCP_RTO_MIN`.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(200);
/// The longest: Linux's `TCP_RTO_MAX`.
const MAX_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a segment is sent again before the connection is given up.
pub const MOST_RETRANSMISSIONS: u32 = 15;
/// After which a SYN is sent again for the first time.
pub const SYN_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a SYN is sent again.
pub const MOST_SYN_RETRIES: u32 = 6;
/// Later segments of a flight that tell of a gap.
const DUPLICATES: usize = 3;

/// What a link does to what is sent over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkFault {
    /// On which way.
    pub way: Way,
    /// What.
    pub kind: LinkFaultKind,
}

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinkFaultKind {
    /// Nothing arrives.
    BlackHole,
    /// A segment is lost with this probability, 0 to 1.
    Loss(f64),
    /// A segment takes longer.
    Delay {
        /// By this.
        latency: Duration,
        /// And by a part of this, uniformly distributed.
        jitter: Duration,
    },
}

/// One way over a link, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// There and back.
    #[default]
    Both,
    /// From the caller to the instance.
    Requests,
    /// From the instance to the caller.
    Responses,
}

/// One way over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the caller to the instance.
    There,
    /// From the instance to the caller.
    Back,
}

impl Direction {
    fn reverse(self) -> Self {
        match self {
            Direction::There => Direction::Back,
            Direction::Back => Direction::There,
        }
    }
}

/// The connection was given up: nothing came through for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// When, from the start of the run.
    pub at: Duration,
}

/// All that goes wrong on one link in a run. Times are from the start of the run.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// What one way takes when all is well.
    latency: Duration,
    faults: Vec<(Range<Duration>, LinkFault)>,
}

impl Schedule {
    /// A link that takes `latency` each way, and its faults.
    pub fn new(latency: Duration, faults: Vec<(Range<Duration>, LinkFault)>) -> Self {
        Self { latency, faults }
    }

    fn active(&self, direction: Direction, at: Duration) -> impl Iterator<Item = LinkFaultKind> {
        let concerns = move |way| match direction {
            Direction::There => way != Way::Responses,
            Direction::Back => way != Way::Requests,
        };
        let faults = self.faults.iter().filter(move |(window, _)| window.contains(&at));
        faults.filter(move |(_, fault)| concerns(fault.way)).map(|(_, fault)| fault.kind)
    }

    fn is_open(&self, direction: Direction, at: Duration) -> bool {
        self.active(direction, at).all(|kind| kind != LinkFaultKind::BlackHole)
    }

    /// Whether what is sent at this instant arrives.
    fn passes(&self, direction: Direction, at: Duration, rng: &mut impl Rng) -> bool {
        let lost = |kind| match kind {
            LinkFaultKind::BlackHole => true,
            LinkFaultKind::Loss(probability) => rng.random::<f64>() < probability,
            LinkFaultKind::Delay { .. } => false,
        };
        !self.active(direction, at).any(lost)
    }

    /// By how much longer it takes than the network itself.
    fn delay(&self, direction: Direction, at: Duration, rng: &mut impl Rng) -> Duration {
        let of = |kind| match kind {
            LinkFaultKind::Delay { latency, jitter } if jitter.is_zero() => latency,
            LinkFaultKind::Delay { latency, jitter } => latency + jitter.mul_f64(rng.random()),
            LinkFaultKind::BlackHole | LinkFaultKind::Loss(_) => Duration::ZERO,
        };
        self.active(direction, at).map(of).sum()
    }

    /// The longest time there and back of something that is sent at this instant.
    fn round_trip(&self, at: Duration) -> Duration {
        let longest = |kind| match kind {
            LinkFaultKind::Delay { latency, jitter } => latency + jitter,
            LinkFaultKind::BlackHole | LinkFaultKind::Loss(_) => Duration::ZERO,
        };
        let one_way = |direction| -> Duration { self.active(direction, at).map(longest).sum() };
        2 * self.latency + one_way(Direction::There) + one_way(Direction::Back)
    }

    /// When the SYN of a connection that is opened `now` gets through, and by how much its answer
    /// is delayed.
    ///
    /// # Errors
    /// When neither it nor any repetition does.
    pub fn connect(&self, now: Duration, rng: &mut impl Rng) -> Result<Handshake, GivenUp> {
        let (mut at, mut timeout) = (now, SYN_TIMEOUT);
        for _ in 0..=MOST_SYN_RETRIES {
            if self.passes(Direction::There, at, rng) && self.passes(Direction::Back, at, rng) {
                return Ok(Handshake {
                    syn: at + self.delay(Direction::There, at, rng),
                    answer: self.delay(Direction::Back, at, rng),
                });
            }
            at += timeout;
            timeout *= 2;
        }
        Err(GivenUp { at })
    }
}

/// How a connection comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// When the SYN leaves for the network behind the link, from the start of the run.
    pub syn: Duration,
    /// By how much the answer is delayed.
    pub answer: Duration,
}

/// One direction of one connection.
#[derive(Clone, Debug)]
pub struct Flow {
    direction: Direction,
    /// When the last byte so far arrives.
    arrived: Duration,
    /// When the sender hears that the last gap so far has been filled.
    filled: Duration,
}

/// A part of what was sent, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many bytes.
    pub bytes: usize,
    /// When they arrive, from the start of the run.
    pub at: Duration,
}

impl Flow {
    /// A direction in which nothing was sent yet.
    pub fn new(direction: Direction) -> Self {
        Self { direction, arrived: Duration::ZERO, filled: Duration::ZERO }
    }

    /// When the bytes of a flight that is sent `now` arrive: in parts, none before the one before
    /// it. No bytes at all are the end of the stream, which is a segment too.
    ///
    /// # Errors
    /// When the connection is given up because one of its segments does not get through. Nothing
    /// must be sent after it.
    pub fn send(
        &mut self,
        bytes: usize,
        now: Duration,
        schedule: &Schedule,
        rng: &mut impl Rng,
    ) -> Result<Vec<Part>, GivenUp> {
        let segments = bytes.div_ceil(SEGMENT_BYTES).max(1);
        let passed: Vec<_> =
            (0..segments).map(|_| schedule.passes(self.direction, now, rng)).collect();
        let mut heard = passed.iter().filter(|passed| **passed).count();
        let mut parts: Vec<Part> = Vec::new();
        for (place, passed) in passed.into_iter().enumerate() {
            let sent = if passed {
                heard -= 1;
                now
            } else {
                let told = heard >= DUPLICATES && schedule.is_open(self.direction.reverse(), now);
                self.repair(now, told, schedule, rng)?
            };
            let arrives = sent + schedule.delay(self.direction, sent, rng);
            self.arrived = self.arrived.max(arrives);
            let bytes = (bytes - place * SEGMENT_BYTES).min(SEGMENT_BYTES);
            match parts.last_mut() {
                Some(last) if last.at == self.arrived => last.bytes += bytes,
                _ => parts.push(Part { bytes, at: self.arrived }),
            }
        }
        Ok(parts)
    }

    /// When a segment that was lost `now` is sent with success. `told`: later ones have arrived.
    fn repair(
        &mut self,
        now: Duration,
        told: bool,
        schedule: &Schedule,
        rng: &mut impl Rng,
    ) -> Result<Duration, GivenUp> {
        let round_trip = schedule.round_trip(now);
        let mut timeout = (3 * round_trip).max(MIN_TIMEOUT);
        let mut at = if told {
            now + round_trip
        } else if now < self.filled {
            self.filled
        } else {
            now + timeout
        };
        for _ in 0..MOST_RETRANSMISSIONS {
            if schedule.passes(self.direction, at, rng) {
                // What was lost with this one, or behind it, is sent when this has been heard of.
                if at > self.filled {
                    self.filled = at + round_trip;
                }
                return Ok(at);
            }
            timeout = (2 * timeout).min(MAX_TIMEOUT);
            at += timeout;
        }
        Err(GivenUp { at })
    }
}

#[cfg(test)]
mod tests;
