//! How much is too much.
//!
//! Each limit answers one question at once, with yes or no: nothing here waits. What must wait
//! does so in one place, the queue for a connection, and [`shed`] says who of those gives up.
//!
//! | policy | bounds | learns from |
//! |---|---|---|
//! | [`rate`] | requests a second, for each key | nothing |
//! | [`breaker`] | things at once, by kind | nothing |
//! | [`gradient`] | requests at once | latency |
//! | [`circuit`] | requests to what fails anyway | failures |
//! | [`shed`] | time spent waiting | the age of who waits |
//!
//! The first two have to be told what the other side can bear; the others find out.

pub mod breaker;
pub mod circuit;
pub mod gradient;
pub mod rate;
pub mod shed;

#[cfg(test)]
mod simulated;
