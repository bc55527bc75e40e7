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
        /// When the plan wanted it sent, from the start of the run.
        planned: Duration,
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
    /// A backend named itself for the first time; samples say which by its number.
    Backend {
        /// Its number, counted from 0.
        id: u32,
        /// What the response's field said.
        name: &'a str,
    },
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
    /// The server ended a stream of HTTP/2, or its connection.
    #[error("stream ended: {0}")]
    StreamEnded(#[source] h2::Error),
    /// What arrived is no HTTP/2.
    #[error("no HTTP/2 response: {0}")]
    MalformedStream(#[source] h2::Error),
}

impl Failure {
    /// A short text without anything particular to one request, to count failures by.
    pub fn label(&self) -> String {
        match self {
            Failure::Connect(error) => match Shortage::of(error) {
                Some(shortage) => format!("connect: {shortage}"),
                None if error.kind() == io::ErrorKind::InvalidData
                    || error.kind() == io::ErrorKind::Other =>
                {
                    format!("connect: {error}")
                }
                None => format!("connect: {}", error.kind()),
            },
            Failure::Closed(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "closed: before the response was whole".to_owned()
            }
            Failure::Closed(error) => format!("closed: {}", error.kind()),
            Failure::Malformed(error) => format!("malformed: {error}"),
            Failure::StreamEnded(error) => match error.reason() {
                Some(reason) => format!("closed: HTTP/2 {reason:?}"),
                None => "closed: HTTP/2 connection lost".to_owned(),
            },
            Failure::MalformedStream(error) => match error.reason() {
                Some(reason) => format!("malformed: HTTP/2 {reason:?}"),
                None => format!("malformed: {error}"),
            },
        }
    }
}

impl Failure {
    /// What this machine has run out of, if that was the cause.
    pub fn shortage(&self) -> Option<Shortage> {
        match self {
            Failure::Connect(error) => Shortage::of(error),
            _ => None,
        }
    }
}

/// Something that this machine has run out of: no request can tell anything about the server
/// until it is there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// File descriptors.
    Descriptors,
    /// Local ports towards one address.
    Ports,
}

impl Shortage {
    /// The shortage behind a failure to connect, if it is one.
    pub fn of(error: &io::Error) -> Option<Shortage> {
        use rustix::io::Errno;
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE) => Some(Shortage::Descriptors),
            Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => Some(Shortage::Ports),
            _ => None,
        }
    }
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Shortage::Descriptors => "out of file descriptors",
            Shortage::Ports => "out of local ports",
        })
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
