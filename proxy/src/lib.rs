//! The reference sidecar of meshbench.
//!
//! A sidecar stands beside an application and carries its calls to other services: it finds the
//! route, picks an endpoint, keeps time, and says what happened. This crate is that data plane as
//! a library; the program `sidecar` is a thin shell around it.
//!
//! # Reading order
//! The modules follow a request. [`config`] says what is wanted; [`stack`] assembles the path and
//! is the one file to read to see everything. [`listener`] accepts connections and reads requests
//! strictly; [`route`] finds the cluster; [`limit`] lets a request in; [`retry`] drives its attempts;
//! [`balance`] picks an endpoint for each and keeps the books on it; [`pool`] lends a connection;
//! [`upstream`] makes one attempt on it, with a body that [`replay`] can send again; [`error`] turns a
//! failure into an answer. Beside requests, [`health`] and [`probe`] [`ask`] endpoints how they are.
//! [`telemetry`] counts all of that and [`admin`] shows it.
//!
//! Decisions live in [`policy`], which knows neither clocks nor sockets.
//!
//! # Two worlds
//! The same code runs on real sockets and in a simulated network. Only three things differ, and
//! they are passed in: how to dial and how to listen ([`seam`]), and the seed ([`rng`]). Time is
//! `tokio::time` in both, and tasks are spawned through [`task`].

pub mod admin;
mod alarm;
pub mod ask;
pub mod balance;
pub mod config;
pub mod error;
pub mod headers;
pub mod health;
pub mod limit;
pub mod listener;
pub mod policy;
pub mod pool;
pub mod probe;
pub mod replay;
pub mod retry;
pub mod rng;
pub mod route;
pub mod seam;
pub mod stack;
pub mod task;
pub mod telemetry;
pub mod upstream;

pub use config::Config;
pub use stack::Stack;
