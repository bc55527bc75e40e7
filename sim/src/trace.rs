//! The fingerprint of a run: a hash over every event, in the order in which they happened.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3;

/// Collects events; clones add to the same trace.
#[derive(Clone, Default)]
pub struct Trace {
    shared: Arc<Mutex<Hashed>>,
}

#[derive(Default)]
struct Hashed {
    hasher: Xxh3,
    events: u64,
}

impl Trace {
    /// Adds an event, as text.
    pub fn add(&self, event: fmt::Arguments<'_>) {
        let mut hashed = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        hashed.events += 1;
        hashed.hasher.update(event.to_string().as_bytes());
        hashed.hasher.update(b"\n");
    }

    /// The hash of all events so far, and their number.
    pub fn fingerprint(&self) -> Fingerprint {
        let hashed = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Fingerprint { hash: hashed.hasher.digest128(), events: hashed.events }
    }
}

/// What two runs share exactly when they were the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// XXH3, 128 bits.
    pub hash: u128,
    /// Events in the trace.
    pub events: u64,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.hash)
    }
}
