//! A load generator for HTTP/1.1 and HTTP/2, as a library and as the program `loadgen`.
//!
//! An open loop asks by the clock. A server that stalls for a second is asked all the same during
//! that second, and each of those requests is late by what was left of the stall. A generator that
//! waits for an answer before it asks again would have sent one request, found it slow, and
//! reported a splendid 99th percentile. So here latency counts from the instant at which the plan
//! wanted a request sent, and every planned request is in the books whether or not it ever left.
//!
//! The modules, in the order in which a request meets them:
//!
//! - [`plan`]: when each request is wanted, in closed form; or a closed loop.
//! - [`target`]: what is sent where, checked once and encoded once.
//! - [`pacer`]: how to wait for a planned instant: asleep, or polling.
//! - [`dial`]: how to open a connection; any `tower::Service` from address to stream will do.
//! - [`mod@run`]: the engine, which hands due requests to idle lanes and opens more up to a bound.
//! - `exchange`: one request and its response on one HTTP/1.1 connection.
//! - [`response`]: the incremental decoder behind it; [`expect`]: what is looked for in an answer.
//! - [`sample`]: what became of one request.
//! - [`observer`]: who is told; [`recorder`]: the observer that counts and keeps histograms, made
//!   of [`accounting`] and [`histogram`]; [`series`]: the same by intervals; [`interval`]: the
//!   observer that cuts a run into seconds while it goes on.
//! - [`doubt`]: what speaks against believing the numbers, with a remedy each; [`machine`]: what
//!   the machine had to do with them; [`watch`]: what other processes used meanwhile.
//! - [`record`]: what is kept of a run. From it alone come [`slo`], whether it met its objectives,
//!   and [`compare`], how it differs from another.
//! - [`search`]: which rate to try next, to find the highest that meets them.
//!
//! The engine knows neither sockets nor wall clock: dialling and pacing are passed in, time is
//! `tokio::time`. The same code therefore drives real servers and simulated ones.
//!
//! ```
//! use std::time::Duration;
//!
//! use loadgen::plan::{Arrivals, Plan};
//! use loadgen::{Options, Recorder, SleepPacer, Target, TcpDialler};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 5 requests at 100 per second, to a port where nobody listens.
//! let plan = Plan::new(Arrivals::Constant, 100.0, Duration::from_millis(50), 0)?;
//! let target = Target::from_url("http://127.0.0.1:9/")?;
//! let options = Options::new(target, "127.0.0.1:9");
//!
//! let mut recorder = Recorder::new();
//! let never = std::future::pending();
//! loadgen::run(plan, options, TcpDialler, SleepPacer, never, &mut recorder).await;
//!
//! recorder.verify()?;
//! assert_eq!(recorder.accounting.planned, 5);
//! assert_eq!(recorder.accounting.connect, 5);
//! # Ok(())
//! # }
//! ```

pub mod accounting;
pub mod compare;
pub mod dial;
pub mod doubt;
mod exchange;
pub mod expect;
pub mod histogram;
pub mod interval;
pub mod machine;
pub mod observer;
pub mod pacer;
pub mod plan;
pub mod record;
pub mod recorder;
pub mod response;
pub mod run;
pub mod sample;
pub mod search;
pub mod series;
pub mod slo;
pub mod target;
pub mod watch;

pub use accounting::Accounting;
pub use dial::{Dialler, TcpDialler};
pub use expect::Expect;
pub use histogram::LatencyHistogram;
pub use observer::{Event, Failure, Observer};
pub use pacer::{Pacer, PrecisePacer, SleepPacer, SpinPacer};
pub use plan::{Arrivals, Plan, PlanError, Stage};
pub use recorder::Recorder;
pub use run::{Options, Overflow, Protocol, RunEnd, run};
pub use sample::{Outcome, Sample};
pub use target::{Aim, Mix, Target, TargetError};
