//! The catalogue of meshbench and what runs it.
//!
//! A scenario is one TOML file: services, load, what to compare, faults, and what must hold.
//!
//! # Reading order
//! [`catalog`] finds files; [`scenario`] is their language, checked. [`plan`] turns a scenario into
//! runs, one for each variant and seed; [`runner`] carries them out on all cores. [`measure`]
//! computes a metric from the client's record and the backends' logs; [`judge`] compares it with
//! what was expected, and [`conservation`] holds the books of all who saw the requests against each
//! other. [`sweep`] spreads runs over
//! many seeds and machines and keeps counts of them; [`swarm`] draws scenarios at random and makes
//! those that fail small. [`invariants`] is what every run has to pass. [`story`] tells a run. [`chronicle`] writes the run record that reports are made of. The programs' commands are
//! in [`command`].

pub mod catalog;
pub mod chronicle;
pub mod command;
pub mod conservation;
pub mod invariants;
pub mod judge;
pub mod measure;
pub mod plan;
pub mod runner;
pub mod scenario;
pub mod story;
pub mod swarm;
pub mod sweep;
pub mod theory;

pub use scenario::Scenario;
