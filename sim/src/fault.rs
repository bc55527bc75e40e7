//! Faults as data: what goes wrong with which backend, from when to when. Pure but for applying a
//! change to a backend.

use std::fmt;
use std::time::Duration;

use crate::backend::{Backend, Errors, Settings};
use crate::service_time::ServiceTime;

/// Something that goes wrong with one backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// When, from the start of the run.
    pub at: Duration,
    /// When it is over; `None`: never.
    pub until: Option<Duration>,
    /// The backend's place in [`crate::WorldSpec::backends`], which is that of its log too.
    pub backend: usize,
    /// What it is.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// Work takes this long instead.
    Slow(ServiceTime),
    /// Connections are accepted and nothing moves.
    Hang,
    /// Work ends in errors.
    Errors(Errors),
    /// New connections are refused; the ones that are open go on.
    Refuse,
    /// The process dies: its connections are cut and new ones refused. At the end it starts again.
    Crash,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Slow(time) => write!(f, "slow: {time}"),
            FaultKind::Hang => f.write_str("hang"),
            FaultKind::Errors(errors) => errors.fmt(f),
            FaultKind::Refuse => f.write_str("refuse connections"),
            FaultKind::Crash => f.write_str("crash"),
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

impl Change {
    /// Makes it so. `healthy` is what the backend is like without faults.
    pub fn apply(&self, backend: &Backend, healthy: &Settings) {
        let begins = self.begins;
        backend.change(|settings| match self.fault.kind {
            FaultKind::Slow(time) => {
                settings.service_time = if begins { time } else { healthy.service_time };
            }
            FaultKind::Hang => settings.hung = begins,
            FaultKind::Errors(errors) => {
                settings.errors = if begins { errors } else { healthy.errors };
            }
            FaultKind::Refuse => settings.refusing = begins,
            FaultKind::Crash => settings.up = !begins,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_ends_before_the_next_begins() {
        let fault = |at, until, kind| Fault {
            at: Duration::from_secs(at),
            until: Some(Duration::from_secs(until)),
            backend: 0,
            kind,
        };
        let faults = [fault(5, 9, FaultKind::Crash), fault(1, 5, FaultKind::Hang)];
        let order: Vec<_> = timeline(&faults)
            .iter()
            .map(|change| (change.at.as_secs(), change.fault.kind.to_string(), change.begins))
            .collect();
        let want = [(1, "hang", true), (5, "hang", false), (5, "crash", true), (9, "crash", false)];
        assert_eq!(order, want.map(|(at, kind, begins)| (at, kind.to_owned(), begins)));
    }
}
