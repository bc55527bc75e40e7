//! Decisions without side effects.
//!
//! Everything below is a function of its own state, an event, `now` and a random stream: no
//! clocks, no sockets, no logging. The shell with the same name reads the clock once, asks, acts,
//! and reports back what happened. So a policy is the same in simulation and in production, can
//! be property-tested in nanoseconds, and can be read without knowing about async.

pub mod balance;
