//! One request at a backend, from its arrival to its line in the log.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tokio::runtime::Handle;

use super::floor::Seat;
use super::journal::End;
use super::{ATTEMPT_HEADER, Abandoned, Backend, INDEX_HEADER, PLACE_HEADER, Settings, lock};
use crate::call::{self, Caller};
use crate::clock::Clock;

/// Which request it is: its draws depend on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Its index in the plan, if it carries one.
    pub(crate) index: Option<u64>,
    /// Its place among the calls that are made for it; 0 for what the client asks.
    pub(crate) place: u64,
    /// Which attempt it is, from 1: what went wrong with one may go well with the next.
    pub(crate) attempt: u32,
}

impl Asked {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let number = |name| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let attempt = number(ATTEMPT_HEADER).and_then(|nth| u32::try_from(nth).ok());
        Self {
            index: number(INDEX_HEADER),
            place: number(PLACE_HEADER).unwrap_or_default(),
            attempt: attempt.unwrap_or(1).max(1),
        }
    }
}

/// A request that is here. It writes its line of the log, whatever way it ends.
pub(super) struct Visit {
    backend: Backend,
    asked: Asked,
    number: u64,
    clock: Clock,
    answered: Option<(StatusCode, Duration)>,
}

/// A request that is over but for its answer.
pub(super) struct Done {
    visit: Visit,
    status: StatusCode,
    at: Duration,
}

impl Done {
    /// Its caller is there to be answered.
    fn answer(mut self) -> StatusCode {
        self.visit.answered = Some((self.status, self.at));
        self.status
    }
}

impl Visit {
    pub(super) fn begin(backend: Backend, asked: Asked, clock: Clock) -> Self {
        let number = lock(&backend.shared.journal).begin(asked.index, clock.elapsed());
        Self { backend, asked, number, clock, answered: None }
    }

    /// Serves it for as long as its caller is there.
    pub(super) async fn attend(self, head: &Parts) -> StatusCode {
        self.serve(head).await.answer()
    }

    async fn serve(self, head: &Parts) -> Done {
        let backend = self.backend.clone();
        backend.until(|settings| !settings.holds_new()).await;
        let Ok(seat) = backend.shared.floor.enter(self.number, self.clock) else {
            let at = self.clock.elapsed();
            return Done { visit: self, status: StatusCode::SERVICE_UNAVAILABLE, at };
        };
        let began = seat.worker().await;
        let began = self.once(began, |settings| !settings.holds_new()).await;
        lock(&backend.shared.journal).started(self.number, began);
        let draw = backend.draw(self.asked, self.number, head, began);
        let (called, at) = self.work_and_call(&seat, draw.time, began, head).await;
        let at = self.once(at, |settings| !settings.hung).await;
        drop(seat);
        let status = match (called, draw.error) {
            (Err(status), _) | (Ok(()), Some(status)) => status,
            (Ok(()), None) => StatusCode::OK,
        };
        Done { visit: self, status, at }
    }

    /// The work in equal parts, with a group of calls between each two of them; and when it was
    /// over.
    async fn work_and_call(
        &self,
        seat: &Seat<'_>,
        time: Duration,
        began: Duration,
        head: &Parts,
    ) -> (Result<(), StatusCode>, Duration) {
        let identity = &self.backend.shared.identity;
        let calls = &identity.calls;
        let part = time / u32::try_from(calls.len() + 1).unwrap_or(u32::MAX);
        let mut at = seat.work(part, began, calls.is_empty()).await;
        let caller = Caller { head, asked: self.asked, seed: identity.seed };
        for (place, group) in calls.iter().enumerate() {
            self.once(at, |settings| !settings.hung).await;
            if let Err(status) = call::make_all(group, &caller, place).await {
                return (Err(status), self.clock.elapsed());
            }
            at = seat.work(part, self.clock.elapsed(), place + 1 == calls.len()).await;
        }
        (Ok(()), at)
    }

    /// `at`, or when the settings were as wanted, if they were not then.
    async fn once(&self, at: Duration, wanted: impl Fn(&Settings) -> bool) -> Duration {
        if self.backend.with(&wanted) {
            return at;
        }
        self.backend.until(wanted).await;
        self.clock.elapsed()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let (end, at) = match self.answered {
            Some((status, at)) => (End::Answered(status), at),
            None if self.backend.with(|settings| settings.up) => {
                (End::Cancelled, self.clock.elapsed())
            }
            None => (End::Crashed, self.clock.elapsed()),
        };
        lock(&self.backend.shared.journal).end(self.number, end, at);
    }
}

/// A request whose work goes on when its caller leaves, as long as the process lives.
pub(super) struct Kept {
    backend: Backend,
    number: u64,
    work: Option<Pin<Box<dyn Future<Output = Done> + Send>>>,
}

impl Kept {
    pub(super) fn new(visit: Visit, head: Parts) -> Self {
        let (backend, number) = (visit.backend.clone(), visit.number);
        let work = async move { visit.serve(&head).await };
        Self { backend, number, work: Some(Box::pin(work)) }
    }

    fn goes_on(&self) -> bool {
        let in_queue = self.backend.shared.floor.is_waiting(self.number);
        self.backend.with(|settings| {
            let serves = !in_queue || settings.abandoned == Abandoned::Serve;
            settings.up && settings.abandoned != Abandoned::Cancel && serves
        })
    }
}

impl Future for Kept {
    type Output = StatusCode;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StatusCode> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(done.answer())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        // Without a runtime the whole world is being taken down.
        let Ok(runtime) = Handle::try_current() else { return };
        if self.goes_on() {
            let mut kept = lock(&self.backend.shared.kept);
            while kept.try_join_next().is_some() {}
            // Nobody is left to answer, so it ends as one that was given up, when it is over.
            kept.spawn_on(async move { drop(work.await) }, &runtime);
        }
    }
}
