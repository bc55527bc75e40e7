//! Faults as data: what goes wrong, with whom, from when to when. Pure but for applying a change to
//! a backend.
//!
//! A fault of an instance turns its dials while it lasts. One of a link is known to the link from
//! the beginning, because what is sent into a black hole arrives at a time that its end decides.

use std::fmt;
use std::time::Duration;

use crate::backend::{Backend, Errors, Settings};
use crate::link::{LinkFault, LinkFaultKind, Way};
use crate::service_time::ServiceTime;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// When, from the start of the run.
    pub at: Duration,
    /// When it is over; `None`: never.
    pub until: Option<Duration>,
    /// What it is, and with whom.
    pub kind: FaultKind,
}

/// What goes wrong, and with whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// An instance, by its place in [`crate::WorldSpec::backends`], which is that of its log too.
    Instance(usize, InstanceFault),
    /// The way from a caller's sidecar to an instance.
    Link(LinkId, LinkFault),
}

/// A link: all connections between one sidecar and one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId {
    /// Whose sidecar: an instance's, by its place, or the client's.
    pub caller: Option<usize>,
    /// The place of the instance that is called.
    pub instance: usize,
}

/// What goes wrong with an instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InstanceFault {
    /// Work takes this long instead.
    Slow(ServiceTime),
    /// Work takes this many times as long.
    SlowBy(f64),
    /// Connections are accepted and requests read, and nothing else happens.
    Hang,
    /// As [`InstanceFault::Hang`], for requests that have not begun; the others go on.
    HangNew,
    /// The process stands still, and goes on afterwards as if nothing had been.
    Pause,
    /// Work ends in errors.
    Errors(Errors),
    /// New connections are refused; the ones that are open go on.
    Refuse,
    /// The process dies: its connections are cut and new ones refused. At the end it starts again.
    Crash,
}

impl Fault {
    /// The instance that it happens to; for a link the one that is called.
    pub fn instance(&self) -> usize {
        match self.kind {
            FaultKind::Instance(place, _) => place,
            FaultKind::Link(link, _) => link.instance,
        }
    }

    /// The link that it happens to, if it is one of a link.
    pub fn link(&self) -> Option<LinkId> {
        match self.kind {
            FaultKind::Link(link, _) => Some(link),
            FaultKind::Instance(..) => None,
        }
    }

    /// True at this moment of a run.
    pub fn is_active(&self, at: Duration) -> bool {
        self.at <= at && self.until.is_none_or(|until| at < until)
    }

    /// True when a caller, an instance by its place or the client, may notice it in its calls to an
    /// instance: when that is what goes wrong, or the link between them.
    pub fn is_seen(&self, caller: Option<usize>, instance: usize) -> bool {
        self.instance() == instance && self.link().is_none_or(|link| link.caller == caller)
    }
}

/// The faults that a caller may notice at this moment in its calls to an instance.
pub fn seen_at(
    faults: &[Fault],
    link: LinkId,
    at: Duration,
) -> impl Iterator<Item = &Fault> + Clone {
    let seen = move |fault: &&Fault| fault.is_seen(link.caller, link.instance);
    faults.iter().filter(seen).filter(move |fault| fault.is_active(at))
}

impl fmt::Display for InstanceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InstanceFault::Slow(time) => write!(f, "slow: {time}"),
            InstanceFault::SlowBy(factor) => write!(f, "slow: {factor} times"),
            InstanceFault::Hang => f.write_str("hang"),
            InstanceFault::HangNew => f.write_str("hang of new work"),
            InstanceFault::Pause => f.write_str("pause"),
            InstanceFault::Errors(errors) => errors.fmt(f),
            InstanceFault::Refuse => f.write_str("refuse connections"),
            InstanceFault::Crash => f.write_str("crash"),
        }
    }
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = |duration: Duration| humantime::format_duration(duration).to_string();
        match self.kind {
            LinkFaultKind::BlackHole => f.write_str("black hole")?,
            LinkFaultKind::Loss(probability) => write!(f, "loss: {} %", probability * 100.0)?,
            LinkFaultKind::Delay { latency, jitter } => {
                write!(f, "delay: {} to {}", d(latency), d(latency + jitter))?;
            }
        }
        match self.way {
            Way::Both => Ok(()),
            Way::Requests => f.write_str(" of requests"),
            Way::Responses => f.write_str(" of responses"),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Instance(_, fault) => fault.fmt(f),
            FaultKind::Link(_, fault) => fault.fmt(f),
        }
    }
}

/// One moment of a timeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// When.
    pub at: Duration,
    /// Which fault.
    pub fault: Fault,
    /// Whether it begins or is over.
    pub begins: bool,
}

/// The moments of all faults in order. At the same instant, what is over ends before anything
/// begins, so that one fault may follow another without a gap.
pub fn timeline(faults: &[Fault]) -> Vec<Change> {
    let begin = faults.iter().map(|&fault| Change { at: fault.at, fault, begins: true });
    let end = faults
        .iter()
        .filter_map(|&fault| fault.until.map(|until| Change { at: until, fault, begins: false }));
    let mut changes: Vec<_> = begin.chain(end).collect();
    changes.sort_by_key(|change| (change.at, change.begins));
    changes
}

impl InstanceFault {
    /// Makes it so, or ends it. `healthy` is what the backend is like without faults.
    pub fn apply(&self, begins: bool, backend: &Backend, healthy: &Settings) {
        backend.change(|settings| match *self {
            InstanceFault::Slow(time) => {
                settings.service_time = if begins { time } else { healthy.service_time };
            }
            InstanceFault::SlowBy(factor) => {
                settings.slowdown = if begins { factor } else { healthy.slowdown };
            }
            InstanceFault::Hang => settings.hung = begins,
            InstanceFault::HangNew => settings.hung_for_new = begins,
            InstanceFault::Pause => settings.paused = begins,
            InstanceFault::Errors(errors) => {
                settings.errors = if begins { errors } else { healthy.errors };
            }
            InstanceFault::Refuse => settings.refusing = begins,
            InstanceFault::Crash => settings.up = !begins,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn fault(at: u64, until: u64, kind: FaultKind) -> Fault {
        Fault { at: s(at), until: Some(s(until)), kind }
    }

    #[test]
    fn what_is_over_ends_before_the_next_begins() {
        let of = |kind| FaultKind::Instance(0, kind);
        let faults = [fault(5, 9, of(InstanceFault::Crash)), fault(1, 5, of(InstanceFault::Hang))];
        let order: Vec<_> = timeline(&faults)
            .iter()
            .map(|change| (change.at.as_secs(), change.fault.kind.to_string(), change.begins))
            .collect();
        let want = [(1, "hang", true), (5, "hang", false), (5, "crash", true), (9, "crash", false)];
        assert_eq!(order, want.map(|(at, kind, begins)| (at, kind.to_owned(), begins)));
    }

    #[test]
    fn a_fault_of_a_link_is_seen_by_its_caller_alone() {
        let link = LinkId { caller: Some(0), instance: 2 };
        let lossy = LinkFault { way: Way::Requests, kind: LinkFaultKind::Loss(0.05) };
        let faults = [
            fault(1, 5, FaultKind::Link(link, lossy)),
            fault(4, 6, FaultKind::Instance(2, InstanceFault::SlowBy(3.0))),
        ];
        let seen = |caller, instance, at| {
            let seen = seen_at(&faults, LinkId { caller, instance }, s(at));
            seen.map(|fault| fault.kind.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(seen(Some(0), 2, 4), ["loss: 5 % of requests", "slow: 3 times"]);
        assert_eq!(seen(None, 2, 4), ["slow: 3 times"]);
        assert_eq!(seen(Some(0), 2, 5), ["slow: 3 times"]);
        assert!(seen(Some(0), 1, 4).is_empty() && seen(Some(0), 2, 0).is_empty());
    }
}
