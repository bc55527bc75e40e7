//! Who is told what happens in a run.

use std::io;
use std::time::Duration;

use crate::response::DecodeError;
use crate::sample::Sample;

/// Told about every planned request, once, at its end.
pub trait Observer {
    /// A planned request has come to its end.
    fn observe(&mut self, sample: &Sample);

    /// Something happened on the way there. Most observers need not care.
    fn note(&mut self, event: Event<'_>) {
        let _ = event;
    }
}

/// What happens between the plan and a request's end.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Work on a request began.
    Begun {
        /// How long after its planned instant.
        lag: Duration,
        /// True if every connection was busy when it was due: the server's doing, or the bound's.
        /// Otherwise the lag is the generator's own.
        waited: bool,
        /// True if it was given an open connection.
        reused: bool,
    },
    /// A connection was opened.
    Connected {
        /// How long that took.
        took: Duration,
    },
    /// An idle connection had ended, which showed before any byte of an answer; the request is
    /// sent again on a new one. Its planned instant and its first send still count.
    Retried,
    /// A request failed.
    Failed(&'a Failure),
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection ended before the response was whole.
    #[error("connection lost: {0}")]
    Closed(#[source] io::Error),
    /// What arrived is no HTTP response.
    #[error("no HTTP response: {0}")]
    Malformed(#[source] DecodeError),
}

impl Failure {
    /// A short text without anything particular to one request, to count failures by.
    pub fn label(&self) -> String {
        match self {
            Failure::Connect(error) => format!("connect: {}", error.kind()),
            Failure::Closed(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "closed: before the response was whole".to_owned()
            }
            Failure::Closed(error) => format!("closed: {}", error.kind()),
            Failure::Malformed(error) => format!("malformed: {error}"),
        }
    }
}

/// A closure is told about the samples only.
impl<F: FnMut(&Sample)> Observer for F {
    fn observe(&mut self, sample: &Sample) {
        self(sample);
    }
}

impl Observer for Vec<Sample> {
    fn observe(&mut self, sample: &Sample) {
        self.push(*sample);
    }
}

/// Both are told, the first one first.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn observe(&mut self, sample: &Sample) {
        self.0.observe(sample);
        self.1.observe(sample);
    }

    fn note(&mut self, event: Event<'_>) {
        self.0.note(event);
        self.1.note(event);
    }
}
