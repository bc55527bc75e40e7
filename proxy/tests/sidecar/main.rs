//! The sidecar from outside: bytes in, bytes out.
//!
//! Whatever concerns time runs on in-memory streams under a paused clock, where a second is exact
//! and costs nothing; [`program`] runs the real program on real sockets and asserts no times.

mod answers;
mod choosing;
mod conservation;
mod deadlines;
mod ejection;
mod fleet;
mod health_checks;
mod hedging;
mod keep_alive;
mod limits;
mod listening;
mod memory;
mod messages;
mod peer;
mod permits;
mod pool;
mod program;
mod retries;
mod script;
mod slow_clients;
mod smuggling;
mod streaming;
mod updates;
mod world;
