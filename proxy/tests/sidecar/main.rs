//! The sidecar from outside: bytes in, bytes out.
//!
//! Whatever concerns time runs on in-memory streams under a paused clock, where a second is exact
//! and costs nothing; [`program`] runs the real program on real sockets and asserts no times.

mod answers;
mod conservation;
mod listening;
mod messages;
mod peer;
mod pool;
mod program;
mod streaming;
mod world;
