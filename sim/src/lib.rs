//! The simulated world of meshbench.
//!
//! A [`world::WorldSpec`] says what there is: a client with a plan, services of backends with a
//! model each, sidecars with a configuration, and faults on a timeline. [`turmoil_engine::run`]
//! lets it happen on a simulated network and clock, and returns what the client and the backends
//! wrote down.
//!
//! # Reading order
//! [`world`] is the description and the result. [`service_time`] and [`backend`] are what a
//! backend is, on simulated and on real sockets alike; [`call`] is what it asks of another service
//! while it works. [`fault`] turns a timeline of faults into changes of backends, and [`link`] is what
//! TCP makes of links that are disturbed; [`push`] is what sidecars are told while they run. [`trace`]
//! is the fingerprint of a run. [`turmoil_engine`] puts hosts, links and time around all of it.

pub mod backend;
pub mod call;
pub mod clock;
pub mod fault;
pub mod link;
pub mod mix;
pub mod push;
pub mod service_time;
pub mod trace;
pub mod turmoil_engine;
pub mod world;

pub use backend::Backend;
pub use fault::{Fault, FaultKind, InstanceFault, LinkId, PushFault, StrangerFault};
pub use push::{Push, PushKind, PushTo};
pub use service_time::ServiceTime;
pub use world::{BackendSpec, CallSpec, RunResult, ServiceSpec, WorldSpec};
