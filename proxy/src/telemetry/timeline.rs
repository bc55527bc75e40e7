//! What changed, and when: the events that a person would want to see on the axis of a plot.
//!
//! Counters say how often an endpoint was ejected, not that it was out while the latency rose. Few
//! enough of these happen to keep them whole, but a flapping endpoint must not fill the memory: a
//! ring keeps the latest and counts what it forgot.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use humantime::format_duration;
use serde::{Deserialize, Serialize, Serializer};

use super::books::Books;
use super::event::{CircuitState, ClusterId, EjectionReason, EndpointRef, Event, Named};
use crate::error::rounded;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimelineOptions {
    /// Moments that are kept; the oldest give way. 4096: an endpoint that is ejected for 30 s at a
    /// time makes three in that time, so this is a night of one or an hour of ten, in half a
    /// megabyte.
    pub size: NonZeroUsize,
}

impl Default for TimelineOptions {
    fn default() -> Self {
        Self { size: NonZeroUsize::MIN.saturating_add(4095) }
    }
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// When, from the sidecar's start; in seconds as JSON.
    #[serde(rename = "at_s", serialize_with = "as_seconds")]
    pub at: Duration,
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// The cluster's name, if it happened to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Arc<str>>,
    /// The endpoint's address, if it happened to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Arc<str>>,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// An endpoint was taken out.
    Ejected {
        /// What gave it away.
        reason: EjectionReason,
        /// For how long, before it is probed; in seconds as JSON.
        #[serde(rename = "lasts_s", serialize_with = "as_seconds")]
        lasts: Duration,
    },
    /// An endpoint should have been taken out; too many are.
    EjectionOverflowed {
        /// What gave it away.
        reason: EjectionReason,
    },
    /// A detector that only observes would have taken an endpoint out.
    Detected {
        /// What gave it away.
        reason: EjectionReason,
    },
    /// An endpoint failed its trial, and stays out.
    TrialFailed {
        /// For how long, before it is probed again; in seconds as JSON.
        #[serde(rename = "lasts_s", serialize_with = "as_seconds")]
        lasts: Duration,
    },
    /// An ejected endpoint got a request on trial.
    Probed,
    /// An ejected endpoint is back.
    Returned,
    /// An active check finds an endpoint healthy again.
    Healthy,
    /// An active check finds an endpoint unhealthy.
    Unhealthy,
    /// A cluster uses all endpoints, because too few are available.
    PanicBegan,
    /// It does so no more.
    PanicEnded,
    /// A circuit changed.
    CircuitChanged {
        /// To this.
        state: CircuitState,
    },
    /// A new configuration is in force.
    ConfigApplied {
        /// How many there have been, with the first.
        generation: u64,
        /// Endpoints that are new.
        added: usize,
        /// Endpoints that are gone.
        removed: usize,
    },
    /// A new configuration was wrong and is not in force.
    ConfigRefused,
}

impl What {
    /// In one word, as JSON has it.
    pub fn name(&self) -> &'static str {
        match self {
            What::Ejected { .. } => "ejected",
            What::EjectionOverflowed { .. } => "ejection_overflowed",
            What::Detected { .. } => "detected",
            What::TrialFailed { .. } => "trial_failed",
            What::Probed => "probed",
            What::Returned => "returned",
            What::Healthy => "healthy",
            What::Unhealthy => "unhealthy",
            What::PanicBegan => "panic_began",
            What::PanicEnded => "panic_ended",
            What::CircuitChanged { .. } => "circuit_changed",
            What::ConfigApplied { .. } => "config_applied",
            What::ConfigRefused => "config_refused",
        }
    }

    /// What else there is to say, in a few words.
    pub fn detail(&self) -> String {
        match self {
            What::Ejected { reason, lasts } => {
                format!("{} for {}", Named::name(*reason), format_duration(rounded(*lasts)))
            }
            What::EjectionOverflowed { reason } | What::Detected { reason } => {
                Named::name(*reason).to_owned()
            }
            What::TrialFailed { lasts } => {
                format!("out for {} more", format_duration(rounded(*lasts)))
            }
            What::CircuitChanged { state } => Named::name(*state).to_owned(),
            What::ConfigApplied { generation, added, removed } => {
                format!("number {generation}: {added} endpoints added, {removed} removed")
            }
            _ => String::new(),
        }
    }
}

/// The moments so far.
#[derive(Debug)]
pub struct Timeline {
    start: Instant,
    size: usize,
    /// A lock, because what is kept here is rare; requests pass by without it.
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    moments: VecDeque<Moment>,
    dropped: u64,
}

/// The moments that are remembered, the oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimelineSnapshot {
    /// In the order in which they were told.
    pub moments: Vec<Moment>,
    /// Earlier ones that are forgotten.
    pub dropped: u64,
}

impl Timeline {
    pub(super) fn new(start: Instant, options: TimelineOptions) -> Self {
        Self { start, size: options.size.get(), ring: Mutex::default() }
    }

    /// Keeps an event if it is one to keep.
    pub(super) fn note(&self, now: Instant, event: &Event, books: &Books) {
        let Some((place, what)) = noteworthy(event) else { return };
        let (cluster, endpoint) = match place {
            Place::Sidecar => (None, None),
            Place::Cluster(cluster) => (Some(books.cluster_name(cluster)), None),
            Place::Endpoint(at) => {
                (Some(books.cluster_name(at.cluster)), Some(books.endpoint_address(at)))
            }
        };
        let at = now.saturating_duration_since(self.start);
        let moment = Moment { at, what, cluster, endpoint };
        let mut ring = self.lock();
        if ring.moments.len() == self.size {
            ring.moments.pop_front();
            ring.dropped += 1;
        }
        ring.moments.push_back(moment);
    }

    /// What is remembered now.
    pub fn snapshot(&self) -> TimelineSnapshot {
        let ring = self.lock();
        TimelineSnapshot { moments: ring.moments.iter().cloned().collect(), dropped: ring.dropped }
    }

    /// Moments that are forgotten.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TimelineSnapshot {
    /// One JSON object a line. When some are forgotten, the first line says how many.
    ///
    /// # Errors
    /// None that a moment can cause; serde_json's, should it find one.
    pub fn json_lines(&self) -> serde_json::Result<String> {
        let mut text = String::new();
        if self.dropped > 0 {
            text += &serde_json::json!({ "event": "dropped", "count": self.dropped }).to_string();
            text.push('\n');
        }
        for moment in &self.moments {
            text += &serde_json::to_string(moment)?;
            text.push('\n');
        }
        Ok(text)
    }
}

enum Place {
    Sidecar,
    Cluster(ClusterId),
    Endpoint(EndpointRef),
}

fn noteworthy(event: &Event) -> Option<(Place, What)> {
    let (place, what) = match *event {
        Event::Ejected { at, reason, lasts } => {
            (Place::Endpoint(at), What::Ejected { reason, lasts })
        }
        Event::EjectionOverflowed { at, reason } => {
            (Place::Endpoint(at), What::EjectionOverflowed { reason })
        }
        Event::Detected { at, reason } => (Place::Endpoint(at), What::Detected { reason }),
        Event::TrialFailed { at, lasts } => (Place::Endpoint(at), What::TrialFailed { lasts }),
        Event::Probed { at } => (Place::Endpoint(at), What::Probed),
        Event::Returned { at } => (Place::Endpoint(at), What::Returned),
        Event::HealthChanged { at, healthy: true } => (Place::Endpoint(at), What::Healthy),
        Event::HealthChanged { at, healthy: false } => (Place::Endpoint(at), What::Unhealthy),
        Event::PanicChanged { cluster, panics: true } => {
            (Place::Cluster(cluster), What::PanicBegan)
        }
        Event::PanicChanged { cluster, panics: false } => {
            (Place::Cluster(cluster), What::PanicEnded)
        }
        Event::CircuitChanged { cluster, state } => {
            (Place::Cluster(cluster), What::CircuitChanged { state })
        }
        Event::ConfigApplied { generation, added, removed } => {
            (Place::Sidecar, What::ConfigApplied { generation, added, removed })
        }
        Event::ConfigRefused => (Place::Sidecar, What::ConfigRefused),
        _ => return None,
    };
    Some((place, what))
}

fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
