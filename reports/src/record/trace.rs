//! Single requests, told: where each attempt went, what it met there, and why it ended.
//!
//! Two tell the story. The client and the backends wrote down what they saw, which is the truth.
//! What happened inside the sidecar (when it placed an attempt, why it tried again or did not) only
//! the sidecar can say, and it stands apart, in fields called `said`.

use serde::{Deserialize, Serialize};

/// One request from its planned instant to its end. All instants are in microseconds from the start
/// of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestTrace {
    /// Its place in the plan, from 0; the same request in every variant of a seed.
    pub index: u64,
    /// Why it is told.
    pub chosen: Chosen,
    /// Method and path, such as `GET /`.
    pub request: String,
    /// When the plan wanted it sent.
    pub planned_us: u64,
    /// When the client sent it; `None` if it never did.
    pub sent_us: Option<u64>,
    /// When its outcome was settled.
    pub finished_us: u64,
    /// What became of it, in the words of [`loadgen::Outcome`].
    pub outcome: String,
    /// The status that the client got, if any.
    pub status: Option<u16>,
    /// The response flags that the client got, such as `UT`; `None` if none.
    pub flags: Option<String>,
    /// Every attempt, in order of time: those of the client's sidecar, and those of the services
    /// that were called in turn.
    pub attempts: Vec<AttemptTrace>,
    /// Why its sidecar says it made no further attempt after a failure, in its words, such as
    /// `budget`; `None` if it had no reason to make one, or was not asked.
    pub said_gave_up: Option<String>,
}

impl RequestTrace {
    /// From the planned instant to the end, in microseconds.
    pub fn response_us(&self) -> u64 {
        self.finished_us.saturating_sub(self.planned_us)
    }
}

/// Why a request is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chosen {
    /// It is among the slowest of the run that were answered well.
    Slowest,
    /// It failed; failures are chosen evenly over the time in which there were any.
    Failed,
}

/// One attempt at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptTrace {
    /// Who called: an instance, or `None` for the client.
    pub caller: Option<String>,
    /// Where it went, such as `web-0`.
    pub endpoint: String,
    /// What the endpoint's own log has of it; `None` when it never arrived.
    pub seen: Option<SeenAttempt>,
    /// What the caller's sidecar says of it; `None` when it was not asked.
    pub said: Option<SaidAttempt>,
}

impl AttemptTrace {
    /// When it began, as far as anybody knows: its placement, else its arrival.
    pub fn start_us(&self) -> Option<u64> {
        let placed = self.said.as_ref().map(|said| said.placed_us);
        placed.or_else(|| self.seen.as_ref().map(|seen| seen.arrived_us))
    }

    /// When it ended, as far as anybody knows: by the endpoint's log, else by the sidecar.
    pub fn end_us(&self) -> Option<u64> {
        let seen = self.seen.as_ref().and_then(|seen| seen.ended_us);
        seen.or_else(|| self.said.as_ref().and_then(|said| said.ended_us))
    }

    /// From its placement to its arrival, in microseconds: the sidecar's queue, connecting, and one
    /// way over the network. `None` when it never arrived or was not spoken of.
    pub fn way_us(&self) -> Option<u64> {
        let (said, seen) = (self.said.as_ref()?, self.seen.as_ref()?);
        Some(seen.arrived_us.saturating_sub(said.placed_us))
    }
}

/// What an endpoint's log has of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenAttempt {
    /// When it arrived.
    pub arrived_us: u64,
    /// When work on it began, after a wait in the endpoint's own queue; `None` if it never did.
    pub started_us: Option<u64>,
    /// When it ended; `None` if it was still there when the run was over.
    pub ended_us: Option<u64>,
    /// How: a status, such as `200`, `cancelled`, `crashed` or `open`.
    pub end: String,
}

/// What a sidecar says of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaidAttempt {
    /// When it chose the endpoint.
    pub placed_us: u64,
    /// Why: `first`, `retry` or `hedge`.
    pub kind: String,
    /// How long it had waited since the attempt before had failed, in microseconds; for a retry.
    pub backoff_us: Option<u64>,
    /// When the head of the answer came, or the attempt was over without one; `None` if the run
    /// was over before.
    pub ended_us: Option<u64>,
    /// How: a status, such as `503`, or a word, such as `failed`, `timeout`, `per_try_timeout`,
    /// `cancelled`, `refused`, or `open`.
    pub end: String,
}
