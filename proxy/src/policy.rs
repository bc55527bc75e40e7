//! Decisions without side effects.
//!
//! Everything below is a function of its own state, an event, `now` and a random stream: no
//! clocks, no sockets, no logging. The shell with the same name reads the clock once, asks, acts,
//! and reports back what happened. So a policy is the same in simulation and in production, can
//! be property-tested in nanoseconds, and can be read without knowing about async.
//!
//! In the order in which a request meets them: [`limit`] lets it in, [`deadline`] says how long it
//! has, [`membership`] says among which endpoints to choose, [`balance`] picks one and
//! [`slow_start`] may ask for another, [`outlier`] and [`health`] judge the endpoint by what becomes
//! of it, [`retry`] decides whether to try again, paid from the [`budget`] after a [`backoff`], and
//! [`hedge`] whether to try twice at once. When endpoints come and go, [`slots`] says where each one's
//! state lies.

pub mod backoff;
pub mod balance;
pub mod budget;
pub mod deadline;
pub mod health;
pub mod hedge;
pub mod limit;
pub mod membership;
pub mod outlier;
pub mod ready;
pub mod retry;
pub mod slots;
pub mod slow_start;
