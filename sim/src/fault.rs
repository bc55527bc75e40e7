//! Faults as data: what goes wrong, with whom, from when to when. Pure but for applying a change to
//! a backend.
//!
//! A fault of an instance turns its dials while it lasts. One of a link is known to the link from
//! the beginning, because what is sent into a black hole arrives at a time that its end decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::backend::{Backend, Errors, Settings};
use crate::link::{LinkFault, LinkFaultKind, Way};
use crate::push::{Push, PushKind, PushTo};
use crate::service_time::ServiceTime;
use crate::world::SidecarSpec;

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// When, from the start of the run.
    pub at: Duration,
    /// When it is over; `None`: never.
    pub until: Option<Duration>,
    /// What it is, and with whom.
    pub kind: FaultKind,
}

/// What goes wrong, and with whom.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// An instance, by its place in [`crate::WorldSpec::backends`], which is that of its log too.
    Instance(usize, InstanceFault),
    /// The way from a caller's sidecar to an instance.
    Link(LinkId, LinkFault),
    /// The client's sidecar, by others than the client.
    Strangers(StrangerFault),
    /// All sidecars, by whoever configures them.
    Push(PushFault),
}

/// Clients that mean no good, or know no better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrangerFault {
    /// Connections are opened and closed at once.
    Churn {
        /// One every so often.
        every: Duration,
    },
    /// Request heads come a byte at a time and never to an end, as of the tool called Slowloris.
    SlowHeads {
        /// How many at once.
        connections: usize,
        /// A byte every so often.
        every: Duration,
    },
}

/// Sidecars are told something else while it lasts, and what they were told before at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushFault {
    /// The configuration with this place in a list of whoever made the fault.
    Configuration(usize),
    /// A configuration that is wrong.
    Wrong,
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
#[derive(Clone, Debug, PartialEq)]
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
    /// Sidecars are told to send it nothing new.
    Drain,
    /// Sidecars do not know of it.
    Unlisted,
    /// The wall clock of its host, which its sidecars read, is wrong by so many milliseconds.
    /// Nothing on the wire comes from a wall clock: deadlines are carried as the time that is left.
    /// So this has to change nothing.
    ClockSkew(i64),
}

impl Fault {
    /// The instance that it happens to, if it is one of an instance; for a link the one that is
    /// called.
    pub fn instance(&self) -> Option<usize> {
        match self.kind {
            FaultKind::Instance(place, _) => Some(place),
            FaultKind::Link(link, _) => Some(link.instance),
            FaultKind::Strangers(_) | FaultKind::Push(_) => None,
        }
    }

    /// The link that it happens to, if it is one of a link.
    pub fn link(&self) -> Option<LinkId> {
        match self.kind {
            FaultKind::Link(link, _) => Some(link),
            _ => None,
        }
    }

    /// True at this moment of a run.
    pub fn is_active(&self, at: Duration) -> bool {
        self.at <= at && self.until.is_none_or(|until| at < until)
    }

    /// True when a caller, an instance by its place or the client, may notice it in its calls to an
    /// instance: when that is what goes wrong, or the link between them.
    pub fn is_seen(&self, caller: Option<usize>, instance: usize) -> bool {
        self.instance() == Some(instance) && self.link().is_none_or(|link| link.caller == caller)
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
            InstanceFault::Drain => f.write_str("drain"),
            InstanceFault::Unlisted => f.write_str("not listed"),
            InstanceFault::ClockSkew(millis) => {
                let sign = if *millis < 0 { '−' } else { '+' };
                write!(f, "clock skew: {sign}{} ms", millis.unsigned_abs())
            }
        }
    }
}

impl fmt::Display for StrangerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = humantime::format_duration;
        match *self {
            StrangerFault::Churn { every } => write!(f, "churn: a connection every {}", d(every)),
            StrangerFault::SlowHeads { connections, every } => {
                write!(f, "slow heads: {connections}, a byte every {}", d(every))
            }
        }
    }
}

impl fmt::Display for PushFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PushFault::Configuration(_) => "another configuration",
            PushFault::Wrong => "a wrong configuration",
        })
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
            FaultKind::Strangers(fault) => fault.fmt(f),
            FaultKind::Push(fault) => fault.fmt(f),
        }
    }
}

/// One moment of a timeline.
#[derive(Clone, Debug, PartialEq)]
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
    let begin =
        faults.iter().map(|fault| Change { at: fault.at, fault: fault.clone(), begins: true });
    let end = faults.iter().filter_map(|fault| {
        fault.until.map(|until| Change { at: until, fault: fault.clone(), begins: false })
    });
    let mut changes: Vec<_> = begin.chain(end).collect();
    changes.sort_by_key(|change| (change.at, change.begins));
    changes
}

/// What faults make of what sidecars are told, in order; `configurations` are those of
/// [`PushFault`], after the one that is in force without faults.
pub fn pushes(faults: &[Fault], usual: &SidecarSpec, configurations: &[SidecarSpec]) -> Vec<Push> {
    let mut pushes = Vec::new();
    let mut push = |at, kind| pushes.push(Push { at, to: PushTo::All, kind });
    let configure = |sidecar: &SidecarSpec| PushKind::Configure(Box::new(sidecar.clone()));
    for fault in faults {
        let FaultKind::Push(what) = fault.kind else { continue };
        push(
            fault.at,
            match what {
                PushFault::Configuration(place) => configure(&configurations[place]),
                PushFault::Wrong => PushKind::Break,
            },
        );
        if let Some(until) = fault.until {
            push(until, configure(usual));
        }
    }
    let mut instances: BTreeMap<usize, BTreeSet<Duration>> = BTreeMap::new();
    for fault in faults {
        let FaultKind::Instance(place, kind) = &fault.kind else { continue };
        if matches!(kind, InstanceFault::Drain | InstanceFault::Unlisted) {
            instances.entry(*place).or_default().extend([fault.at].into_iter().chain(fault.until));
        }
    }
    for (place, instants) in instances {
        // What is so from the beginning is told by a push, but for who is listed.
        let mut before = if is_listed(faults, place) { Listing::Listed } else { Listing::Unlisted };
        for at in instants {
            let now = Listing::at(faults, place, at);
            if now != before {
                push(at, now.told(place));
            }
            before = now;
        }
    }
    pushes.sort_by_key(|push| push.at);
    pushes
}

/// What sidecars know of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Listed,
    Draining,
    Unlisted,
}

impl Listing {
    fn at(faults: &[Fault], place: usize, at: Duration) -> Self {
        let is = |kind| {
            let this = FaultKind::Instance(place, kind);
            faults.iter().any(|fault| fault.kind == this && fault.is_active(at))
        };
        if is(InstanceFault::Unlisted) {
            Listing::Unlisted
        } else if is(InstanceFault::Drain) {
            Listing::Draining
        } else {
            Listing::Listed
        }
    }

    fn told(self, place: usize) -> PushKind {
        match self {
            Listing::Listed => PushKind::List(place),
            Listing::Draining => PushKind::Drain(place),
            Listing::Unlisted => PushKind::Unlist(place),
        }
    }
}

/// Whether sidecars know of an instance when a run begins.
pub fn is_listed(faults: &[Fault], place: usize) -> bool {
    Listing::at(faults, place, Duration::ZERO) != Listing::Unlisted
}

impl InstanceFault {
    /// Makes it so, or ends it. `healthy` is what the backend is like without faults.
    pub fn apply(&self, begins: bool, backend: &Backend, healthy: &Settings) {
        backend.change(|settings| match self {
            InstanceFault::Slow(time) => {
                let time = if begins { time } else { &healthy.service_time };
                settings.service_time = time.clone();
            }
            InstanceFault::SlowBy(factor) => {
                settings.slowdown = if begins { *factor } else { healthy.slowdown };
            }
            InstanceFault::Hang => settings.hung = begins,
            InstanceFault::HangNew => settings.hung_for_new = begins,
            InstanceFault::Pause => settings.paused = begins,
            InstanceFault::Errors(errors) => {
                settings.errors = if begins { errors } else { &healthy.errors }.clone();
            }
            InstanceFault::Refuse => settings.refusing = begins,
            InstanceFault::Crash => settings.up = !begins,
            // These happen to sidecars.
            InstanceFault::Drain | InstanceFault::Unlisted | InstanceFault::ClockSkew(_) => {}
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
