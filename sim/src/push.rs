//! What sidecars are told while they run, as data: what a control plane does. Pure.
//!
//! Every instance is a part of the world from the start, at its own address. Whether sidecars know
//! of it is another matter: [`crate::BackendSpec::listed`] says it for the start, and pushes change
//! it. So
//! - **scaling up** is [`PushKind::List`] of an instance that was not listed,
//! - **scaling down** is [`PushKind::Drain`], and [`PushKind::Unlist`] some time later; the latter
//!   alone is what a control plane without manners does,
//! - **a rolling deploy** is, for one instance after the other, drain, a
//!   [`crate::InstanceFault::Crash`] from when to when it restarts, and list,
//! - **a new configuration** is [`PushKind::Configure`], a wrong one [`PushKind::Break`].
//!
//! Pushes add up: a new configuration does not change who is listed, and the other way round. Each
//! is one [`proxy::Stack::apply`] in each sidecar that it goes to, in the tick after its instant.

use std::fmt;
use std::time::Duration;

use crate::world::SidecarSpec;

/// Something that sidecars are told.
#[derive(Clone, Debug)]
pub struct Push {
    /// When, from the start of the run.
    pub at: Duration,
    /// Who is told.
    pub to: PushTo,
    /// What.
    pub kind: PushKind,
}

/// Which sidecars are told. Of those, a push about an instance reaches the ones that call its
/// service; no others know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushTo {
    /// Every one, at the same instant.
    All,
    /// The client's.
    Client,
    /// Those of one calling backend, by its place in [`crate::WorldSpec::backends`].
    Backend(usize),
}

impl PushTo {
    /// Whether the sidecar of `caller` is told; `None` is the client.
    pub fn reaches(self, caller: Option<usize>) -> bool {
        match self {
            PushTo::All => true,
            PushTo::Client => caller.is_none(),
            PushTo::Backend(place) => caller == Some(place),
        }
    }
}

/// What sidecars are told. Backends are meant by their places in [`crate::WorldSpec::backends`].
#[derive(Clone, Debug)]
pub enum PushKind {
    /// An instance is there, and is to be used.
    List(usize),
    /// An instance is about to go: nothing new for it.
    Drain(usize),
    /// An instance is gone.
    Unlist(usize),
    /// Another configuration.
    Configure(Box<SidecarSpec>),
    /// A configuration that is wrong: a route goes to a cluster that there is not.
    Break,
}

impl PushKind {
    /// The instance that it is about, if it is about one.
    pub fn backend(&self) -> Option<usize> {
        match *self {
            PushKind::List(place) | PushKind::Drain(place) | PushKind::Unlist(place) => Some(place),
            PushKind::Configure(_) | PushKind::Break => None,
        }
    }
}

impl fmt::Display for PushKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PushKind::List(_) => "list",
            PushKind::Drain(_) => "drain",
            PushKind::Unlist(_) => "unlist",
            PushKind::Configure(_) => "configuration",
            PushKind::Break => "wrong configuration",
        })
    }
}
