//! Which seeds, for how long, and which part of them: what `sweep` and `swarm` have in common.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::time::Instant;

use super::interrupt::Interrupt;
use super::{Usage, say};
use crate::sweep::shard::Shard;
use crate::sweep::{Pace, Range};

#[derive(clap::Args)]
pub(super) struct Span {
    /// How many seeds
    #[arg(long, value_name = "COUNT")]
    seeds: Option<NonZeroU64>,

    /// The first seed. Left out: 1, or with --time a fresh one, which is said
    #[arg(long, value_name = "SEED")]
    base_seed: Option<u64>,

    /// Begin nothing after this long, such as 5m
    #[arg(long, value_name = "TIME", value_parser = time)]
    time: Option<Duration>,

    /// Which part of the seeds, such as 1/4. Left out: what a Slurm array, an indexed Job,
    /// GitLab, CircleCI or Buildkite says; else all
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

fn time(text: &str) -> Result<Duration, String> {
    proxy::config::fields::parse_duration(text)
}

impl Span {
    /// What is to be done, said on stderr; of `seeds` seeds if the user has not said how many or
    /// how long.
    pub(super) fn range(&self, seeds: u64) -> anyhow::Result<Range> {
        let shard = self.shard()?;
        let base_seed = match (self.base_seed, self.time) {
            (Some(seed), _) => seed,
            (None, None) => 1,
            (None, Some(_)) if !shard.is_whole() => {
                let message = "--time draws a fresh base seed, which the parts of a sweep would \
                               not share; give all of them one --base-seed";
                return Err(Usage(message.to_owned()).into());
            }
            // Short enough to be typed again.
            (None, Some(_)) => u64::from(
                SysRng.try_next_u32().context("drawing a seed from the operating system")?,
            ),
        };
        let seeds = match (self.seeds, self.time) {
            (Some(seeds), _) => Some(seeds.get()),
            (None, Some(_)) => None,
            (None, None) => Some(seeds),
        };
        if self.base_seed.is_none() && self.time.is_some() {
            say(&format!("base seed {base_seed}"));
        }
        Ok(Range { base_seed, seeds, shard })
    }

    fn shard(&self) -> anyhow::Result<Shard> {
        if let Some(shard) = self.shard {
            return Ok(shard);
        }
        let get = |name: &str| std::env::var(name).ok();
        match Shard::from_environment(get).map_err(Usage)? {
            Some(assigned) => {
                say(&format!("shard {}, by {}", assigned.shard, assigned.by));
                Ok(assigned.shard)
            }
            None => Ok(Shard::WHOLE),
        }
    }

    /// The pace at which it goes, from now.
    pub(super) fn pace<'a>(&self, interrupt: &'a Interrupt) -> Clocked<'a> {
        let until = self.time.map(|time| Instant::now() + time);
        Clocked { interrupt, until, stopped: AtomicBool::new(false) }
    }

    /// How long it may take, if that was said.
    pub(super) fn time(&self) -> Option<Duration> {
        self.time
    }
}

/// Goes on until Ctrl-C, or until its time is up or it is stopped; what is running then ends well.
pub(super) struct Clocked<'a> {
    interrupt: &'a Interrupt,
    until: Option<Instant>,
    stopped: AtomicBool,
}

impl Clocked<'_> {
    /// Nothing more may begin.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// True once it was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Pace for Clocked<'_> {
    fn may_begin(&self) -> bool {
        let in_time = self.until.is_none_or(|until| Instant::now() < until);
        in_time && self.may_go_on() && !self.is_stopped()
    }

    fn may_go_on(&self) -> bool {
        !self.interrupt.raised()
    }
}
