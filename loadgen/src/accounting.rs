//! Where every planned request went, and the identities that must hold.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sample::Outcome;

/// How many requests came to each end.
///
/// `planned = sent + shed + skipped + unsent`, and
/// `sent = ok + late + status + invalid + connect + closed + malformed + timeout + unfinished`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accounting {
    /// Requests in the plan.
    pub planned: u64,
    /// Requests that had a connection or asked for one.
    pub sent: u64,
    /// Answered well and in time.
    pub ok: u64,
    /// Answered well, after the deadline.
    pub late: u64,
    /// Answered with a status of 400 or more, or another than asked for.
    pub status: u64,
    /// Answered with a good status and not the content asked for.
    #[serde(default)]
    pub invalid: u64,
    /// No connection could be made.
    pub connect: u64,
    /// The connection ended before the response was whole.
    pub closed: u64,
    /// The response was not well-formed HTTP.
    pub malformed: u64,
    /// The wire timeout passed.
    pub timeout: u64,
    /// Without an answer when the run ended.
    pub unfinished: u64,
    /// Past the deadline before it could be sent.
    pub shed: u64,
    /// Not sent: too many requests in flight.
    pub skipped: u64,
    /// Not sent: the run ended first.
    pub unsent: u64,
}

impl Accounting {
    /// Books one request, and with it that it was planned.
    pub fn add(&mut self, outcome: Outcome) {
        self.add_many(outcome, 1);
    }

    /// Books so many that came to the same end.
    pub fn add_many(&mut self, outcome: Outcome, count: u64) {
        self.planned += count;
        if outcome.was_sent() {
            self.sent += count;
        }
        *self.bin_mut(outcome) += count;
    }

    /// How many came to this end.
    pub fn count(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Ok => self.ok,
            Outcome::Late => self.late,
            Outcome::Status => self.status,
            Outcome::Invalid => self.invalid,
            Outcome::Connect => self.connect,
            Outcome::Closed => self.closed,
            Outcome::Malformed => self.malformed,
            Outcome::Timeout => self.timeout,
            Outcome::Unfinished => self.unfinished,
            Outcome::Shed => self.shed,
            Outcome::Skipped => self.skipped,
            Outcome::Unsent => self.unsent,
        }
    }

    /// Adds the requests of another run or worker.
    pub fn merge(&mut self, other: &Accounting) {
        self.planned += other.planned;
        self.sent += other.sent;
        self.ok += other.ok;
        self.late += other.late;
        self.status += other.status;
        self.invalid += other.invalid;
        self.connect += other.connect;
        self.closed += other.closed;
        self.malformed += other.malformed;
        self.timeout += other.timeout;
        self.unfinished += other.unfinished;
        self.shed += other.shed;
        self.skipped += other.skipped;
        self.unsent += other.unsent;
    }

    /// Requests with a whole response, good or not.
    pub fn answered(&self) -> u64 {
        self.ok + self.late + self.status + self.invalid
    }

    /// Share of the planned requests that were answered well and in time, 0 to 1; 0 for an empty
    /// plan. What was never sent counts against it.
    pub fn success_rate(&self) -> f64 {
        if self.planned == 0 { 0.0 } else { self.ok as f64 / self.planned as f64 }
    }

    /// Checks that every planned request is in exactly one bin.
    ///
    /// # Errors
    /// Names the identity that does not hold, with both of its sides.
    pub fn verify(&self) -> Result<(), Imbalance> {
        let ends = self.sent + self.shed + self.skipped + self.unsent;
        if self.planned != ends {
            return Err(Imbalance {
                identity: "planned = sent + shed + skipped + unsent",
                left: self.planned,
                right: ends,
            });
        }
        let answered = self.answered();
        let failed = self.connect + self.closed + self.malformed + self.timeout + self.unfinished;
        if self.sent != answered + failed {
            return Err(Imbalance {
                identity: "sent = ok + late + status + invalid + connect + closed + malformed + \
                           timeout + unfinished",
                left: self.sent,
                right: answered + failed,
            });
        }
        Ok(())
    }

    fn bin_mut(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Ok => &mut self.ok,
            Outcome::Late => &mut self.late,
            Outcome::Status => &mut self.status,
            Outcome::Invalid => &mut self.invalid,
            Outcome::Connect => &mut self.connect,
            Outcome::Closed => &mut self.closed,
            Outcome::Malformed => &mut self.malformed,
            Outcome::Timeout => &mut self.timeout,
            Outcome::Unfinished => &mut self.unfinished,
            Outcome::Shed => &mut self.shed,
            Outcome::Skipped => &mut self.skipped,
            Outcome::Unsent => &mut self.unsent,
        }
    }
}

/// An accounting identity that does not hold: a defect of the generator, never of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the accounting does not balance: {identity} reads {left} = {right}")]
pub struct Imbalance {
    /// The identity in words.
    pub identity: &'static str,
    /// The value of its left side.
    pub left: u64,
    /// The value of its right side.
    pub right: u64,
}
