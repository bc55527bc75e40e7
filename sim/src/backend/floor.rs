//! The shell of the station: requests that wait for it as futures, and its timers.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::sleep_until;

use super::lock;
use super::station::{QueueFull, Rules, Station};
use crate::clock::Clock;

/// A station that requests can wait for.
pub(super) struct Floor(Mutex<Inner>);

struct Inner {
    station: Station,
    /// Of those who wait for something, by their numbers.
    wakers: BTreeMap<u64, Waker>,
    /// The rules in force from the next look on. They may be changed where there is no clock.
    rules: Rules,
}

impl Inner {
    /// Looks at the station at this instant, and wakes those for whom something has changed.
    fn at<R>(&mut self, now: Duration, look: impl FnOnce(&mut Station) -> R) -> R {
        self.station.set(self.rules, now);
        let seen = look(&mut self.station);
        for number in self.station.take_changed() {
            if let Some(waker) = self.wakers.get(&number) {
                waker.wake_by_ref();
            }
        }
        seen
    }
}

impl Floor {
    pub(super) fn new(rules: Rules) -> Self {
        let (station, wakers) = (Station::new(rules), BTreeMap::new());
        Self(Mutex::new(Inner { station, wakers, rules }))
    }

    /// These rules hold from now on; whoever waits for something has to look when that is.
    pub(super) fn set(&self, rules: Rules) {
        let mut inner = lock(&self.0);
        if inner.rules != rules {
            inner.rules = rules;
            inner.wakers.values().for_each(Waker::wake_by_ref);
        }
    }

    /// True while this request waits for a worker.
    pub(super) fn is_waiting(&self, number: u64) -> bool {
        lock(&self.0).station.is_waiting(number)
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn enter(&self, number: u64, clock: Clock) -> Result<Seat<'_>, QueueFull> {
        let now = clock.elapsed();
        lock(&self.0).at(now, |station| station.arrive(number, now))?;
        Ok(Seat { floor: self, number, clock })
    }
}

/// A request at the station, which it leaves when this is dropped.
pub(super) struct Seat<'a> {
    floor: &'a Floor,
    number: u64,
    clock: Clock,
}

impl Seat<'_> {
    /// Waits for a worker; returns the instant at which it was there.
    pub(super) async fn worker(&self) -> Duration {
        self.reached().await
    }

    /// Has this much work done from the instant `from`, which was not long ago; returns the
    /// instant at which it was finished. With the last of it the worker is given away.
    pub(super) async fn work(&self, amount: Duration, from: Duration, is_last: bool) -> Duration {
        let now = self.clock.elapsed();
        lock(&self.floor.0).at(now, |station| {
            station.advance(now);
            station.work(self.number, amount, from, is_last);
        });
        self.reached().await
    }

    async fn reached(&self) -> Duration {
        let mut timer = pin!(sleep_until(self.clock.instant(Duration::ZERO)));
        std::future::poll_fn(|cx| {
            loop {
                let now = self.clock.elapsed();
                let mut inner = lock(&self.floor.0);
                let (reached, alarm) = inner.at(now, |station| {
                    station.advance(now);
                    (station.take_reached(self.number), station.alarm(self.number))
                });
                if let Some(at) = reached {
                    inner.wakers.remove(&self.number);
                    return Poll::Ready(at);
                }
                inner.wakers.insert(self.number, cx.waker().clone());
                drop(inner);
                let Some(alarm) = alarm.map(|at| self.clock.instant(at)) else {
                    return Poll::Pending;
                };
                if timer.deadline() != alarm {
                    timer.as_mut().reset(alarm);
                }
                // When the timer is over, so is the work: see again.
                std::task::ready!(timer.as_mut().poll(cx));
            }
        })
        .await
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let now = self.clock.elapsed();
        let mut inner = lock(&self.floor.0);
        inner.wakers.remove(&self.number);
        inner.at(now, |station| station.leave(self.number, now));
    }
}
