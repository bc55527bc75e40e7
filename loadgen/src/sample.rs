//! What became of one planned request.
//!
//! Every request of the plan ends in exactly one [`Outcome`], whether or not a byte of it ever
//! reached the wire. Percentiles, accounting and checks are all computed from this record.

use std::time::Duration;

/// The one end that a planned request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A whole response with a good status, one below 400 unless others were asked for, arrived
    /// within the deadline, if there is one.
    Ok,
    /// As [`Outcome::Ok`], but after the deadline: the answer came, and came too late.
    Late,
    /// A whole response with another status.
    Status,
    /// A whole response with a good status and not the content that was asked for.
    Invalid,
    /// No connection could be made.
    Connect,
    /// The connection ended before the response was whole.
    Closed,
    /// What arrived was not a well-formed HTTP response.
    Malformed,
    /// The wire timeout passed, or the deadline where cancelling at it was asked for; the request
    /// was cancelled by closing its connection or its stream. It is recorded as having ended at
    /// exactly the limit.
    Timeout,
    /// Sent, and still without an answer when the run ended.
    Unfinished,
    /// Past its deadline before it could be sent, and therefore not sent.
    Shed,
    /// Not sent because the bound on requests in flight was reached when it was due.
    Skipped,
    /// Not sent because the run ended before its turn came.
    Unsent,
}

impl Outcome {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Outcome; 12] = [
        Outcome::Ok,
        Outcome::Late,
        Outcome::Status,
        Outcome::Invalid,
        Outcome::Connect,
        Outcome::Closed,
        Outcome::Malformed,
        Outcome::Timeout,
        Outcome::Unfinished,
        Outcome::Shed,
        Outcome::Skipped,
        Outcome::Unsent,
    ];

    /// True when a whole response arrived.
    pub fn was_answered(self) -> bool {
        matches!(self, Outcome::Ok | Outcome::Late | Outcome::Status | Outcome::Invalid)
    }

    /// True when work on the request began: it had a connection or asked for one.
    pub fn was_sent(self) -> bool {
        !matches!(self, Outcome::Shed | Outcome::Skipped | Outcome::Unsent)
    }

    /// True when the time recorded is a lower bound: the answer would have come later, if ever.
    pub fn is_censored(self) -> bool {
        matches!(
            self,
            Outcome::Timeout
                | Outcome::Unfinished
                | Outcome::Shed
                | Outcome::Skipped
                | Outcome::Unsent
        )
    }

    /// The word for it in tables and records.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Late => "late",
            Outcome::Status => "status",
            Outcome::Invalid => "invalid",
            Outcome::Connect => "connect",
            Outcome::Closed => "closed",
            Outcome::Malformed => "malformed",
            Outcome::Timeout => "timeout",
            Outcome::Unfinished => "unfinished",
            Outcome::Shed => "shed",
            Outcome::Skipped => "skipped",
            Outcome::Unsent => "unsent",
        }
    }
}

/// One planned request, from its planned instant to its end.
///
/// All times are offsets from the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its place in the plan, from 0.
    pub index: u64,
    /// When the plan wanted it sent.
    pub planned: Duration,
    /// When its first byte was handed to the connection; `None` if it never was. It stays the
    /// first send when an idle connection turned out to have ended and another was taken.
    pub sent: Option<Duration>,
    /// When the first byte of its response arrived; `None` if none did.
    pub first_byte: Option<Duration>,
    /// When its outcome was settled.
    pub finished: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// The status of the response, if a response head arrived.
    pub status: Option<u16>,
    /// Which target it was for.
    pub target: u32,
    /// Which backend answered, by the number that
    /// [`Event::Backend`](crate::Event::Backend) gave it; `None` if nobody said.
    pub backend: Option<u32>,
}

impl Sample {
    /// Time from the planned instant to the end: what a caller with a schedule to keep has
    /// waited. A stall of the generator or a queue for a connection is part of it.
    pub fn response_time(&self) -> Duration {
        self.finished.saturating_sub(self.planned)
    }

    /// Time from the send to the end; `None` if nothing was sent. It hides every wait before the
    /// send, so it is shown beside [`Sample::response_time`] and never instead of it.
    pub fn service_time(&self) -> Option<Duration> {
        self.sent.map(|sent| self.finished.saturating_sub(sent))
    }
}
